"""The flight page: counters that a worker writes and its node reads, without a message.

One memfd a worker. What stands there is the worker's own word: believed within limits.
"""

import fcntl
import mmap
import os
import struct
from typing import Final

SIZE: Final = 4096
_COUNTERS: Final = struct.Struct("=QQ")


def make_page(name: str) -> int:
    """Make a page, for the node; whoever gets it can neither cut it short nor let it grow."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class FlightWriter:
    """The worker's side; lives as long as the worker."""

    __slots__ = ("_words",)

    def __init__(self, fd: int) -> None:
        self._words = memoryview(mmap.mmap(fd, SIZE)).cast("Q")

    def count_call(self) -> None:
        """Count a call that was answered."""
        self._words[0] += 1

    def count_error(self) -> None:
        """Count a call that raised."""
        self._words[1] += 1


def read_counters(fd: int) -> tuple[int, int]:
    """Give calls and errors as the worker counts them, each kept below 2**53."""
    calls, errors = _COUNTERS.unpack(os.pread(fd, _COUNTERS.size, 0))
    limit = 1 << 53
    return min(calls, limit), min(errors, limit)
