"""Runs of events as they lie on the bus, and what its peers say to the hub. No I/O.

A run is one or more events of one type by one life of one source, numbered without a hole.

    peer -> hub (DEALER)   [topic NUL, head, body]          or one frame of TO_HUB
    hub -> peers (XPUB)    [topic NUL, epoch, head, body]   or a mark, whose topic begins with 0xFF
    hub -> peer (ROUTER)   one frame of FROM_HUB
    node -> worker         one packet: [source, incarnation, topic, first, stamps, payloads]

    head  [transmission, source, incarnation, first, count]      body  [stamps, payloads]

The terminator keeps `Epoch` from matching `EpochStart`: ZeroMQ subscribes to prefixes.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from protocol.codec import Conversation, new_packer, unpack_value
from protocol.errors import LocalProtocolError, RemoteProtocolError, UsageError
from protocol.events import RESERVED, PluginEvent, from_fields, said_by
from protocol.names import EVERYTHING, Topic, parse_topic

MAX_PAYLOAD: Final = 48 * 1024
"""Bytes of one event; a run with one such event still fits into one packet of an umbilical."""

MAX_RUN: Final = 256
MAX_RUN_BYTES: Final = 256 * 1024
"""Events that travel together, and their bytes: stamped, they stay far below a message's limit."""

TERMINATOR: Final = b"\0"
MARK: Final = b"\xff"
"""Opens what is no event: no topic begins with it, because it is no UTF-8."""
SYNC: Final = MARK + b"sync"
ECHO: Final = MARK + b"echo:"

Frames: TypeAlias = tuple[bytes, bytes, bytes]
"""A run on its way: topic with terminator, head, body."""


@dataclass(slots=True)
class Run:
    """Events of one type by one life of one source; `payloads[i]` has number `first + i`."""

    source: str
    incarnation: int
    topic: Topic
    first: int
    stamps: list[float]
    payloads: list[bytes]

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.first + len(self.payloads) - 1

    def without(self, seen: int) -> "Run":
        """Give the run without its first events, up to the number `seen`."""
        cut = max(0, seen - self.first + 1)
        stamps, payloads = self.stamps[cut:], self.payloads[cut:]
        return Run(self.source, self.incarnation, self.topic, self.first + cut, stamps, payloads)


@dataclass(frozen=True, slots=True)
class Missing:
    """Events that can no longer be had, from number `first` to `last`."""

    source: str
    incarnation: int
    topic: Topic
    first: int
    last: int


# --- what peers and hub say to each other beside events -------------------------------------------


@dataclass(frozen=True, slots=True)
class Join:
    """A peer's subscriptions are in force at the hub; it wants to be waited for."""

    name: str


@dataclass(frozen=True, slots=True)
class Synced:
    """Every event before the mark of this number has reached the peer."""

    number: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A peer misses events of one source."""

    source: str
    incarnation: int
    topic: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Joined:
    """The hub takes events of this peer, from transmission `after + 1` on."""

    epoch: int
    after: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """Every event up to this transmission has reached all peers; it need not be kept."""

    transmission: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the hub still has of the missed events, oldest first; each a run's head and body."""

    source: str
    incarnation: int
    topic: str
    last: int
    heads: tuple[bytes, ...]
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LastNumber:
    """What this hub has sent out of the events of one type by one life of one source."""

    source: str
    incarnation: int
    topic: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """How far the hub's sources have counted, for a peer that may have missed their last events."""

    lines: tuple[LastNumber, ...]


@dataclass(frozen=True, slots=True)
class JoinAgain:
    """The hub does not know this peer, or no longer, and drops what it sends."""


ToHub: TypeAlias = Join | Synced | Replay
FromHub: TypeAlias = Joined | Accepted | Replayed | Numbers | JoinAgain
TO_HUB: Final[Conversation[ToHub]] = Conversation("peer to hub", {1: Join, 2: Synced, 3: Replay})
FROM_HUB: Final[Conversation[FromHub]] = Conversation(
    "hub to peer", {1: Joined, 2: Accepted, 3: Replayed, 4: Numbers, 5: JoinAgain}
)


def wanted_prefix(topic: Topic) -> bytes:
    """Give what a SUB socket subscribes to for a topic; for `*` that is everything."""
    return b"" if topic == EVERYTHING else topic.encode() + TERMINATOR


def pack_run(run: Run, transmission: int) -> Frames:
    """Turn a run into the frames that travel between peers and hub."""
    pack = new_packer()
    head = pack([transmission, run.source, run.incarnation, run.first, len(run.payloads)])
    return run.topic.encode() + TERMINATOR, head, pack([run.stamps, run.payloads])


@dataclass(frozen=True, slots=True)
class Head:
    """What the hub reads of a run; the body passes through unread."""

    transmission: int
    source: str
    incarnation: int
    topic: Topic
    first: int
    count: int


def unpack_head(topic: bytes, head: bytes) -> Head:
    """Read a run's topic and head.

    Raises:
        RemoteProtocolError: They are none.
    """
    parts = unpack_value(head)
    if type(parts) is not list or [type(part) for part in parts] != [int, str, int, int, int]:
        raise RemoteProtocolError("a run of events without a proper head")
    transmission, source, incarnation, first, count = parts
    return Head(transmission, source, incarnation, _topic_of(topic), first, count)


def unpack_run(topic: bytes, head: bytes, body: bytes) -> Run:
    """Read a whole run.

    Raises:
        RemoteProtocolError: It is none.
    """
    said = unpack_head(topic, head)
    parts = unpack_value(body)
    if type(parts) is not list or len(parts) != 2:
        raise RemoteProtocolError("a run of events without a proper body")
    stamps, payloads = _columns(parts[0], parts[1])
    stamped = len(stamps) == len(payloads) and all(type(stamp) is float for stamp in stamps)
    if len(payloads) != said.count or not stamped:
        raise RemoteProtocolError("a run of events that miscounts itself")
    return Run(said.source, said.incarnation, said.topic, said.first, stamps, payloads)


def pack_delivery(run: Run) -> bytes:
    """Turn a run into the packet that a node sends down to a subscriber."""
    parts = [run.source, run.incarnation, run.topic, run.first, run.stamps, run.payloads]
    return new_packer()(parts)


def pack_missing(missing: Missing) -> bytes:
    """Turn the word that events are missing into such a packet."""
    key = [missing.source, missing.incarnation, missing.topic]
    return new_packer()([*key, missing.first, missing.last])


def unpack_delivery(body: bytes) -> Run | Missing:
    """Read such a packet. The node wrote it, so only its shape is checked.

    Raises:
        RemoteProtocolError: It is none.
    """
    parts = unpack_value(body)
    if type(parts) is list and len(parts) == 6:
        return Run(*parts)
    if type(parts) is list and len(parts) == 5:
        return Missing(*parts)
    raise RemoteProtocolError("a delivery of events that is none")


def pack_publication(topic: Topic, payloads: list[bytes]) -> bytes:
    """Turn events of one type into the packet that a publisher sends up to its node."""
    return new_packer()([topic, payloads])


def unpack_publication(body: bytes) -> tuple[Topic, list[bytes]]:
    """Read such a packet, written by a plugin's process.

    Raises:
        RemoteProtocolError: It is none, or of a reserved type, or too large.
    """
    parts = unpack_value(body)
    if type(parts) is not list or len(parts) != 2:
        raise RemoteProtocolError("a publication that is none")
    topic, payloads = parts
    try:
        parse_topic(topic)
    except UsageError as error:
        raise RemoteProtocolError(str(error)) from None
    if topic in RESERVED:
        raise RemoteProtocolError(f"only the daemon publishes {topic}")
    _columns([0.0], payloads)
    if len(payloads) > MAX_RUN or sum(map(len, payloads)) > MAX_RUN_BYTES:
        raise RemoteProtocolError(f"a publication of more than {MAX_RUN} events at once")
    return topic, payloads


def encode_event(event: PluginEvent) -> tuple[Topic, bytes]:
    """Give an event's topic and payload.

    Raises:
        UsageError: The type is no event type, or reserved.
        LocalProtocolError: It holds what cannot travel, or more than `MAX_PAYLOAD` bytes.
    """
    topic = parse_topic(event.type)
    if topic in RESERVED:
        raise UsageError(f"only the daemon publishes {topic}")
    return topic, encode_said(topic, said_by(event))


def encode_said(topic: Topic, said: object) -> bytes:
    """Give a payload.

    Raises:
        LocalProtocolError: It holds what cannot travel, or more than `MAX_PAYLOAD` bytes.
    """
    try:
        payload = new_packer()(said)
    except (LocalProtocolError, TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"event {topic} cannot travel: {error}") from None
    if len(payload) > MAX_PAYLOAD:
        raise LocalProtocolError(
            f"event {topic} has {len(payload)} bytes; the limit is {MAX_PAYLOAD}: "
            "offer large values as a service and publish where to ask"
        )
    return payload


def decode_events(run: Run) -> list[PluginEvent]:
    """Build the events of a run, stamped. What its publisher garbled arrives as custom data."""
    events = []
    for offset, payload in enumerate(run.payloads):
        event = _decode(run.topic, payload)
        event.source, event.seq, event.ts = run.source, run.first + offset, run.stamps[offset]
        events.append(event)
    return events


def _decode(topic: Topic, payload: bytes) -> PluginEvent:
    try:
        return from_fields(topic, unpack_value(payload))
    except (UsageError, RemoteProtocolError) as error:
        return PluginEvent.custom("Malformed", {"type": topic, "why": str(error)})


def gap_event(missing: Missing) -> PluginEvent:
    """Build the event that says which ones are missing."""
    gap = PluginEvent.EventGap(missing.topic, missing.first, missing.last)
    gap.source = missing.source
    return gap


def _topic_of(frame: bytes) -> Topic:
    try:
        return parse_topic(frame.removesuffix(TERMINATOR).decode())
    except (UsageError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"a run of events without a topic: {error}") from None


def _columns(stamps: object, payloads: object) -> tuple[list[float], list[bytes]]:
    if type(stamps) is not list or type(payloads) is not list or not payloads:
        raise RemoteProtocolError("a run of events without events")
    for payload in payloads:
        if type(payload) is not bytes or len(payload) > MAX_PAYLOAD:
            raise RemoteProtocolError("an event that is too large or no bytes")
    return stamps, payloads
