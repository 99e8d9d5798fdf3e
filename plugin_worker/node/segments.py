"""Shared memory for every endpoint of this machine: made, sealed, handed over and counted here.

    Allocate  ->  a memfd for its writer  ->  Mapped  ->  sealed  ->  its reader gets it  ->  Ready

Nobody but its writer can ever map a segment for writing, and nobody can change its size: a
read-only descriptor would not do, it can be opened anew for writing. Once a segment is handed over
only its size is kept here; what still keeps its memory is whoever has it mapped.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from protocol.errors import (
    Overloaded,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    to_wire,
)
from protocol.messages import (
    Allocate,
    Allocated,
    Mapped,
    Ready,
    Refusal,
    Release,
    Share,
    Shared,
    ToEndpoint,
    Unshared,
)
from protocol.pool import LANE_QUOTA, MAX_SEGMENTS

Request = Allocate | Mapped | Share | Release

ENDPOINT_QUOTA: Final = 2 << 30
"""Bytes that one endpoint may write, and that it may be made to read: of the 4 GiB that a worker
may map, half at most is others' doing."""

MAX_OF_ENDPOINT: Final = 1024
"""Segments that one endpoint writes."""

MAX_FRESH: Final = 32
"""Segments of one endpoint that it has not mapped yet: each is a descriptor of the node's."""

MAX_KEPT: Final = 256
"""Segments of one endpoint that are for whomever it sends them to; a descriptor each, too."""

AGAIN_S: Final = 0.1

_PAGE: Final = 4096
_ADD_SEALS: Final = 1033
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x10
"""SEAL, SHRINK, GROW and FUTURE_WRITE, as the kernel numbers them (protocol/segments.py)."""

_MFD_NOEXEC_SEAL: Final = 0x8

Send = Callable[[int, ToEndpoint, tuple[int, ...]], bool]
"""Sends a message with descriptors to an endpoint; False when there is no such endpoint."""


@dataclass(slots=True, kw_only=True)
class _Segment:
    """One segment, from its making until its writer releases it or its lane is over."""

    number: int
    writer: int
    lane: int
    size: int
    fd: int
    is_sealed: bool = False
    readers: dict[int, int] = field(default_factory=dict)
    """Those who have it or are about to, by the lane over which they get it."""


class Segments:
    """The segments of a node; lives as long as the node.

    Args:
        other_end: Gives who is at the other end of an endpoint's lane, or None.
        is_slow: Says whether an endpoint has so much to read that nothing should be added.
        most: Bytes of all segments together.
    """

    def __init__(
        self,
        send: Send,
        other_end: Callable[[int, int], int | None],
        is_slow: Callable[[int], bool],
        most: int | None = None,
    ) -> None:
        self._send = send
        self._other_end = other_end
        self._is_slow = is_slow
        self._most = most or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._numbers = count(1)
        self._all: dict[int, _Segment] = {}
        self._by_writer: dict[int, dict[int, _Segment]] = {}
        self._lanes: set[int] = set()
        self._reads: Counter[int] = Counter()
        self._total = 0

    def __len__(self) -> int:
        return len(self._all)

    @property
    def descriptors(self) -> int:
        """How many descriptors of the node's own are held for segments."""
        return sum(segment.fd >= 0 for segment in self._all.values())

    def told(self, writer: int, message: Request) -> None:
        """Do what an endpoint asks for, or refuse it.

        Raises:
            RemoteProtocolError: It speaks of a segment that is not its own.
        """
        if isinstance(message, Release):
            self._release(writer, message.segment)
            return
        try:
            if isinstance(message, Allocate):
                self._allocate(writer, message)
            elif isinstance(message, Mapped):
                self._mapped(writer, message)
            else:
                self._share(writer, message)
        except (OSError, SpiralHostError) as error:
            if isinstance(error, RemoteProtocolError):
                raise
            why = error if isinstance(error, SpiralHostError) else UsageError(f"the node: {error}")
            self._send(writer, Refusal(message.request, *to_wire(why)), ())

    # --- requests ---------------------------------------------------------------------------------

    def _allocate(self, writer: int, asked: Allocate) -> None:
        if asked.size <= 0 or asked.size % _PAGE:
            raise RemoteProtocolError(f"a segment of {asked.size} bytes, which are no pages")
        reader = self._reader(asked.lane, writer) if asked.lane else None
        self._check(writer, reader, asked)
        segment = _Segment(
            number=next(self._numbers),
            writer=writer,
            lane=asked.lane,
            size=asked.size,
            fd=_make(asked.size),
        )
        self._all[segment.number] = segment
        self._by_writer.setdefault(writer, {})[segment.number] = segment
        self._total += segment.size
        if reader is not None:
            self._add_reader(segment, asked.lane, reader)
        if not self._send(writer, Allocated(asked.request, segment.number), (segment.fd,)):
            self._forget(segment)

    def _check(self, writer: int, reader: int | None, asked: Allocate) -> None:
        own = self._by_writer.get(writer, {}).values()
        same = [one for one in own if one.lane == asked.lane]
        quota, most = (LANE_QUOTA, MAX_SEGMENTS) if asked.lane else (ENDPOINT_QUOTA, MAX_KEPT)
        where = "this lane" if asked.lane else "arrays that are shared later"
        _room(where, [one.size for one in same], asked.size, quota, most)
        _room("one process", [one.size for one in own], asked.size, ENDPOINT_QUOTA, MAX_OF_ENDPOINT)
        _room("segments not mapped yet", [0 for one in own if not one.is_sealed], 0, 0, MAX_FRESH)
        if self._total + asked.size > self._most:
            raise UsageError(f"{asked.size} bytes more than {self._total}: half of all memory")
        if reader is not None:
            self._check_reader(reader, asked.size)

    def _check_reader(self, reader: int, size: int) -> None:
        _room("what the other side reads", [self._reads[reader]], size, ENDPOINT_QUOTA, 2)
        if self._is_slow(reader):
            raise Overloaded("the other side does not read what its node sends it", AGAIN_S)

    def _add_reader(self, segment: _Segment, lane: int, reader: int) -> None:
        segment.readers[lane] = reader
        self._lanes.add(lane)
        self._reads[reader] += segment.size

    def _drop_reader(self, segment: _Segment, lane: int) -> None:
        reader = segment.readers.pop(lane)
        self._reads[reader] -= segment.size
        if not self._reads[reader]:
            del self._reads[reader]

    def _mapped(self, writer: int, message: Mapped) -> None:
        segment = self._own(writer, message.segment)
        if segment.is_sealed:
            raise RemoteProtocolError("it has mapped a segment twice")
        fcntl.fcntl(segment.fd, _ADD_SEALS, _SEALS)
        segment.is_sealed = True
        if segment.lane:
            self._show(segment, segment.lane)
            os.close(segment.fd)
            segment.fd = -1
        self._send(writer, Ready(message.request), ())

    def _share(self, writer: int, message: Share) -> None:
        segment = self._own(writer, message.segment)
        if segment.lane or not segment.is_sealed:
            raise RemoteProtocolError("it shares a segment that is not to be shared")
        if message.lane not in segment.readers:
            reader = self._reader(message.lane, writer)
            self._check_reader(reader, segment.size)
            self._add_reader(segment, message.lane, reader)
            self._show(segment, message.lane)
        self._send(writer, Ready(message.request), ())

    def _show(self, segment: _Segment, lane: int) -> None:
        """Give a segment to its reader, before its writer is told that it may use it."""
        shared = Shared(lane, segment.number, segment.size)
        self._send(segment.readers[lane], shared, (segment.fd,))

    def _release(self, writer: int, number: int) -> None:
        # Of a lane that is over everything is forgotten already, when its writer finds out.
        segment = self._by_writer.get(writer, {}).get(number)
        if segment is None:
            return
        for lane, reader in tuple(segment.readers.items()):
            self._send(reader, Unshared(lane, number), ())
        self._forget(segment)

    def _reader(self, lane: int, writer: int) -> int:
        reader = self._other_end(lane, writer)
        if reader is None:
            raise ServiceUnavailable(f"lane {lane}", "it is over")
        return reader

    def _own(self, writer: int, number: int) -> _Segment:
        segment = self._by_writer.get(writer, {}).get(number)
        if segment is None:
            raise ServiceUnavailable(f"segment {number}", "it is not there any more")
        return segment

    # --- ends -------------------------------------------------------------------------------------

    def lane_over(self, lane: int, ends: tuple[int, int]) -> None:
        """Forget what a lane carried, and tell those of its ends that are still there."""
        if lane not in self._lanes:
            return
        self._lanes.discard(lane)
        for segment in tuple(self._all.values()):
            if segment.lane == lane:
                self._forget(segment)
            elif lane in segment.readers:
                self._drop_reader(segment, lane)
        for end in ends:
            self._send(end, Unshared(lane, 0), ())

    def forget(self, endpoint: int) -> None:
        """Forget what an endpoint that is gone has written; its lanes are over already."""
        for segment in tuple(self._by_writer.get(endpoint, {}).values()):
            self._forget(segment)

    def _forget(self, segment: _Segment) -> None:
        if self._all.pop(segment.number, None) is None:
            return  # to tell its reader showed that it was gone
        for lane in tuple(segment.readers):
            self._drop_reader(segment, lane)
        own = self._by_writer[segment.writer]
        del own[segment.number]
        if not own:
            del self._by_writer[segment.writer]
        self._total -= segment.size
        if segment.fd >= 0:
            os.close(segment.fd)

    def close(self) -> None:
        """Forget everything."""
        for segment in tuple(self._all.values()):
            self._forget(segment)


def _room(where: str, sizes: list[int], size: int, quota: int, most: int) -> None:
    total = sum(sizes)
    if total + size > quota:
        raise UsageError(f"{size} bytes beside the {total} of {where}; the limit is {quota}")
    if len(sizes) >= most:
        raise UsageError(f"{len(sizes)} segments of {where}; the limit is {most}")


def _make(size: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("segment", flags | _MFD_NOEXEC_SEAL)
    except OSError:
        fd = os.memfd_create("segment", flags)  # Linux < 6.3
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd
