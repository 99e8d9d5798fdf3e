import os
from pathlib import Path

import pytest

from plugin_worker.node import logs
from plugin_worker.node.logs import LAST_BYTES, LAST_LINES, Log


class TestLog:
    def test_what_a_worker_prints_is_kept(self, tmp_path: Path) -> None:
        """
        Output is moved to the file as it comes; its end is seen when the worker's end is closed.
        """
        log = Log(tmp_path / "a.log")
        os.write(log.write_fd, b"no newline at all")
        assert log.drain()
        assert log.drain()
        log.handed_over()
        log.handed_over()

        assert not log.drain()
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
        log.drain()
        lines = log.last_lines().splitlines()
        assert (lines[0], lines[-1], len(lines)) == ("line 5", "line 54", LAST_LINES)

        os.close(log._file)
        log._file = os.open("/dev/full", os.O_WRONLY)
        os.write(log.write_fd, b"x" * LAST_BYTES + b"y\xff")
        log.drain()
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
            log.drain()
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

        assert log.drain()
        assert log.dropped == 4
        log.close()
