import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugin_worker.node.logs import LAST_BYTES, Log
from plugin_worker.node.remains import (
    MAX_KEPT,
    MAX_KEPT_BYTES,
    KeptRemains,
    gather,
    leaves_remains,
    without_paths,
)
from plugin_worker.node.vitals import KEPT, Measured, Vitals
from plugin_worker.node.worker import WorkerProcess
from protocol.codec import MAX_MESSAGE
from protocol.flight import SIZE, SLOTS, STACKS, FlightWriter, label_of, make_page
from protocol.messages import FROM_NODE, Cause, Flight, Remains

if TYPE_CHECKING:
    from protocol.umbilical import Umbilical

LIB = Path("/run/lib")


class FakeUmbilical:
    def close(self) -> None:
        pass


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker that has no process any more, but still has its descriptors."""
    worker = WorkerProcess(
        incarnation=5,
        plugin_id="base",
        umbilical=cast("Umbilical", FakeUmbilical()),
        log=Log(tmp_path / "base.log"),
        flight_fd=make_page("flight"),
        tmp=tmp_path,
        root="/plugins/base",
        born=100.0,
    )
    worker.vitals = Vitals(0, 100.0)
    yield worker
    worker.close()


def remains(incarnation: int, log: str = "") -> Remains:
    return Remains(
        incarnation=incarnation,
        plugin_id="base",
        lived_s=1.0,
        stacks="",
        log=log,
        calls=0,
        errors=0,
        flights=(),
        events=(),
        vitals=(),
    )


class TestWhen:
    @pytest.mark.parametrize(
        ("cause", "rule", "expected"),
        [
            (Cause(kind="exit", code=0), "", False),
            (Cause(kind="exit", code=0), "stop", True),
            (Cause(kind="exit", code=3), "", True),
            (Cause(kind="signal", code=9), "", True),
            (Cause(kind="unknown"), "", True),
        ],
    )
    def test_only_a_quiet_end_needs_no_explanation(
        self, worker: WorkerProcess, cause: Cause, rule: str, *, expected: bool
    ) -> None:
        """
        An exit with 0 that no rule of the host's has asked for.
        """
        worker.rule = rule
        assert leaves_remains(worker, cause) is expected


class TestGather:
    def test_everything_that_is_known_of_it(self, worker: WorkerProcess) -> None:
        """
        Its calls with their callers' names, its last lines, its events and its figures.
        """
        writer = FlightWriter(worker.flight_fd)
        writer.failed()
        writer.leave(writer.enter(7, 1, 1.0, b""))
        writer.enter(7, 12, 110.5, label_of("math.add"))
        os.lseek(worker.flight_fd, SIZE, os.SEEK_SET)
        os.write(worker.flight_fd, b'  File "/plugins/base/base.py", line 3 in add\n')
        os.write(worker.log.write_fd, b"one\ntwo\n")
        worker.log.drain(0.0)
        assert worker.vitals is not None
        worker.vitals.take(Measured(memory=9, cpu_s=1.5, threads=2), 105.0)

        left = gather(worker, ["Epoch trainer 1-4"], {7: "app"}, LIB, 108.0)
        assert left.flights == (
            Flight(service="math.add", number=12, caller=7, caller_name="app", left_s=2.5),
        )
        assert left.stacks == '  File "base.py", line 3 in add\n'
        assert (left.log, left.events) == ("one\ntwo\n", ("Epoch trainer 1-4",))
        assert (left.calls, left.errors, left.lived_s) == (0, 1, 8.0)
        assert [(vital.ago_s, vital.memory) for vital in left.vitals] == [(3.0, 9)]

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        max_examples=30,
    )
    @given(page=st.binary(min_size=64, max_size=SIZE), byte=st.sampled_from(b'\xff\x01a/\n"'))
    def test_the_worst_fits_in_a_message(
        self, worker: WorkerProcess, page: bytes, byte: int
    ) -> None:
        """
        Whatever a worker has written there: its exit is never lost with it.
        """
        os.pwrite(worker.flight_fd, page.ljust(SIZE, b"\xff"), 0)
        os.pwrite(worker.flight_fd, bytes([byte]) * STACKS, SIZE)
        worker.log._write(bytes([byte]) * 2 * LAST_BYTES)
        assert worker.vitals is not None
        for turn in range(2 * KEPT):
            worker.vitals.take(Measured(memory=1 << 60, cpu_s=1e9, threads=1 << 20), turn)

        events = ["\U0001f600" * 300] * 20
        left = gather(worker, events, {1: "x" * 100}, LIB, 108.0)
        assert len(left.flights) <= SLOTS
        assert len(FROM_NODE.encode(left)) < MAX_MESSAGE

    @pytest.mark.parametrize(
        ("path", "shown"),
        [
            ("/plugins/base/sub/part.py", "sub/part.py"),
            ("/run/lib/protocol/reactor.py", "protocol/reactor.py"),
            ("/home/ada/.venv/lib/python3.11/site-packages/numpy/linalg.py", "numpy/linalg.py"),
            (os.__file__, "os.py"),
            ("/home/ada/secret/thing.py", "thing.py"),
            ("<string>", "<string>"),
        ],
    )
    def test_paths_of_this_machine_are_dropped(self, path: str, shown: str) -> None:
        """
        A file is named as its author knows it.
        """
        stacks = f'Thread 0x1:\n  File "{path}", line 3 in add\n'
        expected = f'Thread 0x1:\n  File "{shown}", line 3 in add\n'
        assert without_paths(stacks, ("/plugins/base", "/run/lib")) == expected


class TestKept:
    def test_what_was_seen_is_forgotten(self) -> None:
        """
        The rest is told to the next daemon, oldest first.
        """
        kept = KeptRemains()
        for incarnation in (1, 2, 3):
            kept.keep(remains(incarnation))
        kept.seen(2)
        kept.seen(9)

        assert list(kept.frames) == [FROM_NODE.encode(remains(n)) for n in (1, 3)]

    def test_the_oldest_go_when_there_are_many(self) -> None:
        """
        Many deaths, or long ones, without a daemon do not fill the node.
        """
        kept = KeptRemains()
        for incarnation in range(MAX_KEPT + 3):
            kept.keep(remains(incarnation))
        assert next(iter(kept.frames)) == FROM_NODE.encode(remains(3))
        assert len(kept.frames) == MAX_KEPT

        for incarnation in range(100, 110):
            kept.keep(remains(incarnation, "x" * 500_000))
        assert sum(map(len, kept.frames)) <= MAX_KEPT_BYTES
        assert FROM_NODE.decode(kept.frames[-1]) == remains(109, "x" * 500_000)
