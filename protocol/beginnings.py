"""Tell lines that began while a subscriber listened from those that were there before. No I/O.

Of a line that began meanwhile, everything is due, also what was lost before its first run came.
A line is new when the hub tells of it for the first time. Of one source and type the latest lives
are remembered, and those before them are old: lives are numbered upwards.
"""

from typing import Final

from protocol.follower import MAX_LIVES
from protocol.names import Topic
from protocol.patterns import patterns_of
from protocol.runs import Line

SETTLED_S: Final = 2.0
"""How old a subscription is before it is due the beginning of what is new, seconds: until it has
reached every publisher, what it did not get was not lost."""

MAX_SOURCES: Final = 100_000
"""Sources and types of which it is known whether they are new; 300 bytes each."""


class Beginnings:
    """One subscriber's; lives as long as it."""

    def __init__(self) -> None:
        self._since: dict[Topic, float] = {}
        self._lives: dict[tuple[str, Topic], tuple[int, ...]] = {}

    def subscribed(self, pattern: Topic, now: float) -> None:
        """A pattern is wanted from now on; once it is, nothing new."""
        self._since.setdefault(pattern, now)

    def unsubscribed(self, pattern: Topic) -> None:
        """It is wanted no more."""
        self._since.pop(pattern, None)

    def told(self, line: Line, now: float) -> bool:
        """The hub has told of a line; say whether it began while it was subscribed to."""
        source, incarnation, topic = line
        key = (source, topic)
        lives = self._lives.get(key, ())
        is_older = len(lives) == MAX_LIVES and incarnation < lives[0]
        if incarnation in lives or is_older:
            return False
        if not lives and len(self._lives) >= MAX_SOURCES:
            return False  # whether it is new cannot be known: then it is not
        self._lives[key] = tuple(sorted((*lives, incarnation))[-MAX_LIVES:])
        since = (self._since.get(pattern) for pattern in patterns_of(topic))
        return any(when is not None and when + SETTLED_S <= now for when in since)
