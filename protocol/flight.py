"""The flight page: what a worker counts and runs, read by its node without a message.

    three counters | busy until | 32 places, each for one call that runs || stacks

One memfd a worker; behind the page there is room for what `faulthandler` writes of the threads'
stacks. What stands there is the worker's own word: believed within limits. Nothing orders its
writes and the node's reads, so a place that changes just then may be read half and half.
"""

import fcntl
import mmap
import os
import signal
import struct
from dataclasses import dataclass
from typing import Final

from protocol.kernel import put

SIZE: Final = 4096

SLOTS: Final = 32
"""Places for calls that run; a worker that runs more leaves the others unwritten."""

STACKS: Final = 64 * 1024
"""Bytes behind the page: 100 threads of some frames each, or a few deep ones; faulthandler writes
no more than 100 of either."""

DUMP: Final = signal.SIGUSR2
"""Has a worker write them down, whatever code it is in."""

LABEL: Final = 39
"""Bytes of a method's name that a place holds, so that it fills one cache line."""

MAX_BUSY_S: Final = 3600.0
"""How far ahead a worker may say that it is busy, seconds. What says more is not believed."""

LIMIT: Final = 1 << 53
"""No number read is larger, whatever stands there: JSON and floats hold it exactly."""

_MASK: Final = (1 << 64) - 1
"""A caller may number its calls as it likes; the page has room for 64 bits."""

_COUNTERS: Final = struct.Struct("=QQQ")
"""Calls that succeeded; calls and callbacks that failed; events whose callbacks have run."""
_CALLS: Final = 0
_ERRORS: Final = 1
_EVENTS: Final = 2
_BUSY: Final = struct.Struct("=d")
_BUSY_WORD: Final = 3
_FIRST: Final = 64
_SLOT: Final = struct.Struct(f"=QdQ{LABEL + 1}p")
"""Number, deadline, caller and name of the call that runs. A number of 0 is no call; the deadline
of a stream stands there with a minus: between two items its thread does other things. An `async
def` has a bit in its caller: while it waits, its thread does other things too."""
_STEP: Final = 64
"""Bytes from place to place: one cache line each, so that threads do not share any."""

_LABEL: Final = struct.Struct(f"{LABEL + 1}p")
_WORDS: Final = _STEP // 8
_CALL_WORD: Final = _FIRST // 8
_DEADLINE: Final = 1
_CALLER: Final = 2
_NAME: Final = 3
"""Words from the start of a place; the name takes all that are left."""

_ASYNC: Final = 1 << 63


def make_page(name: str) -> int:
    """Make a page, for the node; whoever gets it can neither cut it short nor let it grow."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE + STACKS)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def label_of(name: str) -> bytes:
    """Give a method's name as a place holds it: whole characters of its first 39 bytes."""
    return _LABEL.pack(name.encode("utf-8", "replace")[:LABEL].decode("utf-8", "ignore").encode())


class Counter:
    """Where calls are noted and counted. This one does neither: it is for what is no service."""

    __slots__ = ()

    def enter(self, caller: int, number: int, deadline: float, label: bytes) -> int:  # noqa: ARG002
        """Note that a call runs: its caller's incarnation, its number there, when it is due.

        Args:
            deadline: `time.monotonic()` seconds; the machine's processes share that clock.
            label: What is called, from `label_of`.

        Returns:
            Its place, for `leave`; -1 if it has none.
        """
        return -1

    def streams(self, slot: int) -> None:
        """Note that a call is a stream, which its thread only takes up now and then."""

    def awaits(self, slot: int) -> None:
        """Note that a call is `async def`: others run in its thread while it waits."""

    def succeeded(self) -> None:
        """Count a call that gave a value, before its caller knows."""

    def failed(self) -> None:
        """Count one that did not, before its caller knows."""

    def retract(self) -> None:
        """Count a success no longer: its value cannot travel."""

    def leave(self, slot: int) -> None:
        """Note that a call has ended."""


UNCOUNTED: Final = Counter()


class FlightWriter(Counter):
    """The worker's side; lives as long as the worker. Any of its threads may use it."""

    __slots__ = ("_free", "_moments", "_page", "_words")

    def __init__(self, fd: int) -> None:
        page = memoryview(mmap.mmap(fd, SIZE))
        self._page, self._words, self._moments = page, page.cast("Q"), page.cast("d")
        self._free = list(range(SLOTS))

    def busy(self, until: float) -> None:
        """Say until when the worker may be too busy to answer; 0 is no longer."""
        self._moments[_BUSY_WORD] = until

    def enter(self, caller: int, number: int, deadline: float, label: bytes) -> int:
        """Note that a call runs, if a place is free."""
        try:
            slot = self._free.pop()
        except IndexError:
            return -1
        word = _CALL_WORD + slot * _WORDS
        self._words[word] = number & _MASK
        self._moments[word + _DEADLINE] = deadline
        self._words[word + _CALLER] = caller
        put(self._page, 8 * (word + _NAME), label)
        return slot

    def streams(self, slot: int) -> None:
        """Note that a call is a stream, which its thread only takes up now and then."""
        if slot >= 0:
            self._moments[_CALL_WORD + slot * _WORDS + _DEADLINE] *= -1.0

    def awaits(self, slot: int) -> None:
        """Note that a call is `async def`: others run in its thread while it waits."""
        if slot >= 0:
            self._words[_CALL_WORD + slot * _WORDS + _CALLER] |= _ASYNC

    def succeeded(self) -> None:
        """Count a call that gave a value, before its caller knows."""
        self._words[_CALLS] += 1

    def failed(self) -> None:
        """Count one that did not, before its caller knows."""
        self._words[_ERRORS] += 1

    def retract(self) -> None:
        """Count a success no longer: its value cannot travel."""
        if self._words[_CALLS]:  # threads may have lost each other's
            self._words[_CALLS] -= 1

    def leave(self, slot: int) -> None:
        """Note that a call has ended."""
        if slot >= 0:
            self._words[_CALL_WORD + slot * _WORDS] = 0
            self._free.append(slot)

    def ran_events(self, count: int, failed: int) -> None:
        """Count events whose callbacks have run, and callbacks that raised."""
        self._words[_EVENTS] += count
        if failed:
            self._words[_ERRORS] += failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A call that a worker is in the middle of; its deadline in `time.monotonic()` seconds.

    Attributes:
        label: What is called, `service.method`, cut short: printable, and not to be trusted.
        is_stream: Whether its thread takes it up only now and then.
        is_async: Whether others run in its thread while it waits.
    """

    slot: int
    caller: int
    number: int
    deadline: float
    label: str = ""
    is_stream: bool = False
    is_async: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightPage:
    """What a worker says of itself: at most `SLOTS` calls, no number above `LIMIT`."""

    calls: int
    errors: int
    events: int = 0
    busy_until: float = 0.0
    running: tuple[Running, ...] = ()

    def is_busy(self, now: float) -> bool:
        """Say whether the worker has said that it may not answer now."""
        return now < self.busy_until <= now + MAX_BUSY_S


def read_flight(fd: int) -> FlightPage:
    """Read a worker's page; whatever stands there makes a page within limits."""
    page = os.pread(fd, SIZE, 0).ljust(SIZE, b"\0")
    calls, errors, events = _COUNTERS.unpack_from(page)
    numbers = memoryview(page).cast("Q")[_CALL_WORD : _CALL_WORD + SLOTS * _WORDS : _WORDS]
    return FlightPage(
        calls=_bounded(calls),
        errors=_bounded(errors),
        events=_bounded(events),
        busy_until=_moment(_BUSY.unpack_from(page, _BUSY_WORD * _BUSY.size)[0]),
        running=tuple(_running(page, slot) for slot, number in enumerate(numbers) if number),
    )


def _running(page: bytes, slot: int) -> Running:
    number, deadline, caller, label = _SLOT.unpack_from(page, _FIRST + slot * _STEP)
    return Running(
        slot=slot,
        caller=_bounded(caller & ~_ASYNC),
        number=_bounded(number),
        deadline=_moment(abs(deadline)),
        label=_printable(label.decode("utf-8", "replace")),
        is_stream=deadline < 0.0,
        is_async=bool(caller & _ASYNC),
    )


def stacks_size(fd: int) -> int:
    """Say how many bytes of stacks a worker has written down so far."""
    return len(os.pread(fd, STACKS, SIZE).rstrip(b"\0"))


def read_stacks(fd: int) -> str:
    """Read what a worker has written down of its threads' stacks; empty if it has not."""
    text = os.pread(fd, STACKS, SIZE).replace(b"\0", b"").decode("utf-8", "replace")
    return "".join(f"{_printable(line)}\n" for line in text.splitlines())


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


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _moment(deadline: float) -> float:
    return min(deadline, float(LIMIT)) if deadline > 0.0 else 0.0  # NaN too
