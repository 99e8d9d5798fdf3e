"""Capture what workers print: from a pipe into one bounded file each, whatever they print.

There is no limit on a line's length, and a full disk drops output and counts it: a worker never
waits for the disk, and nothing it prints can harm the node.
"""

import os
from pathlib import Path
from typing import Final

MAX_FILE: Final = 8 << 20
"""Bytes of one file; the one before it is kept too."""

_CHUNK: Final = 64 * 1024

LAST_LINES: Final = 50
LAST_BYTES: Final = 16 * 1024
"""What is remembered of one worker's output, beside the file: also where the disk is full, and
nothing of what an earlier life has written."""


class Log:
    """One worker's captured output; lives as long as the worker."""

    def __init__(self, path: Path) -> None:
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_fd, False)
        self.dropped = 0
        """Bytes that the disk had no room for, since it last had some."""
        self._last = b""
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def handed_over(self) -> None:
        """Close the writing end: the worker has it now, and its end must be the last."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def drain(self) -> bool:
        """Move what is there into the file, at most one chunk; False at the end of output."""
        try:
            chunk = os.read(self.read_fd, _CHUNK)
        except BlockingIOError:
            return True
        if chunk:
            self._write(chunk)
        return bool(chunk)

    def note(self, line: str) -> None:
        """Write a line of the host's own."""
        self._write(f"spiral-host: {line}\n".encode())

    def drain_all(self) -> None:
        """Move everything that is there into the file."""
        try:
            while chunk := os.read(self.read_fd, _CHUNK):
                self._write(chunk)
        except BlockingIOError:
            pass  # a process that outlives its worker still holds the pipe; it writes to nobody

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
        except OSError:
            os.ftruncate(self._file, 0)
        os.close(self._file)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._file).st_size
