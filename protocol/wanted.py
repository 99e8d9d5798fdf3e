"""Decide what a node calls wanted: what the hub has told, and what its own workers want. No I/O.

    nothing told yet           -> everything
    the hub's list             -> that, and what this node's own workers subscribe to
    a list anew, in full       -> what the last one held stays wanted for a while, too

The hub that tells anew may be another one, after a daemon was killed. Clients come back to it later
than nodes do, so what is not in its list at first may be what they are about to want again.
"""

from collections.abc import Iterable
from typing import Final

from protocol.names import EVERYTHING, Topic

LINGER_S: Final = 10.0
"""How long what a hub told stays wanted after the next one's first list, seconds. A client is
back within about a second; one that swaps or is stopped for a moment may take longer."""

_NOTHING: Final[frozenset[Topic]] = frozenset()


class Wanted:
    """What one node's page should say; lives as long as the node. `now` never goes back.

    Attributes:
        generation: The hub's number for what it told last, to be confirmed when it is written.
        deadline: When to call `expire`; None while nothing is to be dropped.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.deadline: float | None = None
        self._told = {EVERYTHING}
        self._own = _NOTHING
        self._lingering = _NOTHING

    @property
    def patterns(self) -> frozenset[Topic]:
        """What belongs on the page."""
        patterns = self._lingering.union(self._told, self._own)
        return frozenset({EVERYTHING}) if EVERYTHING in patterns else patterns

    def told(
        self,
        generation: int,
        added: Iterable[Topic],
        removed: Iterable[Topic],
        full: bool,  # noqa: FBT001 - the message's own fields, in their order
        now: float,
    ) -> bool:
        """Take in what the hub says is wanted; False if `patterns` is what it was.

        Args:
            full: Whether `added` is all there is, and what was told before no longer counts.
        """
        if full:
            self._begin_anew(now)
        self.generation = generation
        was_wanted = all(map(self._has, added))
        self._told.update(added)
        self._told.difference_update(removed)
        return full or not was_wanted or not all(map(self._has, removed))

    def own(self, patterns: Iterable[Topic]) -> bool:
        """Take in what this node's own workers want, all of it; False if that changes nothing."""
        before, self._own = self._own, frozenset(patterns)
        return self._own != before

    def hub_lost(self) -> None:
        """The hub is gone: nothing is dropped until the next one has told its list."""
        self._told |= self._lingering
        self._lingering, self.deadline = _NOTHING, None

    def expire(self, now: float) -> bool:
        """Drop what nobody has come back for; False if it is too early, which is harmless."""
        if self.deadline is None or now < self.deadline:
            return False
        self._lingering, self.deadline = _NOTHING, None
        return True

    def _begin_anew(self, now: float) -> None:
        if self.generation:
            self._lingering = self._lingering.union(self._told)
            self.deadline = now + LINGER_S
        self._told = set()

    def _has(self, pattern: Topic) -> bool:
        return pattern in self._told or pattern in self._own or pattern in self._lingering
