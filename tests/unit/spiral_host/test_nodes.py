import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protocol.process import start_time_of
from spiral_host import nodes
from spiral_host.config import DaemonConfig
from spiral_host.nodes import (
    MAX_FAILURES,
    RETURN_S,
    START_S,
    NodeKeeper,
    NodeProcess,
    find,
    last_words,
)
from tests.clock import Clock, HandReactor


@dataclass(slots=True)
class FakeProcess(NodeProcess):
    """A node that ends when the test says so."""

    kills: int = 0
    begun: int = 0

    def kill(self) -> None:
        self.kills += 1

    def begin(self) -> None:
        self.begun += 1


@dataclass
class Machine:
    """The nodes of one machine, and what their keeper says of them.

    Attributes:
        living: Processes that an earlier daemon has started, by pid.
    """

    config: DaemonConfig
    reactor: HandReactor
    living: dict[int, FakeProcess] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)
    remembered: list[tuple[str, int, int]] = field(default_factory=list)
    written: list[Callable[[], None]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    hopeless: int = 0

    def keeper(self) -> NodeKeeper:
        return NodeKeeper(
            self.config,
            self.reactor,
            self._remember,
            self.gone.append,
            self._give_up,
        )

    def _remember(self, name: str, pid: int, start: int, then: Callable[[], None]) -> None:
        self.remembered.append((name, pid, start))
        self.written.append(then)

    def _give_up(self) -> None:
        self.hopeless += 1

    def start(self, config: DaemonConfig, name: str) -> FakeProcess:
        assert config is self.config
        self.started.append(name)
        self.processes.append(FakeProcess(1000 + len(self.started), os.dup(0)))
        return self.processes[-1]

    def find(self, pid: int, start_time: int) -> FakeProcess | None:
        return self.living.get(pid)

    def let_live(self, pid: int) -> FakeProcess:
        """A node that an earlier daemon has started lives."""
        self.living[pid] = FakeProcess(pid, os.dup(0))
        return self.living[pid]

    def end(self, process: FakeProcess | None = None) -> None:
        """The node, or the one that was started last, ends."""
        self.reactor.watched[(process or self.processes[-1]).pidfd]()


@pytest.fixture
def machine(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(DaemonConfig(run_dir=tmp_path), HandReactor(clock))
    monkeypatch.setattr(nodes, "start", machine.start)
    monkeypatch.setattr(nodes, "find", machine.find)
    monkeypatch.setattr(nodes, "start_time_of", lambda pid: pid * 10)
    yield machine
    for process in (*machine.living.values(), *machine.processes):
        with suppress(OSError):  # its end has closed it
            os.close(process.pidfd)


class TestStart:
    def test_the_first_daemon_starts_one_and_remembers_it(self, machine: Machine) -> None:
        """
        Its name is new; the next daemon will find it by pid and start time.
        """
        keeper = machine.keeper()
        keeper.find_or_start(None)

        assert keeper.is_alive
        assert machine.remembered == [(machine.started[0], 1001, 10010)]

    def test_it_begins_once_it_is_written_down(self, machine: Machine) -> None:
        """
        A daemon that dies between the two leaves no node that the next one cannot find.
        """
        machine.keeper().find_or_start(None)
        assert machine.processes[0].begun == 0

        machine.written[0]()

        assert machine.processes[0].begun == 1

    def test_one_that_does_not_greet_is_killed(self, machine: Machine) -> None:
        """
        A node that hangs while it starts is ended in its time, and not before.
        """
        machine.keeper().find_or_start(None)
        machine.reactor.pass_time(START_S - 1)
        assert machine.processes[0].kills == 0

        machine.reactor.pass_time(1)

        assert machine.processes[0].kills == 1

    def test_one_that_has_greeted_is_left_alone(self, machine: Machine) -> None:
        """
        Nothing is due any more.
        """
        keeper = machine.keeper()
        keeper.find_or_start(None)
        keeper.arrived(machine.started[0], 1001)

        assert machine.reactor.due == []


class TestTakeOver:
    def test_a_living_node_is_kept(self, machine: Machine) -> None:
        """
        No second one is started beside it.
        """
        machine.let_live(77)
        keeper = machine.keeper()
        keeper.find_or_start(("node:last", 77, 5))
        keeper.arrived("node:last", 77)

        assert keeper.is_alive
        assert (machine.started, machine.gone) == ([], [])

    def test_one_that_does_not_come_back_is_killed(self, machine: Machine) -> None:
        """
        The daemon waits a while for it, then starts another when it has ended.
        """
        process = machine.let_live(77)
        machine.keeper().find_or_start(("node:last", 77, 5))
        machine.reactor.pass_time(RETURN_S - 1)
        assert process.kills == 0

        machine.reactor.pass_time(1)
        assert process.kills == 1

        machine.end(process)
        machine.reactor.pass_time(0)

        assert machine.gone == ["node:last"]
        assert len(machine.started) == 1

    def test_one_that_is_gone_is_mourned_first(self, machine: Machine) -> None:
        """
        Whoever has to know of its end hears of it before another one is there.
        """
        machine.keeper().find_or_start(("node:last", 77, 5))

        assert machine.gone == ["node:last"]
        assert len(machine.started) == 1


class TestLostStore:
    def test_a_node_that_greets_is_taken_over(self, machine: Machine) -> None:
        """
        It is remembered, watched, and no other is started.
        """
        process = machine.let_live(77)
        keeper = machine.keeper()
        keeper.find_or_start(None, is_lost=True)
        keeper.arrived("node:last", 77)
        machine.reactor.pass_time(RETURN_S)
        assert machine.remembered == [("node:last", 77, 770)]
        assert machine.started == []

        machine.end(process)

        assert machine.gone == ["node:last"]

    def test_when_none_greets_one_is_started(self, machine: Machine) -> None:
        """
        After the time that a living one would have needed.
        """
        machine.keeper().find_or_start(None, is_lost=True)
        assert machine.started == []

        machine.reactor.pass_time(RETURN_S)

        assert len(machine.started) == 1

    def test_one_that_ends_as_it_greets_is_replaced(self, machine: Machine) -> None:
        """
        The daemon is never left without a node.
        """
        keeper = machine.keeper()
        keeper.find_or_start(None, is_lost=True)
        keeper.arrived("node:last", 77)

        assert len(machine.started) == 1


class TestEnd:
    def test_another_one_is_started(self, machine: Machine) -> None:
        """
        Under a new name, after the end of the old one was told.
        """
        machine.keeper().find_or_start(None)
        machine.end()
        machine.reactor.pass_time(0)

        assert machine.gone == machine.started[:1]
        assert len(set(machine.started)) == 2

    def test_each_failure_waits_longer_until_it_is_hopeless(
        self, machine: Machine, clock: Clock
    ) -> None:
        """
        Nodes that end as soon as they start are not started for ever.
        """
        machine.keeper().find_or_start(None)
        waits = []
        for _ in range(MAX_FAILURES):
            machine.end()
            (due,) = machine.reactor.due
            waits.append(due - clock.now)
            machine.reactor.pass_time(waits[-1])
        assert waits == sorted(waits)
        assert machine.hopeless == 0

        machine.end()

        assert machine.hopeless == 1

    def test_a_greeting_forgives(self, machine: Machine) -> None:
        """
        Only nodes that never greeted count, one after the other.
        """
        keeper = machine.keeper()
        keeper.find_or_start(None)
        for _ in range(3 * MAX_FAILURES):
            keeper.arrived(machine.started[-1], machine.processes[-1].pid)
            machine.end()
            machine.reactor.pass_time(0)

        assert machine.hopeless == 0

    def test_one_that_is_not_wanted_any_more_is_the_last(self, machine: Machine) -> None:
        """
        A daemon that stops starts nothing.
        """
        keeper = machine.keeper()
        keeper.find_or_start(None)
        keeper.is_wanted = False
        machine.end()

        assert machine.reactor.due == []
        assert not keeper.is_alive


class TestGate:
    def test_word_to_a_dead_node_harms_nobody(self) -> None:
        """
        The row may be on disk after the node's end.
        """
        theirs, gate = os.pipe()
        os.close(theirs)
        process = NodeProcess(os.getpid(), -1, gate)

        process.begin()
        process.begin()

        assert process.gate == -1


class TestProcess:
    def test_start_times_tell_processes_apart(self) -> None:
        """
        This process has one, and what is gone has none.
        """
        assert start_time_of(os.getpid()) > 0
        assert start_time_of(2**22 + 1) == 0

    def test_a_process_is_found_by_pid_and_start_time(self) -> None:
        """
        A pid that is another's by now is not mistaken for the node's.
        """
        mine = find(os.getpid(), start_time_of(os.getpid()))
        assert mine is not None
        os.close(mine.pidfd)

        assert find(os.getpid(), 1) is None
        assert find(2**22 + 1, 1) is None


class TestLastWords:
    def test_the_last_line_that_says_something(self, tmp_path: Path) -> None:
        """
        A node that ends at once has said why in its own log.
        """
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "node.log").write_bytes(b"one\nModuleNotFoundError: \xff\n\n  \n")

        assert last_words(tmp_path) == "ModuleNotFoundError: \ufffd"

    def test_silence(self, tmp_path: Path) -> None:
        """
        No log is no error.
        """
        assert last_words(tmp_path) == ""
