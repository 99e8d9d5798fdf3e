import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from plugin_worker.node import worker as worker_module
from plugin_worker.node.logs import Log
from plugin_worker.node.pulse import Pulse
from plugin_worker.node.worker import MAX_FACT_BYTES, MAX_FACTS, WorkerProcess
from protocol.errors import RemoteProtocolError
from protocol.flight import LIMIT, SIZE, FlightPage
from protocol.limits import Limits
from protocol.messages import FROM_NODE, Cause, Permitted, Relay
from protocol.packets import Kind
from protocol.permissions import Permissions
from tests.clock import Clock

if TYPE_CHECKING:
    from protocol.umbilical import Umbilical


@dataclass
class FakeUmbilical:
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker that has no process."""
    flight = os.memfd_create("flight")
    os.truncate(flight, SIZE)
    worker = WorkerProcess(
        incarnation=5,
        plugin_id="base",
        umbilical=cast("Umbilical", FakeUmbilical()),
        log=Log(tmp_path / "base.log"),
        flight_fd=flight,
        tmp=tmp_path,
    )
    yield worker
    if worker.flight_fd >= 0:
        worker.close()


def fact(key: bytes, frame: bytes = b"frame") -> bytes:
    return bytes([len(key)]) + key + frame


class TestFacts:
    def test_a_fact_is_passed_on_and_kept(self, worker: WorkerProcess) -> None:
        """
        A daemon that comes later is told the same frame.
        """
        assert worker.keep(fact(b"loaded", b"F")) == b"F"
        assert list(worker.facts.values()) == [b"F"]

    def test_the_newest_word_on_a_key_counts(self, worker: WorkerProcess) -> None:
        """
        A fact replaces the one before it.
        """
        worker.keep(fact(b"offer math", b"old"))
        worker.keep(fact(b"offer math", b"new"))

        assert list(worker.facts.values()) == [b"new"]

    def test_a_fact_can_be_taken_back(self, worker: WorkerProcess) -> None:
        """
        The frame that says so is passed on, and later daemons hear of neither.
        """
        worker.keep(fact(b"offer math"))

        assert worker.keep(fact(b"-offer math", b"gone")) == b"gone"
        assert worker.keep(fact(b"-never there", b"gone")) == b"gone"
        assert worker.facts == {}

    @pytest.mark.parametrize("body", [b"", b"\x01", b"\xffabc"])
    def test_what_is_no_fact_is_refused(self, worker: WorkerProcess, body: bytes) -> None:
        """
        A key that is longer than its packet is a lie.
        """
        with pytest.raises(RemoteProtocolError, match="a fact without a key"):
            worker.keep(body)

    def test_there_is_a_number_that_is_too_many(self, worker: WorkerProcess) -> None:
        """
        A worker cannot fill its node's memory with facts.
        """
        for number in range(MAX_FACTS):
            worker.keep(fact(str(number).encode()))

        with pytest.raises(RemoteProtocolError, match="too many facts"):
            worker.keep(fact(b"one more"))

    def test_there_is_a_size_that_is_too_much(self, worker: WorkerProcess) -> None:
        """
        Nor with few large ones.
        """
        worker.keep(fact(b"a", b"x" * MAX_FACT_BYTES))
        for frame in worker.facts.values():  # a daemon that comes later is told it
            assert FROM_NODE.encode(Relay(2**63, frame))

        with pytest.raises(RemoteProtocolError, match="too many facts"):
            worker.keep(fact(b"b", b"x"))


class TestReport:
    def test_it_says_who_it_is_and_how_it_is_confined(self, worker: WorkerProcess) -> None:
        """
        Everything that a daemon needs to take it over.
        """
        worker.pid, worker.start_time = 41, 42
        worker.confined, worker.layers = True, ("landlock",)

        report = worker.report()

        assert (report.incarnation, report.plugin_id, report.pid, report.start_time) == (
            5,
            "base",
            41,
            42,
        )
        assert (report.confined, report.layers) == (True, ("landlock",))


class TestCause:
    def reaped(
        self,
        worker: WorkerProcess,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        status: int,
    ) -> Cause:
        result = os.waitid_result((worker.pid, 0, signal.SIGCHLD, status, code))
        monkeypatch.setattr(os, "waitid", lambda *_: result)
        return worker.reap()

    def test_an_exit_is_its_status(
        self, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        No rule explains a worker that left by itself.
        """
        worker.kill("start timeout")

        assert self.reaped(worker, monkeypatch, os.CLD_EXITED, 3) == Cause(kind="exit", code=3)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_rule_explains_the_signal_that_it_sends(
        self, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """
        The first rule that asked for the end is the cause.
        """
        worker.kill("start timeout")
        worker.kill("the node stops")

        cause = self.reaped(worker, monkeypatch, os.CLD_KILLED, number)
        assert cause == Cause(kind="signal", code=number, rule="start timeout")

    def test_it_explains_the_one_that_asks_for_stacks(
        self, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A plugin that throws the handler out ends by that signal, if it was sent.
        """
        worker.rule = "hang"
        cause = self.reaped(worker, monkeypatch, os.CLD_KILLED, signal.SIGUSR2)
        assert cause.rule == ""

        worker.has_dumped = True
        cause = self.reaped(worker, monkeypatch, os.CLD_KILLED, signal.SIGUSR2)
        assert cause.rule == "hang"

    def test_it_explains_no_other_signal(
        self, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A segmentation fault that comes before our SIGKILL is still one.
        """
        worker.kill("start timeout")

        cause = self.reaped(worker, monkeypatch, os.CLD_DUMPED, signal.SIGSEGV)
        assert cause == Cause(kind="signal", code=signal.SIGSEGV)

    def test_a_child_that_is_not_ours_is_unknown(
        self, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Somebody else took its status; nothing is made up.
        """

        def refuse(*_: object) -> None:
            raise ChildProcessError

        monkeypatch.setattr(os, "waitid", refuse)

        assert worker.reap() == Cause(kind="unknown")


class TestIsEnding:
    def test_before_there_is_a_process_nothing_ends(self, worker: WorkerProcess) -> None:
        """
        Nobody knows its number yet.
        """
        assert not worker.is_ending()

    def test_one_that_ends_by_itself(self, worker: WorkerProcess) -> None:
        """
        It is seen in the process, whether or not it has been reaped.
        """
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        worker.pid, worker.pidfd = child.pid, os.pidfd_open(child.pid)
        try:
            assert not worker.is_ending()
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert worker.is_ending()
        finally:
            child.communicate()
        assert worker.is_ending()

    def test_one_whose_number_is_another_s(self, worker: WorkerProcess) -> None:
        """
        Its own descriptor knows better than a number that lives on.
        """
        child = subprocess.Popen([sys.executable, "-c", ""])
        worker.pid, worker.pidfd = os.getpid(), os.pidfd_open(child.pid)
        child.wait()

        assert worker.is_ending()

    def test_one_that_is_being_ended(self, worker: WorkerProcess) -> None:
        """
        By a rule, or because nobody can hear it any more.
        """
        worker.pid, worker.pidfd = os.getpid(), os.pidfd_open(os.getpid())
        assert not worker.is_ending()
        worker.rule = "stop"
        assert worker.is_ending()
        worker.rule, worker.is_open = "", False
        assert worker.is_ending()


class TestSample:
    def test_what_it_counts_stands_in_its_figures(self, worker: WorkerProcess) -> None:
        """
        Measured by us, counted by it.
        """
        worker.pid = os.getpid()
        os.pwrite(worker.flight_fd, struct.pack("=QQ", 7, 2), 0)

        sample = worker.sample(3, 4)

        assert sample is not None
        assert (sample.incarnation, sample.calls, sample.errors) == (5, 7, 2)
        assert (sample.lag, sample.missed) == (3, 4)
        assert sample.memory > 0
        assert sample.descriptors is None

    def test_its_descriptors_are_its_last_word(self, worker: WorkerProcess) -> None:
        """
        From the answer to the last ping.
        """
        worker.pid = os.getpid()
        worker.pulse = Pulse(alone=True, now=0.0)
        assert worker.pulse.look(FlightPage(calls=0, errors=0), 60.0).ping == 1
        worker.pulse.answered(1, 9, 62.0)
        sample = worker.sample(0, 0)

        assert sample is not None
        assert sample.descriptors == 9

    def test_it_says_how_many_events_it_has_run(self, worker: WorkerProcess) -> None:
        """
        By its own word, within limits; nothing once its page has been let go.
        """
        os.pwrite(worker.flight_fd, struct.pack("=QQQ", 7, 2, 9), 0)
        assert worker.events_ran() == 9
        os.pwrite(worker.flight_fd, struct.pack("=QQQ", 7, 2, 2**64 - 1), 0)
        assert worker.events_ran() == LIMIT
        worker.close()

        assert worker.events_ran() == 0

    def test_one_that_is_gone_has_none(self, worker: WorkerProcess) -> None:
        """
        A worker may leave while it is measured.
        """
        worker.pid = 2**22 + 1

        assert worker.sample(0, 0) is None


class TestClose:
    def test_every_descriptor_is_let_go(self, worker: WorkerProcess) -> None:
        """
        A machine that starts workers for years runs out of none.
        """
        held = (worker.flight_fd, worker.log.read_fd, worker.log.write_fd)
        worker.close()

        assert cast("FakeUmbilical", worker.umbilical).closed
        for fd in held:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)

    def test_nobody_is_signalled_before_there_is_a_process(self, worker: WorkerProcess) -> None:
        """
        A worker that was never started cannot be killed, and nobody else is in its place.
        """
        worker.signal(signal.SIGKILL)

        assert worker.rule == ""


class TestPace:
    @pytest.fixture
    def paced(self, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> WorkerProcess:
        """A worker that may publish 10 events a second."""
        monkeypatch.setattr(worker_module, "time", Clock())
        worker.limits = Limits(event_rate=10.0)
        worker.__post_init__()
        return worker

    def test_twice_the_rate_is_heard(self, paced: WorkerProcess) -> None:
        """
        Then it is read no more until its debt is paid: its own sends wait.
        """
        assert paced.wait_s(Kind.EVENTS, 100, 20) == 0.0
        assert paced.wait_s(Kind.EVENTS, 100, 10) == pytest.approx(0.5)

    def test_events_and_other_words_are_counted_apart(self, paced: WorkerProcess) -> None:
        """
        A call of the host for its name is not what an event rate is for.
        """
        assert not any(paced.wait_s(Kind.NODE, 0, 0) for _ in range(100))

    def test_without_a_limit_nothing_is_counted(self, worker: WorkerProcess) -> None:
        """
        Events have bounds of their own.
        """
        assert worker.pace is None
        assert not any(worker.wait_s(Kind.EVENTS, 1 << 20, 2048) for _ in range(1000))


class TestPermitted:
    def test_a_daemon_is_told_all_that_it_was_started_with(self, worker: WorkerProcess) -> None:
        """
        Files and ports, too: what the kernel lets it do nobody else could say.
        """
        worker.permissions = Permissions(read=("/srv",), network=(443,), services=("math",))

        told = {"read": ["/srv"], "network": [443], "services": ["math"]}
        assert worker.permitted() == Permitted(5, told)
