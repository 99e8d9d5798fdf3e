from dataclasses import dataclass, field

import pytest

from plugin_worker.node.leaving import DRAIN_S, TERMINATE_S, Leaving
from plugin_worker.node.workers import Workers
from protocol.messages import TO_WORKER, EndWorker, StopPlugin
from protocol.reactor import Reactor
from tests.clock import Clock, HandReactor

ALONE_S = 60.0


@dataclass
class FakeWorkers(Workers):
    """Workers that note what is said to them, and end when the test says so."""

    living: dict[int, object] = field(default_factory=lambda: {1: None, 2: None})  # type: ignore[assignment]
    said: list[tuple[int, object]] = field(default_factory=list)

    def relay(self, incarnation: int, body: bytes) -> None:
        self.said.append((incarnation, TO_WORKER.decode(body)))

    def end(self, order: EndWorker) -> None:
        self.said.append((order.incarnation, order.force))

    def end_all(self, rule: str) -> None:
        self.said += [(incarnation, rule) for incarnation in self.living]

    def heard(self) -> list[tuple[int, object]]:
        said, self.said = self.said, []
        return said


@dataclass
class Machine:
    reactor: HandReactor = field(default_factory=lambda: HandReactor(Clock()))
    workers: FakeWorkers = field(default_factory=FakeWorkers)

    def leaving(self) -> Leaving:
        assert isinstance(self.reactor, Reactor)
        return Leaving(self.reactor, self.workers, ALONE_S)


@pytest.fixture
def machine() -> Machine:
    return Machine()


class TestLeaving:
    def test_a_node_that_is_left_alone_leaves_in_order(self, machine: Machine) -> None:
        """
        Asked, told, forced, each when the time before it is over; with the last worker it ends.
        """
        leaving = machine.leaving()
        leaving.left_alone()
        machine.reactor.pass_time(ALONE_S - 1)
        assert not leaving.is_begun
        machine.reactor.pass_time(1)
        assert machine.workers.heard() == [(1, StopPlugin()), (2, StopPlugin())]
        del machine.workers.living[1]
        machine.reactor.pass_time(DRAIN_S)
        assert machine.workers.heard() == [(2, False)]
        machine.reactor.pass_time(TERMINATE_S)
        assert machine.workers.heard() == [(2, "the node stops")]
        assert not leaving.is_over
        machine.workers.living.clear()

        assert leaving.is_over
        assert machine.reactor.due == []

    def test_one_that_a_daemon_has_found_stays(self, machine: Machine) -> None:
        """
        The time begins anew whenever a daemon is lost.
        """
        leaving = machine.leaving()
        leaving.left_alone()
        machine.reactor.pass_time(ALONE_S / 2)
        leaving.left_alone()
        machine.reactor.pass_time(ALONE_S / 2)
        leaving.found()
        machine.reactor.pass_time(10 * ALONE_S)

        assert not leaving.is_begun
        assert machine.workers.heard() == []

    def test_a_daemon_that_comes_too_late_changes_nothing(self, machine: Machine) -> None:
        """
        Once plugins have been asked to stop, the node leaves whoever comes or goes.
        """
        leaving = machine.leaving()
        leaving.left_alone()
        machine.reactor.pass_time(ALONE_S)
        leaving.found()
        leaving.left_alone()
        machine.reactor.pass_time(DRAIN_S)

        assert machine.workers.heard()[2:] == [(1, False), (2, False)]

    def test_one_that_is_told_to_leaves_at_once(self, machine: Machine) -> None:
        """
        A daemon has stopped the plugins before; what is left is ended by force.
        """
        leaving = machine.leaving()
        leaving.left_alone()
        leaving.at_once()

        assert machine.workers.heard() == [(1, "the node stops"), (2, "the node stops")]
        assert machine.reactor.due == []
