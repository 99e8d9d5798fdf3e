"""What a node says of its workers' health: who is silent, who is only busy, what the dead leave."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from protocol.messages import (
    AllTold,
    Denied,
    EndWorker,
    ExitSeen,
    Heard,
    Remains,
    Sample,
    Samples,
    Silent,
    TakeSample,
)
from tests.hosts import DEADLINE, eventually
from tests.nodes import CLIENT, Daemon, NodeRun, Worker, new_node
from tests.unit.protocol.lines_parts import Peer

FOREVER_S = 120.0
"""Longer than any test here."""

BEGUN_S = 3.0
"""By then a call has begun, on a machine that is busy too; one that is read later never does."""


@pytest.fixture
def node() -> Iterator[NodeRun]:
    """A node of this test's own, with the test as its daemon."""
    with new_node() as run:
        yield run


@dataclass
class Patient:
    """A worker and the lane by which it is called."""

    node: NodeRun
    worker: Worker
    lane: Peer = field(init=False)
    calls: int = 0

    def __post_init__(self) -> None:
        self.node.wait_loaded(self.worker)
        self.lane = self.node.lane(self.worker)

    def call(self, method: str, *arguments: object, deadline_s: float = FOREVER_S) -> None:
        """Call it, and do not wait for the answer."""
        self.calls += 1
        deadline = time.monotonic() + deadline_s
        self.lane.call(self.calls, method, *arguments, service="sleeper", deadline=deadline)

    @property
    def silence(self) -> str:
        """Say why it was said to be silent; empty if it never was."""
        said = self.node.daemon.all_of(Silent, self.worker.incarnation)
        return said[0].why if said else ""

    def wait_heard(self) -> None:
        """Wait until it is not said to be silent: a busy machine may hold up its answer."""
        said = self.node.daemon
        while len(said.all_of(Silent, self.worker.incarnation)) > self._times_heard:
            said.next_of(Heard, self.worker.incarnation)

    @property
    def _times_heard(self) -> int:
        return len(self.node.daemon.all_of(Heard, self.worker.incarnation))

    def wait_silent(self) -> str:
        """Wait until it is said to be silent."""
        return self.node.daemon.first_of(Silent, self.worker.incarnation).why


def patient(node: NodeRun, concurrency: int = 1) -> Patient:
    """Start a worker that can be stuck in many ways."""
    return Patient(node, node.spawn("sleeper", concurrency=concurrency))


class TestSilence:
    def test_hung_loops_are_told_from_busy_ones(self, node: NodeRun) -> None:
        """
        Whatever keeps the loop's own thread from turning is silence, in Python, in C code that
        holds the lock, stopped, or behind a second thread that reads the umbilical. What is inside
        a deadline, has said that it is busy, waits for the host, or is still loading is none.
        """
        loading = node.spawn("sleeper", load_s=12.0)
        hung = {how: patient(node) for how in ("sleep", "power", "expression")}
        stopped, read_by_another, deafened = patient(node), patient(node), patient(node)
        busy, leased, waits, idle = patient(node), patient(node), patient(node), patient(node)
        in_asyncio = patient(node)
        in_asyncio.call("sleep_badly", 0)
        both_wait = patient(node)
        both_wait.call("ask_in_a_thread")
        both_wait.call("soon", "wait")

        busy.call("sleep", FOREVER_S)
        leased.call("busy", FOREVER_S)
        leased.call("soon", "sleep")
        waits.call("soon", "wait")
        for how, one in hung.items():
            one.call("soon", how)
        node.kill(stopped.worker, signal.SIGSTOP)
        read_by_another.call("ask_in_a_thread")
        read_by_another.call("soon", "sleep")
        deafened.call("deafen")
        deafened.call("soon", "sleep")

        for one in (*hung.values(), stopped, read_by_another, deafened):
            assert "has not answered" in one.wait_silent()
        node.wait_loaded(loading)
        for one in (busy, leased):
            assert one.silence == ""
        for one in (waits, both_wait, idle, in_asyncio):
            one.wait_heard()
        assert not node.daemon.all_of(Silent, loading.incarnation)

        # What came of it is over: it is heard, once, and as often as it is silent.
        node.kill(stopped.worker, signal.SIGCONT)
        node.daemon.first_of(Heard, stopped.worker.incarnation)
        node.kill(stopped.worker, signal.SIGSTOP)
        node.daemon.next_of(Silent, stopped.worker.incarnation)

        # A daemon that takes over is told who is silent.
        told = {one.incarnation: one.silence for one in node.new_daemon().workers}
        assert "has not answered" in told[hung["sleep"].worker.incarnation]
        assert told[busy.worker.incarnation] == told[idle.worker.incarnation] == ""

        self.each_is_ended_with_its_stacks(node, hung)
        self.who_cannot_write_them_is_ended_all_the_same(node, stopped, deafened)

    def each_is_ended_with_its_stacks(self, node: NodeRun, hung: dict[str, Patient]) -> None:
        for one in hung.values():
            order = EndWorker(one.worker.incarnation, "hang", force=True, stacks=True)
            node.daemon.tell(order)
        for one in hung.values():
            left, exited = node.end_of(one.worker)
            assert str(exited.cause) == "SIGKILL (hang)"
            assert left is not None
            assert 'File "sleeper.py"' in left.stacks
            assert "in be_stuck" in left.stacks
            assert "INFO sleeper: loaded" in left.log
            assert left.calls == one.calls

    def who_cannot_write_them_is_ended_all_the_same(
        self, node: NodeRun, stopped: Patient, deafened: Patient
    ) -> None:
        for one in (stopped, deafened):
            order = EndWorker(one.worker.incarnation, "hang", force=True, stacks=True)
            node.daemon.tell(order)
        left, exited = node.end_of(stopped.worker)
        assert str(exited.cause) == "SIGKILL (hang)"
        assert left is not None
        assert left.stacks == ""
        assert str(node.end_of(deafened.worker)[1].cause) == "SIGUSR2 (hang)"

    def test_a_call_that_outstays_its_deadline_is_silence(self, node: NodeRun) -> None:
        """
        By its name, in a plain handler, in one of a crew while the others answer, and in a
        coroutine that does not let others have their turn; heard again when it has ended.
        """
        plain, crew, coroutine = patient(node), patient(node, concurrency=2), patient(node)
        wake = plain.worker.data_dir / "wake"
        plain.call("sleep_until", str(wake), deadline_s=BEGUN_S)
        coroutine.call("sleep_badly", FOREVER_S, deadline_s=BEGUN_S)
        helper = Patient(node, crew.worker)  # the second lane goes to the other thread
        helper.call("sleep", FOREVER_S, deadline_s=BEGUN_S)

        assert plain.wait_silent() == "sleeper.sleep_until goes on 2 s after its deadline"
        wake.touch()
        assert "sleeper.sleep_badly goes on" in coroutine.wait_silent()
        assert "sleeper.sleep goes on" in crew.wait_silent()
        node.daemon.first_of(Heard, plain.worker.incarnation)

    def test_a_crew_whose_loop_hangs_is_silent(self, node: NodeRun) -> None:
        """
        What its other threads count, or answer, is no sign of life of the loop's own.
        """
        crew = patient(node, concurrency=2)
        helper = Patient(node, crew.worker)
        crew.call("soon", "sleep")
        until = time.monotonic() + DEADLINE
        while not crew.silence:
            assert time.monotonic() < until
            helper.call("busy", 0)
            node.daemon.listen(0.2)

    def test_a_node_that_was_stopped_blames_nobody(self, node: NodeRun) -> None:
        """
        Workers that were fine when it stood still are fine afterwards.
        """
        idle, busy = patient(node), patient(node)
        # It ends before it has been overdue for long under a node that is awake.
        busy.call("sleep", 7.0, deadline_s=2.5)
        own = psutil.Process(node.process.pid)
        own.suspend()
        try:
            time.sleep(6.0)
        finally:
            own.resume()
        node.daemon.listen(1.0)
        assert (idle.silence, busy.silence) == ("", "")


class TestFigures:
    def test_descriptors_are_counted_by_the_worker(self, node: NodeRun) -> None:
        """
        It says how many it has when it is asked for a sign of life; before, nobody knows. Nothing
        is refused to it for that.
        """
        worker = node.spawn("sleeper", load_s=3.0)
        assert self.sample(node).descriptors is None  # nobody is asked while it is being loaded
        one = Patient(node, worker)
        until = time.monotonic() + DEADLINE
        while (said := self.sample(node).descriptors) is None:
            assert time.monotonic() < until
            node.daemon.listen(0.2)
        if os.geteuid() == 0:  # nobody else may look into a worker
            assert said == psutil.Process(one.worker.pid).num_fds()
        assert not [word for word in node.daemon.heard if isinstance(word, Denied)]

    def sample(self, node: NodeRun) -> Sample:
        known = sum(isinstance(message, Samples) for message in node.daemon.heard)
        node.daemon.tell(TakeSample("1"))
        while len(said := [one for one in node.daemon.heard if isinstance(one, Samples)]) == known:
            node.daemon.listen(0.05)
        (sample,) = said[-1].samples
        return sample


class TestRemains:
    def test_a_crash_leaves_what_explains_it(self, node: NodeRun) -> None:
        """
        Where every thread was, the calls that ran and whose they were, and its last words.
        """
        one = patient(node)
        one.call("crash", "last words")
        left, exited = node.end_of(one.worker)

        assert str(exited.cause) == "SIGSEGV"
        assert left is not None
        assert left.stacks.startswith("Fatal Python error: Segmentation fault\n")
        assert 'File "sleeper.py", line' in left.stacks
        assert '"/' not in left.stacks  # no path of this machine
        (flight,) = left.flights
        assert (flight.service, flight.number) == ("sleeper.crash", 1)
        assert (flight.caller, flight.caller_name) == (CLIENT, "app:test")
        assert 0 < flight.left_s < FOREVER_S
        assert left.log.endswith("last words\n")
        assert 0 < left.lived_s < FOREVER_S

    def test_who_leaves_in_order_leaves_nothing(self, node: NodeRun) -> None:
        """
        An exit with 0 that nobody had to ask for needs no explanation; any other does.
        """
        good, bad = patient(node), patient(node)
        good.call("leave", 0)
        bad.call("leave", 3)

        assert node.end_of(good.worker)[0] is None
        assert node.end_of(bad.worker)[0] is not None

    def test_what_no_daemon_has_seen_is_told_to_the_next(self, node: NodeRun) -> None:
        """
        Before the node says that all is told; and not again once the exit has been seen.
        """
        one = patient(node)
        node.daemon.leave()
        node.kill(one.worker, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(one.worker.pid))  # the node has reaped it
        details = node.new_daemon()
        (exited,) = details.exits
        assert exited.incarnation == one.worker.incarnation
        node.daemon.wait_for(lambda message: isinstance(message, AllTold))
        assert node.daemon.all_of(Remains, one.worker.incarnation)

        node.daemon.tell(ExitSeen(one.worker.incarnation))
        node.daemon.tell(TakeSample("heard"))
        node.daemon.wait_for(lambda message: isinstance(message, Samples))
        assert node.new_daemon().exits == ()
        node.daemon.wait_for(lambda message: isinstance(message, AllTold))
        assert not node.daemon.all_of(Remains, one.worker.incarnation)

    def test_a_death_while_a_daemon_takes_over_is_told(self, node: NodeRun) -> None:
        """
        Also one that no greeting could name, before the daemon has said that it takes the node on.
        """
        one = patient(node)
        node.daemon.leave()
        node.daemon = Daemon(node.run_dir)
        assert node.daemon.wait_greeted().exits == ()
        node.kill(one.worker, signal.SIGKILL)
        left, exited = node.end_of(one.worker)
        assert str(exited.cause) == "SIGKILL"
        assert left is not None
        node.welcome()
