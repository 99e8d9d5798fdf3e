import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from plugin_worker.node import health as health_module
from plugin_worker.node.health import DUMP_LOOKS, Health
from plugin_worker.node.oom import MemoryKills
from plugin_worker.node.watch import WEIGH_SELDOM_S, Weight
from plugin_worker.node.worker import WorkerProcess
from protocol.flight import SIZE, FlightWriter, make_page
from protocol.messages import Cause, FromNode, Heard, Ping, Pong, Silent
from tests.asides import AtOnce
from tests.clock import Clock, HandReactor

if TYPE_CHECKING:
    from plugin_worker.node.logs import Log
    from protocol.umbilical import Umbilical


LOOK_S = 0.015
"""How often it is looked whether stacks are still being written."""


class Open:
    """A log or an umbilical that nothing comes by."""

    read_fd = -1

    def close(self) -> None:
        pass


@dataclass
class Ward:
    """One worker under a node's eye, time by hand, and what was sent."""

    clock: Clock
    worker: WorkerProcess
    pings: list[int] = field(default_factory=list)
    told: list[FromNode] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reactor = HandReactor(self.clock)
        self.living = {self.worker.incarnation: self.worker}
        self.health = Health(self.reactor, self.living, self._ping, self.told.append, AtOnce())
        self.page = FlightWriter(self.worker.flight_fd)

    def _ping(self, _: WorkerProcess, ping: Ping) -> None:
        self.pings.append(ping.number)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.reactor.pass_time(0.1)


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    clock = Clock()
    monkeypatch.setattr(health_module, "time", clock)
    worker = WorkerProcess(
        incarnation=5,
        plugin_id="base",
        umbilical=cast("Umbilical", Open()),
        log=cast("Log", Open()),
        flight_fd=make_page("flight"),
        tmp=tmp_path,
        pid=os.getpid(),
        said_hello=True,
    )
    ward = Ward(clock, worker)
    monkeypatch.setattr(WorkerProcess, "signal", lambda _, number: ward.signals.append(int(number)))
    yield ward
    worker.close()


class TestWatching:
    def test_nobody_is_asked_before_it_is_loaded(self, ward: Ward) -> None:
        """
        An import may take a minute; from then on it is asked, and not answering is told.
        """
        ward.health.born(ward.worker)
        ward.pass_time(60)
        assert (ward.pings, ward.told) == ([], [])

        ward.health.loaded(ward.worker)
        ward.health.loaded(ward.worker)
        ward.pass_time(10)
        assert ward.pings == [1]
        (silent,) = ward.told
        assert isinstance(silent, Silent)

        ward.health.answered(ward.worker, Pong(1, 7))
        assert ward.told == [silent, Heard(5)]

    def test_a_pong_that_nobody_asked_for_is_harmless(self, ward: Ward) -> None:
        """
        Before there was any ping, and with a number of the worker's own making.
        """
        ward.health.answered(ward.worker, Pong(1, 7))
        ward.health.born(ward.worker)
        ward.health.loaded(ward.worker)
        ward.health.answered(ward.worker, Pong(9, 7))
        ward.pass_time(10)

        assert [type(message) for message in ward.told] == [Silent]

    def test_it_is_measured_while_it_lives(self, ward: Ward) -> None:
        """
        With its threads and its memory; the timer rests when nobody is left, and begins again.
        """
        ward.health.born(ward.worker)
        ward.pass_time(30)
        assert ward.worker.vitals is not None
        assert ward.worker.vitals.since(ward.clock.now)[0].memory > 0

        ward.living.clear()
        ward.pass_time(70)
        assert ward.reactor.due == []
        ward.living[5] = ward.worker
        ward.health.born(ward.worker)
        assert ward.reactor.due

    def test_births_put_nothing_off(self, ward: Ward) -> None:
        """
        Where one plugin crashes and comes back for ever, the others are asked no less.
        """
        ward.health.born(ward.worker)
        ward.health.loaded(ward.worker)
        for _ in range(100):
            ward.health.born(ward.worker)
            ward.reactor.pass_time(0.1)
        assert ward.pings == [1]

    def test_one_whose_umbilical_is_closed_is_not_asked(self, ward: Ward) -> None:
        """
        It is ending; and it keeps the node from nothing.
        """
        ward.health.born(ward.worker)
        ward.health.loaded(ward.worker)
        ward.worker.is_open = False
        ward.pass_time(20)
        assert (ward.pings, ward.told) == ([], [])


class TestWeighing:
    def test_one_that_has_died_meanwhile_leaves_nothing_to_plan(
        self, ward: Ward, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It was the last one: what its folders weigh is of no use to anybody.
        """

        def weigh(*_: object) -> Weight:
            ward.living.clear()
            return Weight()

        monkeypatch.setattr(health_module, "weigh", weigh)
        ward.health.born(ward.worker)
        ward.pass_time(5)
        assert (ward.living, ward.reactor.due) == ({}, [])

    def test_what_could_not_be_weighed_is_weighed_again(
        self, ward: Ward, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Else the disk would have no limit from then on.
        """
        tries: list[float] = []

        def weigh(*_: object) -> Weight:
            tries.append(ward.clock.now)
            raise OSError("too many open files")

        monkeypatch.setattr(health_module, "weigh", weigh)
        ward.health.born(ward.worker)
        ward.pass_time(3 * WEIGH_SELDOM_S)
        assert len(tries) > 1


class TestStacks:
    def wait_for_stacks(self, ward: Ward) -> list[str]:
        gone_on: list[str] = []
        ward.health.write_stacks(ward.worker, lambda: gone_on.append("then"))
        return gone_on

    def test_they_are_waited_for_until_no_more_is_written(self, ward: Ward) -> None:
        """
        An end in the middle of them would leave half.
        """
        os.pwrite(ward.worker.flight_fd, b"an earlier crash", SIZE)
        gone_on = self.wait_for_stacks(ward)
        assert ward.signals == [signal.SIGUSR2]
        for size in (20, 30, 40):
            os.pwrite(ward.worker.flight_fd, b"x" * size, SIZE)
            ward.reactor.pass_time(LOOK_S)
            assert gone_on == []
        ward.reactor.pass_time(LOOK_S)
        assert gone_on == ["then"]

    def test_they_are_not_waited_for_for_long(self, ward: Ward) -> None:
        """
        A worker that writes nothing is ended all the same; asked again, at once.
        """
        gone_on = self.wait_for_stacks(ward)
        while not gone_on:
            assert ward.clock.now < 1000 + DUMP_LOOKS * LOOK_S + 0.1
            ward.reactor.pass_time(0.01)
        assert self.wait_for_stacks(ward) == ["then"]
        assert ward.signals == [signal.SIGUSR2]

    def test_who_stood_still_has_its_time_behind_that(self, ward: Ward) -> None:
        """
        A node that was held was not alone: the machine was, and the worker had no time either.
        """
        gone_on = self.wait_for_stacks(ward)
        ward.clock.now += 10.0
        ward.reactor.pass_time(LOOK_S)
        os.pwrite(ward.worker.flight_fd, b"stacks", SIZE)
        ward.reactor.pass_time(LOOK_S)
        assert gone_on == []
        ward.reactor.pass_time(LOOK_S)
        assert gone_on == ["then"]

    def test_who_cannot_write_them_is_not_asked(
        self, ward: Ward, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The signal would kill who has not said hello, and wait for ever in one that is stopped.
        """
        ward.worker.said_hello = False
        assert self.wait_for_stacks(ward) == ["then"]
        ward.worker.said_hello = True
        monkeypatch.setattr(health_module, "is_stopped", lambda _: True)
        assert self.wait_for_stacks(ward) == ["then"]
        assert ward.signals == []

    def test_one_that_dies_meanwhile_is_left_alone(self, ward: Ward) -> None:
        """
        Its descriptors are closed by then.
        """
        gone_on = self.wait_for_stacks(ward)
        os.close(ward.worker.flight_fd)
        ward.worker.flight_fd = -1
        ward.reactor.pass_time(1.0)
        assert gone_on == []


class TestMemory:
    @pytest.mark.parametrize(
        ("cause", "rule"),
        [
            (Cause(kind="signal", code=9), "out of memory"),
            (Cause(kind="signal", code=9, rule="hang"), "hang"),
            (Cause(kind="signal", code=11), ""),
            (Cause(kind="exit", code=1), ""),
        ],
    )
    def test_a_kill_while_memory_ran_out_is_explained(
        self, ward: Ward, tmp_path: Path, cause: Cause, rule: str
    ) -> None:
        """
        Only one that nobody asked for; what ends in another way has a cause of its own.
        """
        counts = tmp_path / "vmstat"
        counts.write_text("oom_kill 1\n")
        ward.health._memory = MemoryKills((counts,), ward.clock.now)
        assert ward.health.explain(cause) == cause

        counts.write_text("oom_kill 2\n")
        assert ward.health.explain(cause).rule == rule
