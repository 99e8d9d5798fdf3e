from math import inf
from typing import NoReturn

import pytest

from plugin_worker import gate as gate_module
from plugin_worker.gate import gated
from protocol.errors import LimitReached, PermissionDenied, UsageError
from protocol.eventbus import Publishing
from protocol.events import PluginEvent
from protocol.limits import Limits
from protocol.permissions import EVERYONE, Permissions
from protocol.publishing import PublishReport
from protocol.runs import MAX_TYPES
from tests.clock import Clock

MINE = Permissions(publish=("EpochEnd", "Mine.*"))


class Bare:
    """The way onto the bus behind the gate."""

    def __init__(self) -> None:
        self.went: list[str] = []

    def publish(self, event: PluginEvent) -> None:
        self.went.append(event.type)

    def publish_report(self, event: PluginEvent, timeout: float) -> PublishReport:
        self.went.append(f"{event.type} {timeout:g}")
        return PublishReport(event.type)

    def make_sticky(self, event_type: str) -> None:
        self.went.append(f"sticky {event_type}")


class Denier:
    """Refuses, and writes it down."""

    def __init__(self) -> None:
        self.denied: list[tuple[str, str]] = []

    def __call__(self, permission: str, what: str) -> NoReturn:
        self.denied.append((permission, what))
        raise PermissionDenied(permission, what, "trainer")


@pytest.fixture
def bare() -> Bare:
    return Bare()


@pytest.fixture
def deny() -> Denier:
    return Denier()


def gate(
    bare: Bare, deny: Denier, permissions: Permissions = MINE, rate: float = inf
) -> Publishing:
    return gated(bare, "trainer", permissions, Limits(event_rate=rate), deny)


def event(name: str) -> PluginEvent:
    return PluginEvent.custom(name)


class TestPermission:
    def test_what_is_permitted_goes_through(self, bare: Bare, deny: Denier) -> None:
        """
        By name or by family, in every way of publishing.
        """
        way = gate(bare, deny)
        way.publish(event("Mine.a"))
        way.publish(PluginEvent.EpochEnd(1, 0.5))
        way.publish_report(event("Mine.b"), 2.0)
        way.make_sticky("Mine.c")

        assert bare.went == ["Mine.a", "EpochEnd", "Mine.b 2", "sticky Mine.c"]
        assert deny.denied == []

    def test_what_is_not_is_refused_before_it_is_sent(self, bare: Bare, deny: Denier) -> None:
        """
        Whether anybody wants it or not, each time, in every way of publishing.
        """
        way = gate(bare, deny)
        for _ in range(2):
            with pytest.raises(PermissionDenied, match="publish: Secret"):
                way.publish(event("Secret"))
        with pytest.raises(PermissionDenied):
            way.publish_report(PluginEvent.EpochStart(1), 2.0)
        with pytest.raises(PermissionDenied):
            way.make_sticky("Other")

        assert bare.went == []
        tried = ["Secret", "Secret", "EpochStart", "Other"]
        assert deny.denied == [("publish", what) for what in tried]

    def test_what_nobody_could_publish_is_no_matter_of_permission(
        self, bare: Bare, deny: Denier
    ) -> None:
        """
        A reserved type, or no type at all, is the author's mistake as ever.
        """
        way = gate(bare, deny)
        with pytest.raises(UsageError):
            way.publish(PluginEvent.PluginLoaded("x"))
        with pytest.raises(UsageError):
            way.make_sticky("*")

        assert deny.denied == []

    def test_where_all_is_permitted_there_is_no_gate(self, bare: Bare, deny: Denier) -> None:
        """
        So it costs nothing.
        """
        assert gate(bare, deny, EVERYONE) is bare

    def test_types_are_not_remembered_without_end(self, bare: Bare, deny: Denier) -> None:
        """
        Those that nobody wants are counted by nobody else.
        """
        way = gate(bare, deny)
        for number in range(MAX_TYPES + 10):
            way.publish(event(f"Mine.{number}"))

        assert len(way._known) == MAX_TYPES  # type: ignore[attr-defined]
        assert len(bare.went) == MAX_TYPES + 10


class TestRate:
    def test_events_beyond_the_rate_are_refused_by_name(
        self, bare: Bare, deny: Denier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A second's worth at once, then what trickles in; the error names the limit.
        """
        clock = Clock()
        monkeypatch.setattr(gate_module, "monotonic", clock.monotonic)
        way = gate(bare, deny, EVERYONE, rate=3.0)
        for _ in range(3):
            way.publish(event("Mine"))
        with pytest.raises(LimitReached, match=r"limit event_rate is reached: 3 events a second"):
            way.publish_report(event("Mine"), 1.0)
        assert bare.went == ["Mine"] * 3

        clock.now += 1.0
        way.publish_report(event("Mine"), 1.0)
        assert bare.went[3:] == ["Mine 1"]
