"""Runs of events as bytes: what travels from a publisher to every subscriber. No I/O.

A run is one or more events of one type by one life of one source, numbered without a hole. It is
one frame, which the hub and every node pass on unread:

    topic NUL | head | source | body         the terminator keeps `Epoch` from matching `EpochStart`

    worker -> node    topic NUL | report, within_ms, sticky | body       a publication
    node -> worker    the frame, or 0xFF and what can be had no more     a delivery

The body is one msgpack array with what each event says (payloads.py). Nobody between publisher and
subscriber decodes it: only its count and its length are looked at.
"""

import struct
from functools import lru_cache
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple, TypeAlias

import msgpack

from protocol.codec import new_packer, unpack_value
from protocol.errors import RemoteProtocolError, UsageError
from protocol.names import Topic, parse_topic

MAX_PAYLOAD: Final = 48 * 1024
"""Bytes of one event; a run with one such event still fits into one packet of an umbilical."""

MAX_RUN: Final = 2048
MAX_RUN_BYTES: Final = 56 * 1024
"""Events that travel together, and the bytes of their body: with topic, head and source they stay
below the 64 KiB of one packet, and decode to no more than 4 MB of whatever a publisher forged."""

MAX_TYPES: Final = 4096
"""Types of events by one life of one publisher: every peer counts each of them."""

MAX_NUMBER: Final = 1 << 62
"""No event has a higher number; msgpack carries twice that."""

TERMINATOR: Final = b"\0"
MISSING: Final = b"\xff"
"""Opens a delivery that is no run: no topic begins with it, because it is no UTF-8."""

MAX_SOURCE: Final = 255
"""Bytes of a source's name."""

_ARRAY: Final = struct.Struct("!BH")
_ARRAY16: Final = 0xDC
"""How a body opens: msgpack's array of up to 65,535 values."""

_HEAD: Final = struct.Struct("!QQQdHII?B")
_WISHES: Final = struct.Struct("!II?")
"""What a publisher asks for: a report, when at the latest, and that its last event stays."""


Line: TypeAlias = tuple[str, int, Topic]
"""What events are numbered by: source, the source's life, type."""


class Head(NamedTuple):
    """What is read of a run on its way.

    Attributes:
        transmission: Its number among all that its peer has sent, for acknowledgement.
        ts: When it entered the bus, seconds since the epoch; the same for all its events.
        report: Not 0 if somebody waits to hear what became of the run's one event.
        within_ms: How long that one waits.
        sticky: Its last event is kept for whoever subscribes later.
    """

    transmission: int
    source: str
    incarnation: int
    topic: Topic
    first: int
    events: int
    ts: float
    report: int = 0
    within_ms: int = 0
    sticky: bool = False

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.first + self.events - 1

    @property
    def line(self) -> Line:
        """What its events are numbered by."""
        return self.source, self.incarnation, self.topic


class Run(NamedTuple):
    """A run and its frame."""

    head: Head
    frame: bytes

    def without(self, seen: int) -> "Run":
        """Give the run without its first events, up to the number `seen`."""
        head = self.head
        cut = min(max(0, seen - head.first + 1), head.events)
        if not cut:
            return self
        rest = head._replace(first=head.first + cut, events=head.events - cut)
        return pack_run(rest, _tail(self.body, cut))

    @property
    def body(self) -> bytes:
        """What its events say."""
        return self.frame[_body_at(self.frame) :]


class Missing(NamedTuple):
    """Events that can no longer be had, from number `first` to `last`."""

    source: str
    incarnation: int
    topic: Topic
    first: int
    last: int


class Publication(NamedTuple):
    """Events of one type on their way from a publisher to the peer that will number them.

    Without a body, these are events that were given up, and only use up their numbers.
    """

    topic: Topic
    body: bytes
    events: int
    report: int = 0
    within_ms: int = 0
    sticky: bool = False

    @property
    def size(self) -> int:
        """Bytes of what they say."""
        return max(0, len(self.body) - _ARRAY.size)


# --- bodies ---------------------------------------------------------------------------------------


def pack_body(payloads: list[bytes]) -> bytes:
    """Put payloads together, each one msgpack value."""
    return _ARRAY.pack(_ARRAY16, len(payloads)) + b"".join(payloads)


def count_of(body: bytes | memoryview) -> int:
    """Say how many events a body claims to hold.

    Raises:
        RemoteProtocolError: None, or too many, or too many bytes.
    """
    if len(body) < _ARRAY.size or body[0] != _ARRAY16:
        raise RemoteProtocolError("a run of events without a proper body")
    count = int.from_bytes(body[1:3], "big")
    if not 0 < count <= MAX_RUN or len(body) > MAX_RUN_BYTES:
        raise RemoteProtocolError(f"a run of {count} events with {len(body)} bytes")
    return count


def payloads_of(body: bytes) -> list[bytes]:
    """Take a body apart again, without decoding what its events say.

    Raises:
        RemoteProtocolError: It does not hold what it claims.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_RUN_BYTES + 1)
    try:
        unpacker.feed(body)
        ends = [_ARRAY.size]
        for _ in range(unpacker.read_array_header()):
            unpacker.skip()
            ends.append(unpacker.tell())
    except Exception as error:  # noqa: BLE001 - msgpack has five kinds of exception for bad input
        raise RemoteProtocolError(f"a run of events that miscounts itself: {error}") from None
    return [body[start:end] for start, end in pairwise(ends)]


def _tail(body: bytes, cut: int) -> bytes:
    try:
        return pack_body(payloads_of(body)[cut:])
    except RemoteProtocolError:
        # Its publisher garbled it: what is left is as unreadable, and keeps its count.
        return _ARRAY.pack(_ARRAY16, count_of(body) - cut)


# --- frames ---------------------------------------------------------------------------------------


def pack_run(head: Head, body: bytes) -> Run:
    """Put a run together."""
    source = head.source.encode()
    if len(source) > MAX_SOURCE:
        source = source[:MAX_SOURCE].decode(errors="ignore").encode()  # whole characters
    fields = (head.transmission, head.incarnation, head.first, head.ts, head.events)
    packed = _HEAD.pack(*fields, head.report, head.within_ms, head.sticky, len(source))
    return Run(head, b"".join((head.topic.encode(), TERMINATOR, packed, source, body)))


def unpack_head(frame: bytes) -> Head:
    """Read what opens a run.

    Raises:
        RemoteProtocolError: It opens none.
    """
    end = frame.find(TERMINATOR)
    at = end + 1
    if end < 0 or len(frame) < at + _HEAD.size:
        raise RemoteProtocolError("a run of events without a proper head")
    fields = _HEAD.unpack_from(frame, at)
    transmission, incarnation, first, ts, events, *wishes, length = fields
    start = at + _HEAD.size
    topic = read_topic(frame[:end])
    if not events or not 0 < first <= MAX_NUMBER - events or not 0.0 <= ts < inf:
        raise RemoteProtocolError(f"a run of {events} events from number {first} on, at {ts}")
    try:
        source = frame[start : start + length].decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"a run of events without a source: {error}") from None
    return Head(transmission, source, incarnation, topic, first, events, ts, *wishes)


def unpack_run(frame: bytes) -> Run:
    """Read a whole run; what its events say is not looked at.

    Raises:
        RemoteProtocolError: It is none.
    """
    run = Run(unpack_head(frame), frame)
    # A view: every run that comes is looked at, and most of its bytes are passed on as they are.
    if count_of(memoryview(frame)[_body_at(frame) :]) != run.head.events:
        raise RemoteProtocolError("a run of events that miscounts itself")
    return run


def _body_at(frame: bytes) -> int:
    at = frame.index(TERMINATOR) + 1 + _HEAD.size
    return at + frame[at - 1]


@lru_cache(4096)
def read_topic(name: bytes) -> Topic:
    """Read an event type.

    Raises:
        RemoteProtocolError: It is none.
    """
    try:
        return parse_topic(name.decode())
    except (UsageError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"a run of events without a topic: {error}") from None


# --- between a worker and its node ----------------------------------------------------------------


def pack_publication(publication: Publication) -> bytes:
    """Turn events of one type into the packet that a publisher sends up to its node."""
    topic, body, _, *wishes = publication
    return b"".join((topic.encode(), TERMINATOR, _WISHES.pack(*wishes), body))


def unpack_publication(packet: bytes) -> Publication:
    """Read such a packet, written by a plugin's process.

    Raises:
        RemoteProtocolError: It is none, or too large.
    """
    end = packet.find(TERMINATOR)
    at = end + 1
    if end < 0 or len(packet) < at + _WISHES.size:
        raise RemoteProtocolError("a publication that is none")
    report, within_ms, sticky = _WISHES.unpack_from(packet, at)
    body = packet[at + _WISHES.size :]
    count = count_of(body)
    if report and count != 1:
        raise RemoteProtocolError("a report is given of one event at a time")
    return Publication(read_topic(packet[:end]), body, count, report, within_ms, sticky)


def pack_missing(missing: Missing) -> bytes:
    """Turn the word that events are missing into a delivery."""
    return MISSING + new_packer()(list(missing))


def unpack_delivery(packet: bytes) -> Run | Missing:
    """Read a delivery. The node wrote it, so only its shape is checked.

    Raises:
        RemoteProtocolError: It is none.
    """
    if packet[:1] != MISSING:
        return Run(unpack_head(packet), packet)
    parts = unpack_value(packet[1:])
    if type(parts) is not list or len(parts) != len(Missing._fields):
        raise RemoteProtocolError("a delivery of events that is none")
    return Missing(*parts)
