"""What Linux says of processes, and lets ours have."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STOPPED: Final = [b"T"], [b"t"]
"""How a state is spelled there; `t` is stopped by a debugger."""

_ENDED: Final = b"Z", b"X"
_FLAGS: Final = 6
_EXITING: Final = 0x4
"""PF_EXITING, as the kernel numbers it."""

_USER_TICKS: Final = 11
_THREADS: Final = 17
_RESIDENT: Final = 21
_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

_MUCH: Final = 4096
"""Bytes; some fifty numbers and a name of 64."""

_START_TIME: Final = 19
"""Where it stands in /proc/PID/stat behind the name, which may itself hold spaces: field 22."""

HEADROOM: Final = 64
"""Descriptors that stay free for what cannot be refused: a pidfd of a worker that has just been
forked, a look into /proc, a log that is turned over."""


def start_time_of(pid: int) -> int:
    """Give a process's start, in clock ticks since boot; 0 if it is gone."""
    stat = _stat(pid)
    return int(stat[_START_TIME]) if stat else 0


def is_stopped(pid: int) -> bool:
    """Say whether a process is seen to be stopped: it takes no signal but SIGCONT and SIGKILL."""
    try:
        return _stat(pid)[:1] in _STOPPED
    except OSError:
        return False  # no descriptor is left to look with


def is_ending(pid: int) -> bool:
    """Say whether a process is seen to end, or is gone.

    The kernel marks it before it closes its descriptors. So whoever has seen one of them closed by
    the end of the process finds it ending, however long that takes yet.
    """
    try:
        stat = _stat(pid)
    except OSError:
        return False  # no descriptor is left to look with
    return not stat or bool(int(stat[_FLAGS]) & _EXITING)


def _stat(pid: int) -> list[bytes]:
    """Give what stands in /proc/PID/stat behind the name; nothing if it is gone."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(file, _MUCH)  # bytes: a process may have a name that is no text
        finally:
            os.close(file)
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(b")")[2].split()


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process uses: processor seconds since it began, threads, resident bytes."""

    cpu_s: float
    threads: int
    memory: int


def usage_of(pid: int) -> Usage | None:
    """Say what a process uses; None if it is gone, or has ended and is not reaped.

    Nor is anything said where no descriptor is left to look with.
    """
    try:
        stat = _stat(pid)
    except OSError:
        return None
    if not stat or stat[0] in _ENDED:
        return None
    ticks = int(stat[_USER_TICKS]) + int(stat[_USER_TICKS + 1])
    memory = int(stat[_RESIDENT]) * _PAGE
    return Usage(cpu_s=ticks / _TICKS_A_S, threads=int(stat[_THREADS]), memory=memory)


def descendants_of(pid: int) -> Iterator[int]:
    """Name what a process has started and what that has, as long as each one's parent lives."""
    waiting = [pid]
    while waiting:
        found = children_of(waiting.pop())
        yield from found
        waiting.extend(found)


def children_of(pid: int) -> list[int]:
    """Name what a process is the parent of now; nobody if it is gone."""
    try:
        return list_children(pid)
    except OSError:  # it, or one of its threads, has just ended
        return []


def list_children(pid: int) -> list[int]:
    """Name what a process is the parent of, those that have ended and are not reaped too.

    Raises:
        OSError: It, or one of its threads, has just ended; or this kernel keeps no such list.
    """
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    return [int(p) for one in threads for p in (one / "children").read_text().split()]


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard one: libzmq aborts where none is left."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> tuple[int, int]:
    """Give how many this process has open, and how many it may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = "/proc/self/fd"
    try:
        # Since Linux 6.2 the folder's size is their number; before, it is 0.
        used = os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 - 2 us, and hot
    except OSError:
        used = limit  # none is left to list them with
    return used, limit


def check_room() -> None:
    """Make sure that there are descriptors for something that can also be refused.

    Raises:
        OSError: There are fewer than `HEADROOM` left; the text names the limit and the cure.
    """
    used, limit = descriptors()
    if limit - used < HEADROOM:
        message = (
            f"the limit of {limit} descriptors is reached; raise it (ulimit -n), or unload some"
        )
        raise OSError(message)
