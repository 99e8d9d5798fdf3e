"""Decide the order of events, who still lacks them, and what is told of it. No I/O, no clock.

    run arrives --> fan out to all --> mark the place (Sync) --> every peer has answered the mark
                                                              --> its origin may forget it (Accept)

So whatever the hub has not got to everybody is still kept by its origin, and a hub that is
killed loses nothing: origins send it again and subscribers drop what they have seen. One mark
stands for all runs of some milliseconds. A peer that does not answer a mark in time is not waited
for; the numbers tell it what it missed. Every peer is told them when it joins and when it has
caught up, and all are told soon after a line has moved: the end of a line may get lost, too.
Until every expected peer has come back after a restart, events are held and not sent to few.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocol.feed import LastNumber
from protocol.runs import Head, Line
from spiral_host.keeping import Kept

MARK_S: Final = 0.005
"""How long after a run its mark follows, seconds: who closes its connection waits for that."""

BETWEEN_S: Final = 0.05
"""How long after the last mark the next one follows at the earliest, seconds. A mark costs as much
as a run, and a publisher's ring holds what arrives meanwhile."""

LATE_S: Final = 1.0
"""How long a mark may stay unanswered before its peer is no longer waited for, seconds."""

TELL_S: Final = 0.5
"""How long after a line has moved everybody is told how far it has come, seconds; a second time
as long after that, because a queue that was too full for the last run may still be."""

MAX_LINES: Final = 10_000
"""Last numbers that are remembered, those of the lines that spoke last."""


@dataclass(frozen=True, slots=True)
class FanOut:
    """Send this run to every subscriber."""

    head: Head
    frame: bytes


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
class Ask:
    """A run has gone out whose publisher waits to hear what becomes of it."""

    peer: bytes
    head: Head


@dataclass(frozen=True, slots=True)
class TellNumbers:
    """Tell how far these lines have come: somebody may have missed the end of some.

    Attributes:
        peer: Whom to tell; None for everybody.
    """

    peer: bytes | None
    lines: tuple[LastNumber, ...]


Action: TypeAlias = FanOut | Mark | Accept | Ask | TellNumbers


@dataclass(slots=True)
class _Peer:
    name: str
    answered: int = 0
    late: bool = False
    has_missed: bool = False
    arrived: int = 0
    accepted: int = 0

    def may_say(self, head: Head) -> bool:
        """Look whether a run bears its own origin's name: a node's workers have many."""
        kind, _, number = self.name.partition(":")
        if kind != "client":
            return True
        return head.source.startswith("app:") and str(head.incarnation) == number


class Hub:
    """The bus's centre; lives as long as its daemon, and `epoch` is that daemon's number."""

    def __init__(self, epoch: int, *, expected: Iterable[str] = ()) -> None:
        self.epoch = epoch
        self.kept = Kept()
        self._expected = set(expected)
        self._peers: dict[bytes, _Peer] = {}
        self._names: dict[str, tuple[bytes, int]] = {}
        self._held: list[tuple[bytes, Head, bytes]] = []
        self._sent: dict[Line, tuple[int, int]] = {}
        self._moved: dict[Line, int] = {}
        self._tell_at: float | None = None
        self._mark = 0
        self._mark_at: float | None = None
        """When the next mark is placed, or, while one is out, when it is late."""
        self._placed_at = -BETWEEN_S
        self._is_marked = False
        self._marked: dict[bytes, int] = {}

    @property
    def deadline(self) -> float | None:
        """When to call `expire`; None while nothing is due."""
        due = [at for at in (self._mark_at, self._tell_at) if at is not None]
        return min(due, default=None)

    @property
    def is_open(self) -> bool:
        """Whether every expected peer is there, so that events go out."""
        return not self._expected

    @property
    def peers(self) -> Iterable[bytes]:
        """Everybody who has joined."""
        return self._peers.keys()

    # --- peers come and go ------------------------------------------------------------------------

    def open(self, now: float) -> list[Action]:
        """Wait for nobody any longer; send out what was held."""
        self._expected.clear()
        held, self._held = self._held, []
        return [action for run in held for action in self._fan_out(*run, now)]

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
        self._peers[peer] = _Peer(name, answered=self._mark, arrived=arrived)
        self._expected.discard(name)
        if arrived and self.is_open:
            self._mark_soon(now)  # it may not have heard what was accepted
        # It may have been away while others got the last events.
        told = self._tell_numbers(peer)
        return arrived, [*told, *self._release(now)]

    def place_of(self, name: str) -> bytes | None:
        """Give the connection over which a peer has joined last."""
        known = self._names.get(name)
        return None if known is None else known[0]

    def knows(self, peer: bytes) -> bool:
        """Say whether a peer has joined, over this connection."""
        return peer in self._peers

    def leave(self, name: str, now: float) -> list[Action]:
        """Wait for a peer no longer, for example because its node is gone."""
        peer = self._names.pop(name, (b"", 0))[0]
        self._expected.discard(name)
        self._peers.pop(peer, None)
        return [*self._release(now), *self._settle(now)]

    def _release(self, now: float) -> list[Action]:
        return self.open(now) if self.is_open and self._held else []

    # --- runs -------------------------------------------------------------------------------------

    def arrive(self, peer: bytes, head: Head, frame: bytes, now: float) -> list[Action]:
        """Take in a run.

        What arrived before is dropped, and what comes from a peer that has not joined, or that
        claims to be another.
        """
        origin = self._peers.get(peer)
        if origin is None or not origin.may_say(head):
            return []
        if head.transmission > origin.arrived:
            origin.arrived = head.transmission
            return self._take(peer, head, frame, now)
        if head.sticky and self.kept.last_of(head.topic) is None:
            self.kept.keep(head, frame, now)  # everybody has it, but not who subscribes later
        return []

    def publish(self, head: Head, frame: bytes, now: float) -> list[Action]:
        """Take in a run of the daemon's own."""
        return self._take(b"", head, frame, now)

    def _take(self, peer: bytes, head: Head, frame: bytes, now: float) -> list[Action]:
        self.kept.keep(head, frame, now)
        if not self.is_open:
            self._held.append((peer, head, frame))
            return []
        return self._fan_out(peer, head, frame, now)

    def _fan_out(self, peer: bytes, head: Head, frame: bytes, now: float) -> list[Action]:
        line = head.line
        first, _ = self._sent.pop(line, (head.first, 0))
        self._sent[line] = (first, head.last)
        if len(self._sent) > MAX_LINES:
            del self._sent[next(iter(self._sent))]
        self._moved[line] = 2
        if self._tell_at is None:
            self._tell_at = now + TELL_S
        self._mark_soon(now)
        sent = FanOut(head, frame)
        return [sent, Ask(peer, head)] if head.report else [sent]

    # --- marks ------------------------------------------------------------------------------------

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
        """Do what is due; early and late calls are harmless."""
        actions: list[Action] = []
        if self._mark_at is not None and now >= self._mark_at:
            actions += self._lose_patience(now) if self._is_marked else self._place_mark(now)
        self.kept.expire(now)
        if self._tell_at is not None and now >= self._tell_at:
            actions += self._tell_moved(now)
        return actions

    def _lose_patience(self, now: float) -> list[Action]:
        for peer in self._peers.values():
            peer.late = peer.late or peer.answered < self._mark
            peer.has_missed = peer.has_missed or peer.late
        return self._settle(now)

    def _settle(self, now: float) -> list[Action]:
        waited_for = [peer for peer in self._peers.values() if not peer.late]
        if not self._is_marked or any(peer.answered < self._mark for peer in waited_for):
            return []
        self._is_marked, self._mark_at = False, None
        accepts: list[Action] = []
        for key, transmission in self._marked.items():
            peer = self._peers.get(key)
            if peer is not None and transmission > peer.accepted:
                peer.accepted = transmission
                accepts.append(Accept(key, transmission))
        if any(peer.arrived != peer.accepted for peer in self._peers.values()):
            self._mark_at = self._soon(now)
        elif any(peer.has_missed for peer in self._peers.values()):
            # Its queue was full, perhaps for the last mark too: ask it again, but not all the time.
            self._mark_at = now + LATE_S
        return accepts

    def _mark_soon(self, now: float) -> None:
        # Where one is due later, it is for somebody who missed something: that holds nobody up.
        soon = self._soon(now)
        if not self._is_marked and (self._mark_at is None or self._mark_at > soon):
            self._mark_at = soon

    def _soon(self, now: float) -> float:
        return max(now + MARK_S, self._placed_at + BETWEEN_S)

    def _place_mark(self, now: float) -> list[Action]:
        self._mark += 1
        self._is_marked, self._placed_at = True, now
        self._marked = {key: peer.arrived for key, peer in self._peers.items()}
        self._mark_at = now + LATE_S
        return [Mark(self._mark), *self._settle(now)]

    # --- last numbers -----------------------------------------------------------------------------

    def _tell_moved(self, now: float) -> list[Action]:
        lines = tuple(
            LastNumber(*line, *self._sent[line]) for line in self._moved if line in self._sent
        )
        self._moved = {line: times - 1 for line, times in self._moved.items() if times > 1}
        self._tell_at = now + TELL_S if self._moved else None
        return [TellNumbers(None, lines)] if lines else []

    def _tell_numbers(self, peer: bytes) -> list[Action]:
        lines = tuple(LastNumber(*line, *sent) for line, sent in self._sent.items())
        return [TellNumbers(peer, lines)] if lines else []
