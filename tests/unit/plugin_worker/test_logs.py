import os
import resource
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from plugin_worker.node import logs
from plugin_worker.node.budget import COST
from plugin_worker.node.logs import BURST, LAST_BYTES, LAST_LINES, RATE, Log

START: Final = 1000.0
PIPE: Final = 64 * 1024
DEADLINE: Final = 20.0


@pytest.fixture
def narrow_disk() -> Iterator[Callable[[int], None]]:
    """Lets a file grow to so many bytes and no further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestLog:
    def test_what_a_worker_prints_is_kept(self, tmp_path: Path) -> None:
        """
        Output is moved to the file as it comes; its end is seen when the worker's end is closed.
        """
        log = Log(tmp_path / "a.log")
        os.write(log.write_fd, b"no newline at all")
        assert log.drain(START) == 0.0
        assert log.drain(START) == 0.0
        log.handed_over()
        log.handed_over()

        assert log.drain(START) is None
        assert (tmp_path / "a.log").read_bytes() == b"no newline at all"
        log.close()

    def test_what_is_left_is_taken_at_the_end(self, tmp_path: Path) -> None:
        """
        The last words of a worker that died are in its file.
        """
        log = Log(tmp_path / "a.log")
        os.write(log.write_fd, b"Fatal Python error")
        log.close()

        assert (tmp_path / "a.log").read_bytes() == b"Fatal Python error"

    def test_the_host_may_say_something_too(self, tmp_path: Path) -> None:
        """
        A line of the host's own is marked as such.
        """
        log = Log(tmp_path / "a.log")
        log.note("ended by SIGKILL")
        log.close()

        assert (tmp_path / "a.log").read_text() == "spiral-host: ended by SIGKILL\n"

    def test_the_last_lines_of_this_life_are_remembered(self, tmp_path: Path) -> None:
        """
        Not those of an earlier one, few enough for a report, and whatever became of the disk.
        """
        (tmp_path / "a.log").write_text("an earlier life\n")
        log = Log(tmp_path / "a.log")
        assert log.last_lines() == ""

        os.write(log.write_fd, b"".join(b"line %d\n" % n for n in range(LAST_LINES + 5)))
        log.drain(0.0)
        lines = log.last_lines().splitlines()
        assert (lines[0], lines[-1], len(lines)) == ("line 5", "line 54", LAST_LINES)

        os.close(log._file)
        log._file = os.open("/dev/full", os.O_WRONLY)
        os.write(log.write_fd, b"x" * LAST_BYTES + b"y\xff")
        log.drain(0.0)
        assert log.last_lines() == "x" * (LAST_BYTES - 2) + "y\ufffd"
        log.close()

    def test_a_pipe_that_others_hold_keeps_nobody(self, tmp_path: Path) -> None:
        """
        A process that outlives its worker does not make the node wait.
        """
        log = Log(tmp_path / "a.log")
        held = os.dup(log.write_fd)
        log.close()

        with pytest.raises(BrokenPipeError):
            os.write(held, b"x")
        os.close(held)

    def test_a_later_worker_goes_on_in_the_file(self, tmp_path: Path) -> None:
        """
        A restarted plugin's output follows that of its earlier life.
        """
        for words in (b"one ", b"two"):
            log = Log(tmp_path / "a.log")
            os.write(log.write_fd, words)
            log.close()

        assert (tmp_path / "a.log").read_bytes() == b"one two"

    def test_a_file_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A full file is put aside, and the one before that is forgotten.
        """
        monkeypatch.setattr(logs, "MAX_FILE", 3)
        log = Log(tmp_path / "a.b.log")
        for words in (b"first", b"second", b"third"):
            os.write(log.write_fd, words)
            log.drain(START)
        log.close()

        assert (tmp_path / "a.b.log").read_bytes() == b"third"
        assert (tmp_path / "a.b.log.1").read_bytes() == b"second"

    def test_a_full_disk_drops_and_counts(self, tmp_path: Path) -> None:
        """
        What the disk does not take is counted; the worker never waits for it.
        """
        log = Log(tmp_path / "a.log")
        os.close(log._file)
        log._file = os.open("/dev/full", os.O_WRONLY)
        os.write(log.write_fd, b"lost")

        assert log.drain(START) == 0.0
        assert log.dropped == 4
        log.close()

    def test_what_was_dropped_is_said_once_there_is_room(
        self, tmp_path: Path, narrow_disk: Callable[[int], None]
    ) -> None:
        """
        The file says in its place how much is missing.
        """
        log = Log(tmp_path / "a.log")
        narrow_disk(4)
        os.write(log.write_fd, b"kept lost")
        assert log.drain(START) == 0.0
        assert log.dropped == len(b" lost")
        narrow_disk(resource.RLIM_INFINITY)
        os.write(log.write_fd, b"!")
        log.close()

        note = "spiral-host: the disk had no room for 5 bytes of output\n"
        assert (tmp_path / "a.log").read_text() == f"kept!{note}"

    def test_a_file_that_cannot_be_put_aside_is_begun_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Its folder may be gone, or no descriptor left: output goes on in the file that is open.
        """
        monkeypatch.setattr(logs, "MAX_FILE", 3)
        folder = tmp_path / "logs"
        folder.mkdir()
        log = Log(folder / "a.log")
        kept = os.dup(log._file)
        shutil.rmtree(folder)
        for words in (b"first", b"second"):
            os.write(log.write_fd, words)
            log.drain(START)
        log.close()

        with os.fdopen(kept):
            assert Path(f"/proc/self/fd/{kept}").read_bytes() == b"second"

    def test_a_log_that_cannot_be_opened_leaves_nothing_open(self, tmp_path: Path) -> None:
        """
        A spawn may fail here, again and again.
        """
        before = psutil.Process().num_fds()
        with pytest.raises(FileNotFoundError):
            Log(tmp_path / "no" / "a.log")

        assert psutil.Process().num_fds() == before


class TestBudget:
    def test_within_its_budget_a_worker_never_waits(self, tmp_path: Path) -> None:
        """
        A burst of the budget's size is read as fast as it comes, whatever the length of its lines.
        """
        log = Log(tmp_path / "a.log")
        left = BURST - COST * (BURST // PIPE + 1)
        while left > 0:
            os.write(log.write_fd, b"x" * min(PIPE, left))
            assert log.drain(START) == 0.0
            left -= PIPE
        log.close()

    def test_beyond_it_the_node_reads_at_the_budgets_rate(self, tmp_path: Path) -> None:
        """
        A worker that prints as fast as it is read gets `RATE` bytes a second, no more and no less.
        """
        log = Log(tmp_path / "a.log")
        now, read, due = START, 0, BURST + 20 * RATE
        while now < START + 20 and read < 2 * due:
            os.write(log.write_fd, b"x" * PIPE)
            now += log.drain(now) or 0.0
            read += PIPE

        assert read == pytest.approx(due, rel=0.02)
        log.close()

    def test_one_who_prints_while_its_worker_is_buried_holds_up_nobody(
        self, tmp_path: Path
    ) -> None:
        """
        A process that outlives its worker may print as fast as it is read: the end does not wait.
        """
        log = Log(tmp_path / "a.log")
        held = os.dup(log.write_fd)
        flood = subprocess.Popen(
            [sys.executable, "-c", "while True: print('x' * 60000)"], stdout=held, stderr=held
        )
        os.close(held)
        assert select.select([log.read_fd], [], [], DEADLINE)[0]
        log.close()

        assert flood.wait(DEADLINE) != 0
