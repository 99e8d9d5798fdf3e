"""Capture what workers print: from a pipe into one bounded file each, whatever they print.

There is no limit on a line's length, and a full disk drops output and counts it: a worker never
waits for the disk, and nothing it prints can harm the node. A worker that prints more than its
budget waits in its own write until the node reads on; nobody else notices.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from plugin_worker.node.budget import Budget
from protocol.limits import DEFAULTS

RATE: Final = DEFAULTS.log_rate
BURST: Final = 4 * RATE
"""Bytes that a worker may print a second, and before that at once. The burst is one whole file:
a long traceback, or a library that announces itself, never waits. Twenty thousand lines a
second are more than anybody reads, and leave the disk time to breathe: a new file every four
seconds. (journald drops what is beyond 10,000 lines in 30 s; here their writer waits.)"""

LEAST_BURST: Final = 64 << 10
"""Bytes that one may print at once whatever its rate: what its pipe holds, one long traceback."""

MAX_FILE: Final = 8 << 20
"""Bytes of one file; the one before it is kept too."""

_CHUNK: Final = 64 * 1024

LAST_LINES: Final = 50
LAST_BYTES: Final = 16 * 1024
"""What is remembered of one worker's output, beside the file: also where the disk is full, and
nothing of what an earlier life has written."""


class Log:
    """One worker's captured output; lives as long as the worker.

    Args:
        rate: Bytes that it may print a second; four seconds of it may come at once.
    """

    def __init__(self, path: Path, rate: int = RATE) -> None:
        self._path = path
        self._file = _open(path)
        self._size = os.fstat(self._file).st_size
        try:
            self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(self._file)
            raise
        os.set_blocking(self.read_fd, False)
        self._budget = Budget(min(BURST, max(4 * rate, LEAST_BURST)), rate)
        self.dropped = 0
        """Bytes that the disk had no room for, since it last had some."""
        self._last = b""

    def handed_over(self) -> None:
        """Close the writing end: the worker has it now, and its end must be the last."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def drain(self, now: float) -> float | None:
        """Move what is there into the file, at most one chunk.

        Returns:
            How long to leave the pipe alone now, seconds; None at the end of output.
        """
        try:
            chunk = os.read(self.read_fd, _CHUNK)
        except BlockingIOError:
            return 0.0
        if not chunk:
            return None
        self._write(chunk)
        return self._budget.wait_s(now) if self._budget.spend(len(chunk), now) else 0.0

    def note(self, line: str) -> None:
        """Write a line of the host's own."""
        self._write(f"spiral-host: {line}\n".encode())

    def drain_all(self) -> None:
        """Move everything that is there into the file."""
        # No more than the pipe held: a process that outlives its worker may print without end.
        left = fcntl.fcntl(self.read_fd, fcntl.F_GETPIPE_SZ)
        try:
            while left > 0 and (chunk := os.read(self.read_fd, _CHUNK)):
                self._write(chunk)
                left -= len(chunk)
        except BlockingIOError:
            pass  # that process holds the pipe, and is silent

    def last_lines(self) -> str:
        """Give the last lines of this life; the first of them may be cut."""
        lines = self._last.decode("utf-8", "replace").splitlines(keepends=True)
        return "".join(lines[-LAST_LINES:])

    def close(self) -> None:
        """Take what is left, then let go of everything."""
        self.handed_over()
        self.drain_all()
        os.close(self.read_fd)
        os.close(self._file)

    def _write(self, chunk: bytes) -> None:
        self._last = (self._last + chunk[-LAST_BYTES:])[-LAST_BYTES:]
        if self._size > MAX_FILE:
            self._turn_over()
        try:
            written = os.write(self._file, chunk)
        except OSError:
            written = 0
        self._size += written
        if written and self.dropped:
            lost, self.dropped = self.dropped, 0
            self.note(f"the disk had no room for {lost} bytes of output")
        self.dropped += len(chunk) - written

    def _turn_over(self) -> None:
        try:
            self._path.rename(self._path.with_suffix(".log.1"))
            file = _open(self._path)
        except OSError:
            os.ftruncate(self._file, 0)  # no place for another one: begin this one again
        else:
            os.close(self._file)
            self._file = file
        self._size = os.fstat(self._file).st_size


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
