"""Decide the order of events, who still lacks them, and what is kept for a replay. No I/O.

    run arrives --> fan out to all --> mark the place (Sync) --> every peer has answered the mark
                                                              --> its origin may forget it (Accept)

So whatever the hub has not got to everybody is still kept by its origin, and a hub that is
killed loses nothing: origins send it again and subscribers drop what they have seen. A peer that
does not answer a mark in time is not waited for; the numbers tell it what it missed. When it has
caught up it is told the last numbers, because what it missed may have been the last of all.
Until every expected peer has come back after a restart, events are held and not sent to few.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.feed import Frames, Head, LastNumber, Replay, Replayed

if TYPE_CHECKING:
    from protocol.names import Topic

BUDGET: Final = 16 << 20
"""Bytes kept for replays, all sources together."""

MAX_REPLAY: Final = 768 << 10
"""Bytes of one replay, so that the answer stays below a message's limit; the rest is a gap."""

LATE_S: Final = 1.0
"""How long a mark may stay unanswered before its peer is no longer waited for, seconds."""

MAX_LINES: Final = 10_000
"""Last numbers that are remembered, those of the lines that spoke last."""


@dataclass(frozen=True, slots=True)
class FanOut:
    """Send this run to every subscriber."""

    frames: Frames


@dataclass(frozen=True, slots=True)
class Mark:
    """Send every peer this mark, behind the runs before it."""

    number: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Tell an origin that its runs up to this transmission have reached everybody."""

    peer: bytes
    transmission: int


@dataclass(frozen=True, slots=True)
class TellNumbers:
    """Tell a peer how far every line has come: it may have missed the end of some."""

    peer: bytes
    lines: tuple[LastNumber, ...]


Action: TypeAlias = FanOut | Mark | Accept | TellNumbers


@dataclass(slots=True)
class _Peer:
    answered: int = 0
    late: bool = False
    has_missed: bool = False
    arrived: int = 0
    accepted: int = 0


@dataclass(slots=True)
class _Ring:
    runs: deque[tuple[Head, bytes, bytes]] = field(default_factory=deque)
    size: int = 0


class Hub:
    """The bus's centre; lives as long as its daemon, and `epoch` is that daemon's number."""

    def __init__(self, epoch: int, *, expected: Iterable[str] = ()) -> None:
        self.epoch = epoch
        self.deadline: float | None = None
        """When to call `expire`; None while nobody has to answer a mark."""
        self._expected = set(expected)
        self._peers: dict[bytes, _Peer] = {}
        self._names: dict[str, tuple[bytes, int]] = {}
        self._held: list[tuple[Head, Frames]] = []
        self._rings: dict[str, _Ring] = {}
        self._size = 0
        self._sent: dict[tuple[str, int, Topic], tuple[int, int]] = {}
        self._mark = 0
        self._is_marked = False
        self._marked: dict[bytes, int] = {}

    @property
    def is_open(self) -> bool:
        """Whether every expected peer is there, so that events go out."""
        return not self._expected

    def open(self, now: float) -> list[Action]:
        """Wait for nobody any longer; send out what was held."""
        self._expected.clear()
        held, self._held = self._held, []
        return [*(self._fan_out(head, frames) for head, frames in held), *self._next_mark(now)]

    def join(self, peer: bytes, name: str, now: float) -> tuple[int, list[Action]]:
        """Take a peer on; give the last transmission of its name that has arrived here.

        Args:
            name: One life of one peer process; a peer that only reconnects keeps it.
        """
        known = self._names.get(name)
        arrived = 0
        if known is not None:
            arrived = self._peers.pop(known[0]).arrived if known[0] in self._peers else known[1]
        self._names[name] = (peer, arrived)
        self._peers[peer] = _Peer(answered=self._mark, arrived=arrived)
        self._expected.discard(name)
        # It may have been away while others got the last events.
        told = self._tell_numbers(peer)
        return arrived, [*told, *(self.open(now) if self.is_open and self._held else [])]

    def knows(self, peer: bytes) -> bool:
        """Say whether a peer has joined, over this connection."""
        return peer in self._peers

    def leave(self, name: str, now: float) -> list[Action]:
        """Wait for a peer no longer, for example because its node is gone."""
        peer = self._names.pop(name, (b"", 0))[0]
        self._expected.discard(name)
        was_known = self._peers.pop(peer, None) is not None
        released = self.open(now) if self.is_open and self._held else []
        return [*released, *(self._settle(now) if was_known else [])]

    def arrive(self, peer: bytes, head: Head, frames: Frames) -> list[Action]:
        """Take in a run. What arrived before, or from a peer that has not joined, is dropped."""
        origin = self._peers.get(peer)
        if origin is None or head.transmission <= origin.arrived:
            return []
        origin.arrived = head.transmission
        return self._take(head, frames)

    def publish(self, head: Head, frames: Frames) -> list[Action]:
        """Take in a run of the daemon's own."""
        return self._take(head, frames)

    def _take(self, head: Head, frames: Frames) -> list[Action]:
        self._keep(head, frames)
        if not self.is_open:
            self._held.append((head, frames))
            return []
        return [self._fan_out(head, frames)]

    def _fan_out(self, head: Head, frames: Frames) -> FanOut:
        line = (head.source, head.incarnation, head.topic)
        first, _ = self._sent.pop(line, (head.first, 0))
        self._sent[line] = (first, head.first + head.count - 1)
        if len(self._sent) > MAX_LINES:
            del self._sent[next(iter(self._sent))]
        return FanOut(frames)

    def _tell_numbers(self, peer: bytes) -> list[Action]:
        lines = tuple(LastNumber(*line, *sent) for line, sent in self._sent.items())
        return [TellNumbers(peer, lines)] if lines else []

    def pause(self, now: float) -> list[Action]:
        """Nothing more is waiting to arrive: mark the place if somebody waits for it."""
        return [] if self._is_marked else self._next_mark(now)

    def synced(self, peer: bytes, number: int, now: float) -> list[Action]:
        """Take in a peer's answer to a mark."""
        known = self._peers.get(peer)
        if known is None or not known.answered < number <= self._mark:
            return []
        known.has_missed = known.has_missed or number > known.answered + 1
        known.answered, known.late = number, False
        told: list[Action] = []
        if known.has_missed and number == self._mark:
            known.has_missed, told = False, self._tell_numbers(peer)
        return [*told, *self._settle(now)]

    def expire(self, now: float) -> list[Action]:
        """Stop waiting for peers that are late; early and late calls are harmless."""
        if self.deadline is None or now < self.deadline:
            return []
        if not self._is_marked:
            return self._place_mark(now) if self._has_missing() else self._next_mark(now)
        for peer in self._peers.values():
            peer.late = peer.late or peer.answered < self._mark
            peer.has_missed = peer.has_missed or peer.late
        return self._settle(now)

    def replay(self, wanted: Replay) -> Replayed:
        """Give what is kept of the events that a peer misses."""
        ring = self._rings.get(wanted.source, _Ring())
        found = [
            (head, body)
            for known, head, body in ring.runs
            if (known.incarnation, known.topic) == (wanted.incarnation, wanted.topic)
            and known.first <= wanted.last
            and known.first + known.count > wanted.first
        ]
        kept, size = 0, 0
        while kept < len(found) and (size := size + sum(map(len, found[kept]))) <= MAX_REPLAY:
            kept += 1
        heads, bodies = tuple(head for head, _ in found[:kept]), tuple(b for _, b in found[:kept])
        return Replayed(wanted.source, wanted.incarnation, wanted.topic, wanted.last, heads, bodies)

    def _settle(self, now: float) -> list[Action]:
        waited_for = [peer for peer in self._peers.values() if not peer.late]
        if not self._is_marked or any(peer.answered < self._mark for peer in waited_for):
            return []
        self._is_marked, self.deadline = False, None
        accepts: list[Action] = []
        for key, transmission in self._marked.items():
            peer = self._peers.get(key)
            if peer is not None and transmission > peer.accepted:
                peer.accepted = transmission
                accepts.append(Accept(key, transmission))
        return [*accepts, *self._next_mark(now)]

    def _next_mark(self, now: float) -> list[Action]:
        if self.is_open and any(p.arrived != p.accepted for p in self._peers.values()):
            return self._place_mark(now)
        # Its queue was full, perhaps for the last mark too: ask it again, but not all the time.
        again_at = now + LATE_S if self.deadline is None else self.deadline
        self.deadline = again_at if self._has_missing() else None
        return []

    def _has_missing(self) -> bool:
        return any(peer.has_missed for peer in self._peers.values())

    def _place_mark(self, now: float) -> list[Action]:
        self._mark += 1
        self._is_marked = True
        self._marked = {key: peer.arrived for key, peer in self._peers.items()}
        self.deadline = now + LATE_S
        return [Mark(self._mark)]

    def _keep(self, head: Head, frames: Frames) -> None:
        ring = self._rings.setdefault(head.source, _Ring())
        size = sum(map(len, frames))
        ring.runs.append((head, frames[1], frames[2]))
        ring.size += size
        self._size += size
        while self._size > BUDGET:
            # Whoever keeps most gives up its oldest: a flood costs the others nothing.
            largest = max(self._rings, key=lambda source: self._rings[source].size)
            self._drop_oldest(largest)

    def _drop_oldest(self, source: str) -> None:
        ring = self._rings[source]
        known, head, body = ring.runs.popleft()
        size = len(known.topic.encode()) + 1 + len(head) + len(body)
        ring.size -= size
        self._size -= size
        if not ring.runs:
            del self._rings[source]
