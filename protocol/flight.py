"""The flight page: what a worker counts and runs, read by its node without a message.

    three counters | 32 places, each for one call that runs

One memfd a worker. What stands there is the worker's own word: believed within limits. Nothing
orders its writes and the node's reads, so a place that changes just then may be read half and half.
"""

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Final

SIZE: Final = 4096

SLOTS: Final = 32
"""Places for calls that run; a worker that runs more leaves the others unwritten."""

LIMIT: Final = 1 << 53
"""No number read is larger, whatever stands there: JSON and floats hold it exactly."""

_MASK: Final = (1 << 64) - 1
"""A caller may number its calls as it likes; the page has room for 64 bits."""

_COUNTERS: Final = struct.Struct("=QQQ")
"""Calls that succeeded; calls and callbacks that failed; events whose callbacks have run."""
_EVENTS: Final = 2
_FIRST: Final = 64
_SLOT: Final = struct.Struct("=QdQ")
"""Number, deadline and caller of the call that runs. A number of 0 is no call."""
_STEP: Final = 64
"""Bytes from place to place: one cache line each, so that threads do not share any."""

_put_call: Final = _SLOT.pack_into
_WORDS: Final = _STEP // 8
_CALL_WORD: Final = _FIRST // 8


def make_page(name: str) -> int:
    """Make a page, for the node; whoever gets it can neither cut it short nor let it grow."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class FlightWriter:
    """The worker's side; lives as long as the worker. Any of its threads may use it."""

    __slots__ = ("_free", "_page", "_words")

    def __init__(self, fd: int) -> None:
        self._page = memoryview(mmap.mmap(fd, SIZE))
        self._words = self._page.cast("Q")
        self._free = list(range(SLOTS))

    def enter(self, caller: int, number: int, deadline: float) -> int:
        """Note that a call runs: its caller's incarnation, its number there, when it is due.

        Args:
            deadline: `time.monotonic()` seconds; the machine's processes share that clock.

        Returns:
            Its place, for `leave`; -1 if all are taken.
        """
        try:
            slot = self._free.pop()
        except IndexError:
            return -1
        _put_call(self._page, _FIRST + slot * _STEP, number & _MASK, deadline, caller)
        return slot

    def leave(self, slot: int, *, failed: bool) -> None:
        """Note that the call has ended, and count it."""
        self._words[failed] += 1
        if slot >= 0:
            self._words[_CALL_WORD + slot * _WORDS] = 0
            self._free.append(slot)

    def ran_events(self, count: int, failed: int) -> None:
        """Count events whose callbacks have run, and callbacks that raised."""
        self._words[_EVENTS] += count
        if failed:
            self._words[True] += failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A call that a worker is in the middle of; its deadline in `time.monotonic()` seconds."""

    slot: int
    caller: int
    number: int
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightPage:
    """What a worker says of itself: at most `SLOTS` calls, no number above `LIMIT`."""

    calls: int
    errors: int
    running: tuple[Running, ...]


def read_flight(fd: int) -> FlightPage:
    """Read a worker's page; whatever stands there makes a page within limits."""
    page = os.pread(fd, SIZE, 0).ljust(SIZE, b"\0")
    calls, errors, _ = _COUNTERS.unpack_from(page)
    running = []
    for slot in range(SLOTS):
        number, deadline, caller = _SLOT.unpack_from(page, _FIRST + slot * _STEP)
        if number:
            running.append(
                Running(
                    slot=slot,
                    caller=_bounded(caller),
                    number=_bounded(number),
                    deadline=_moment(deadline),
                )
            )
    return FlightPage(
        calls=_bounded(calls),
        errors=_bounded(errors),
        running=tuple(running),
    )


def read_counters(fd: int) -> tuple[int, int]:
    """Give calls and errors as the worker counts them, each kept below 2**53."""
    calls, errors, _ = _counters(fd)
    return calls, errors


def read_events(fd: int) -> int:
    """Give how many events a worker says it has run, kept below 2**53."""
    return _counters(fd)[_EVENTS]


def _counters(fd: int) -> tuple[int, int, int]:
    calls, errors, events = _COUNTERS.unpack(os.pread(fd, _COUNTERS.size, 0))
    return _bounded(calls), _bounded(errors), _bounded(events)


def _bounded(number: int) -> int:
    return min(number, LIMIT)


def _moment(deadline: float) -> float:
    return min(deadline, float(LIMIT)) if deadline > 0.0 else 0.0  # NaN too
