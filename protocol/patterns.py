"""What can be subscribed to: `Trainer.epoch`, every `Trainer.*`, or `*`. No I/O.

A topic is matched by few patterns, and all of them can be read off its own name: itself, a family
for each of its dots, and everything. So whoever looks for those who want it looks up these few, and
never goes through all that is subscribed to.

    for ZeroMQ, which knows prefixes:   epoch -> b"epoch\\0"   Trainer.* -> b"Trainer."   * -> b""
"""

import threading
from collections.abc import Hashable, KeysView
from itertools import count
from typing import Final, Generic, TypeVar

from protocol.errors import UsageError
from protocol.names import EVERYTHING, FAMILY, Topic, parse_pattern, parse_topic

K = TypeVar("K", bound=Hashable)

MAX_CACHED: Final = 1024
"""Topics whose match is remembered; a plugin may make up a new one for every event."""


def patterns_of(topic: Topic) -> tuple[Topic, ...]:
    """Give every pattern that matches a topic: its name, its families, everything."""
    if "." not in topic:
        return topic, EVERYTHING
    dots = (at for at, character in enumerate(topic) if character == ".")
    return topic, *(Topic(topic[:at] + FAMILY) for at in dots), EVERYTHING


def matches(pattern: str, topic: str) -> bool:
    """Say whether events of a type go to those who subscribed to a pattern."""
    if pattern.endswith(FAMILY):
        return topic.startswith(pattern[:-1])
    return pattern in (topic, EVERYTHING)


def wanted_prefix(pattern: Topic) -> bytes:
    """Give what a SUB socket subscribes to for a pattern; a name ends where its topic ends."""
    if pattern == EVERYTHING:
        return b""
    if pattern.endswith(FAMILY):
        return pattern[:-1].encode()
    return pattern.encode() + b"\0"


def pattern_of(prefix: bytes) -> Topic | None:
    """Give the pattern that a SUB socket subscribed to; None where it wants something else."""
    try:
        if prefix.endswith(b"\0"):
            return parse_topic(prefix[:-1].decode())
        if not prefix or prefix.endswith(b"."):
            return parse_pattern(prefix.decode() + "*")
    except (UsageError, UnicodeDecodeError):
        return None  # among them what opens with 0xFF, such as marks: that is no UTF-8
    return None


class _Place:
    """Where a key stands among the others, and how many patterns hold it there."""

    __slots__ = ("number", "patterns")

    def __init__(self, number: int) -> None:
        self.number = number
        self.patterns = 0


class PatternMap(Generic[K]):
    """Who wants what: keys by pattern. A change takes the same time however many there are.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._keys: dict[Topic, dict[K, None]] = {}
        self._places: dict[K, _Place] = {}
        self._numbers = count()
        self._cache: dict[Topic, tuple[K, ...]] = {}
        self.changes = 0
        """How often anybody has come to want something else: as long as that stays, so does
        whatever `matching` gave."""

    @property
    def patterns(self) -> KeysView[Topic]:
        """Every pattern that some key wants: a view, which follows the changes."""
        return self._keys.keys()

    def __contains__(self, pattern: object) -> bool:
        """Say whether some key wants just this pattern."""
        return pattern in self._keys

    def add(self, pattern: Topic, key: K) -> bool:
        """Let a key want a pattern; say whether it is the first to want it."""
        with self._changing:
            return self._add(pattern, key)

    def _add(self, pattern: Topic, key: K) -> bool:
        keys = self._keys.setdefault(pattern, {})
        if key in keys:
            return False
        keys[key] = None
        if key not in self._places:
            self._places[key] = _Place(next(self._numbers))
        self._places[key].patterns += 1
        self._changed()
        return len(keys) == 1

    def remove(self, pattern: Topic, key: K) -> bool:
        """Let a key want a pattern no more; say whether it was the last to want it."""
        with self._changing:
            return self._remove(pattern, key)

    def _remove(self, pattern: Topic, key: K) -> bool:
        keys = self._keys.get(pattern)
        if keys is None or key not in keys:
            return False
        del keys[key]
        self._places[key].patterns -= 1
        if not self._places[key].patterns:
            del self._places[key]
        if not keys:
            del self._keys[pattern]
        self._changed()
        return not keys

    def _changed(self) -> None:
        self._cache.clear()
        self.changes += 1

    def matching(self, topic: Topic) -> tuple[K, ...]:
        """Give those who want a topic, each once, in the order in which they came."""
        found = self._cache.get(topic)
        if found is None:
            with self._changing:
                found = self._look_up(topic)
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                self._cache[topic] = found
        return found

    def wants(self, topic: Topic) -> bool:
        """Say whether anybody wants a topic."""
        return bool(self.matching(topic))

    def _look_up(self, topic: Topic) -> tuple[K, ...]:
        found: dict[K, None] = {}
        for pattern in patterns_of(topic):
            found.update(self._keys.get(pattern, {}))
        return tuple(sorted(found, key=lambda key: self._places[key].number))
