import gc
from collections.abc import Iterator

import pytest

from plugin_worker import denials as denials_module
from plugin_worker.denials import Denials
from protocol.messages import FROM_ENDPOINT, FromEndpoint, WasDenied
from protocol.tally import EVERY_S
from tests.clock import Clock
from tests.unit.plugin_worker.test_desk import Node


class Told:
    """A plugin's denials, and what its node hears of them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.node = Node()
        self.denials = Denials(self.node.desk)

    def heard(self) -> list[FromEndpoint]:
        found = []
        while (message := self.node.umbilical.receive()) is not None:
            found.append(FROM_ENDPOINT.decode(message[1]))
        return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    clock = Clock()
    monkeypatch.setattr(denials_module, "time", clock)
    told = Told(clock)
    yield told
    told.node.umbilical.close()
    told.node.lower.close()


class TestDenials:
    def test_the_node_hears_at_once(self, told: Told) -> None:
        """
        Of the first of each kind.
        """
        told.denials.note("read", "/etc/shadow")

        assert told.heard() == [WasDenied("read", "/etc/shadow", 1)]

    def test_a_flood_is_a_few_messages(self, told: Told) -> None:
        """
        What is tried again and again is told as a count, with the next refusal after ten seconds.
        """
        for _ in range(10_000):
            told.denials.note("read", "/etc/shadow")
        assert len(told.heard()) == 1

        told.clock.now += EVERY_S
        told.denials.note("gpu", "/dev/nvidia0")
        assert told.heard() == [
            WasDenied("read", "/etc/shadow", 9_999),
            WasDenied("gpu", "/dev/nvidia0", 1),
        ]

    def test_one_that_comes_in_the_middle_of_another_is_told_too(self, told: Told) -> None:
        """
        A finalizer may be refused something in the very thread that is counting.
        """

        class Dropped:
            def __del__(self) -> None:
                told.denials.note("write", "/")

        counted = told.denials._tally.note

        def note(*arguments: object) -> object:
            cycle = [Dropped()]
            cycle.append(cycle)  # type: ignore[arg-type]
            del cycle
            gc.collect()
            told.denials._tally.note = counted  # type: ignore[method-assign]
            return counted(*arguments)  # type: ignore[arg-type]

        told.denials._tally = type("Tally", (), {"expire": told.denials._tally.expire})()
        told.denials._tally.note = note  # type: ignore[method-assign, assignment]
        told.denials.note("read", "/a")

        assert told.heard() == [WasDenied("read", "/a", 1), WasDenied("write", "/", 1)]

    def test_a_node_that_is_gone_is_no_error(self, told: Told) -> None:
        """
        The plugin has an error of its own to hear of.
        """
        told.node.umbilical.close()

        told.denials.note("read", "/a")
