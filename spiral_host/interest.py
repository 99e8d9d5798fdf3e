"""Decide what nodes are told of what is wanted, and when a subscription is in force. No I/O.

    subscribed, unsubscribed --> TellInterest to every node --> it has written its page
    echo ------------------------------------------------------> all have: AnswerEcho

Each node is told one thing at a time: what changes until it has confirmed that, it hears with the
next word. So it takes few words to subscribe to much. What does not fit into one goes in several:
a list that has only begun says that everything is wanted, and its last piece takes that back.
"""

from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeAlias

from protocol.names import EVERYTHING, Topic

PIECE: Final = 4000
"""Patterns in one word: at 200 bytes each they stay below a message's 1 MiB."""


@dataclass(frozen=True, slots=True)
class TellInterest:
    """Tell a peer what is wanted now, and what no longer; `full`: what it was told is void."""

    peer: bytes
    generation: int
    added: tuple[Topic, ...]
    removed: tuple[Topic, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class AnswerEcho:
    """Send this mark to its subscriber: what it subscribed to before holds everywhere."""

    mark: bytes


Action: TypeAlias = TellInterest | AnswerEcho


@dataclass(slots=True)
class _Peer:
    """One node, and how far it is.

    Attributes:
        changes: What it has not been told yet, oldest first: wanted now, or no longer.
        is_full: Whether what it is told next voids what it was told before.
        unconfirmed: The generation that it has not written yet; 0 when it has.
        told: Changes, of all there were, that it will have written when it confirms.
        written: Changes that it has written; -1 before it has confirmed anything.
    """

    changes: dict[Topic, bool] = field(default_factory=dict)
    is_full: bool = True
    unconfirmed: int = 0
    told: int = -1
    written: int = -1


@dataclass(frozen=True, slots=True)
class _Echo:
    """One mark, after how many changes it came, and whom it waits for."""

    changes: int
    waits_for: set[bytes]


class Interest:
    """What all peers of the bus want; lives as long as the daemon.

    Args:
        piece: How many patterns go into one word.
    """

    def __init__(self, piece: int = PIECE) -> None:
        self._piece = piece
        self._subscribed: set[Topic] = set()
        self._peers: dict[bytes, _Peer] = {}
        self._echoes: dict[bytes, _Echo] = {}
        self._changes = 0
        self._generation = 0

    @property
    def wanted(self) -> frozenset[Topic]:
        """Every pattern that some peer wants."""
        return frozenset(self._subscribed)

    # --- what is wanted ---------------------------------------------------------------------------

    def subscribed(self, pattern: Topic) -> list[Action]:
        """A peer wants a pattern, perhaps as others do."""
        if pattern in self._subscribed:
            return []
        self._subscribed.add(pattern)
        return self._changed(pattern, wanted=True)

    def unsubscribed(self, pattern: Topic) -> list[Action]:
        """No peer wants a pattern any more."""
        if pattern not in self._subscribed:
            return []
        self._subscribed.discard(pattern)
        return self._changed(pattern, wanted=False)

    def _changed(self, pattern: Topic, *, wanted: bool) -> list[Action]:
        self._changes += 1
        for peer in self._peers.values():
            peer.changes[pattern] = wanted
        return [action for key in self._peers for action in self._tell(key)]

    # --- echoes -----------------------------------------------------------------------------------

    def echo(self, mark: bytes) -> list[Action]:
        """Answer a mark once what was subscribed to before it holds at every peer of now.

        One that comes again, because its subscriber has reconnected, is answered for the last time.
        """
        late = {key for key, peer in self._peers.items() if peer.written < self._changes}
        self._echoes[mark] = _Echo(self._changes, late)
        return self._answer()

    def withdrawn(self, mark: bytes) -> None:
        """Nobody waits for this mark any more."""
        self._echoes.pop(mark, None)

    def _answer(self) -> list[Action]:
        ready = [mark for mark, echo in self._echoes.items() if not echo.waits_for]
        for mark in ready:
            del self._echoes[mark]
        return [AnswerEcho(mark) for mark in ready]

    # --- nodes ------------------------------------------------------------------------------------

    def joined(self, key: bytes, before: bytes | None = None) -> list[Action]:
        """Take on a peer that filters, and tell it everything.

        Args:
            before: Its key until now, if it has only reconnected: who waited for it still does.
        """
        if before is not None:
            self._peers.pop(before, None)
            for echo in self._echoes.values():
                if before in echo.waits_for:
                    echo.waits_for.remove(before)
                    echo.waits_for.add(key)
        self._peers[key] = _Peer()
        return self.resend(key)

    def left(self, key: bytes) -> list[Action]:
        """Wait for a peer no longer: it is gone."""
        if self._peers.pop(key, None) is None:
            return []
        for echo in self._echoes.values():
            echo.waits_for.discard(key)
        return self._answer()

    def resend(self, key: bytes) -> list[Action]:
        """Tell a peer everything, because telling it failed; call it when it may have room again.

        Until then it is told nothing, and echoes wait for it.
        """
        peer = self._peers.get(key)
        if peer is None:
            return []
        patterns = sorted(self.wanted)
        if len(patterns) > self._piece:
            patterns.insert(0, EVERYTHING)  # until the last piece has been told
        peer.changes = dict.fromkeys(patterns, True)
        peer.is_full, peer.unconfirmed = True, 0
        return self._tell(key)

    def written(self, key: bytes, generation: int) -> list[Action]:
        """Take in that a peer's page says what a generation told it."""
        peer = self._peers.get(key)
        if peer is None or generation != peer.unconfirmed:
            return []
        peer.unconfirmed, peer.written = 0, peer.told
        for echo in self._echoes.values():
            if echo.changes <= peer.written:
                echo.waits_for.discard(key)
        return [*self._tell(key), *self._answer()]

    def _tell(self, key: bytes) -> list[Action]:
        peer = self._peers[key]
        if peer.unconfirmed or not (peer.changes or peer.is_full):
            return []
        piece = list(islice(peer.changes.items(), self._piece))
        for pattern, _ in piece:
            del peer.changes[pattern]
        added = [pattern for pattern, is_wanted in piece if is_wanted]
        removed = [pattern for pattern, is_wanted in piece if not is_wanted]
        if not peer.changes:
            peer.told = self._changes
        elif peer.is_full and EVERYTHING not in self._subscribed:
            peer.changes[EVERYTHING] = False
        self._generation += 1
        peer.unconfirmed, is_full, peer.is_full = self._generation, peer.is_full, False
        return [TellInterest(key, self._generation, tuple(added), tuple(removed), is_full)]
