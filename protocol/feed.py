"""What the peers of the bus and its hub say to each other beside events. No I/O.

    peer -> hub (DEALER)   a run's frame (runs.py), or one message of TO_HUB
    hub -> peers (XPUB)    a run's frame, or a mark, which opens with 0xFF
    hub -> peer (ROUTER)   one message of FROM_HUB

A run opens with its type's name, in UTF-8. Neither a mark nor msgpack's arrays, which messages are,
open with what may open that.
"""

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocol.codec import Conversation

MARK: Final = b"\xff"
"""Opens what is no event: no topic begins with it, because it is no UTF-8."""

TO_ALL: Final = MARK + b"!"
"""What every peer subscribes to."""
SYNC: Final = TO_ALL + b"sync"
NUMBERS: Final = TO_ALL + b"numbers"
ASKED: Final = TO_ALL + b"asked"

EVENT: Final = struct.Struct("!QI")
"""What stands behind `ASKED`: the life of a publisher, its number for a report; then the type."""

ECHO: Final = MARK + b"echo:"
"""What one peer subscribes to, to hear that its subscriptions are in force."""


@dataclass(frozen=True, slots=True)
class Join:
    """A peer's subscriptions are in force at the hub; it wants to be waited for.

    Attributes:
        filters: It lets no event through that nobody wants, so it has to hear what is wanted.
    """

    name: str
    filters: bool


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
class Recall:
    """A peer has a new subscriber, who wants past events of a pattern too.

    Attributes:
        last: So many, the newest; 0 goes by `since`.
        since: Those from then on, seconds since the epoch; infinite for no more than the last ones
            of sticky types, which every answer holds.
    """

    request: int
    pattern: str
    last: int
    since: float


@dataclass(frozen=True, slots=True)
class Informed:
    """What is wanted, as of this generation, is known to every publisher behind the peer."""

    generation: int


@dataclass(frozen=True, slots=True)
class Concerned:
    """Who behind the peer is given the event that somebody waits for."""

    incarnation: int
    report: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """A subscriber has run its callbacks for the event that somebody waits for.

    Attributes:
        matched: How many there were.
        failed: How many of them raised.
        failures: What the first of these raised.
    """

    incarnation: int
    report: int
    name: str
    matched: int
    failed: int
    failures: tuple[str, ...]


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
    """What the hub still has of the missed events, oldest first, as frames."""

    source: str
    incarnation: int
    topic: str
    last: int
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the hub has of the past, oldest first, as frames that may hold more than was wanted."""

    request: int
    frames: tuple[bytes, ...]


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


@dataclass(frozen=True, slots=True)
class Interest:
    """What anybody wants now, as a change since the generation before, or in full."""

    generation: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the event that a publisher behind the peer waits for.

    Attributes:
        failures: Subscribers and what they raised; the first of them.
    """

    incarnation: int
    report: int
    matched: int
    delivered: int
    failures: tuple[tuple[str, str], ...]


ToHub: TypeAlias = Join | Synced | Replay | Informed | Concerned | Ran | Recall
FromHub: TypeAlias = (
    Joined | Accepted | Replayed | Numbers | JoinAgain | Interest | Outcome | Recalled
)
TO_HUB: Final[Conversation[ToHub]] = Conversation(
    "peer to hub", {1: Join, 2: Synced, 3: Replay, 4: Informed, 5: Concerned, 6: Ran, 7: Recall}
)
FROM_HUB: Final[Conversation[FromHub]] = Conversation(
    "hub to peer",
    {
        1: Joined,
        2: Accepted,
        3: Replayed,
        4: Numbers,
        5: JoinAgain,
        6: Interest,
        7: Outcome,
        8: Recalled,
    },
)

_ARRAY: Final = 0x90


def is_run(frame: bytes) -> bool:
    """Say whether a frame opens like a run, and not like a message."""
    return len(frame) > 1 and frame[0] & 0xF0 != _ARRAY
