"""Decide which runs the hub keeps, for who missed some and for who comes late. No I/O, no clock.

    arrives --> kept, with its source's others in order --> given up: the budget is spent and no
                                                        |   source keeps more than this one
                                                        +-> given up: older than MAX_AGE_S

Whoever keeps most gives up its oldest, so a flood costs the others nothing. The last run of a
sticky type is kept beside all that, until there is a newer one. Frames are kept unread.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from typing import Final

from protocol.errors import UsageError
from protocol.feed import Replay
from protocol.names import EVERYTHING, FAMILY, Topic
from protocol.patterns import matches
from protocol.runs import Head, Line
from spiral_host.rings import GONE, Entry, Ring, newest_of, serial_of, stamped_since

BUDGET: Final = 16 << 20
"""Bytes kept for replays, all sources together."""

OVERHEAD: Final = 512
"""Bytes that a run is charged beside its frame, so that small ones are bounded, too: its entry and
its share of the tables take 260, or 980 where it is the only run of its source."""

MAX_AGE_S: Final = 300.0
"""How long a run is kept at most, seconds; sweeping may come `SWEEP_S` later."""

SWEEP_S: Final = 5.0
"""Sources are looked through for what is too old no more often than this, seconds."""

MAX_REPLAY: Final = 768 << 10
"""Bytes of one answer, so that it stays below a message's limit; the rest is a gap."""

MAX_STICKY: Final = 256
"""Sticky types. With one run each, of at most 57 KiB, they take no more than the budget does."""


@dataclass(slots=True, eq=False)
class _Source:
    name: str
    ring: Ring = field(default_factory=Ring)
    cost: int = 0
    bound: int = 0
    """Not below `cost`; what its place in the order of sources says."""


class Kept:
    """What one hub keeps; lives as long as it.

    Args:
        budget: Bytes of all kept runs together, sticky ones apart.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.cost = 0
        """Bytes that are kept now, as they are charged; at most the budget."""
        self._budget = budget
        self._arrived = 0
        self._sweep_at = -inf
        self._sources: dict[str, _Source] = {}
        self._lines: dict[Line, Ring] = {}
        self._topics: dict[Topic, dict[Line, Ring]] = {}
        self._sticky: dict[Topic, Entry] = {}
        self._order: list[tuple[int, str]] = []
        """A heap, the largest source first. Only what stands at its top need be exact."""

    def keep(self, head: Head, frame: bytes, now: float) -> None:
        """Keep a run, and give up others for it.

        A sticky run makes its type sticky, unless `MAX_STICKY` others are.
        """
        self.expire(now)
        source = self._sources.get(head.source)
        if source is None:
            source = self._sources[head.source] = _Source(head.source)
        entry = self._append(head, frame, now)
        source.ring.append(entry)
        cost = len(frame) + OVERHEAD
        source.cost += cost
        self.cost += cost
        if source.cost > source.bound:
            self._place(source)
        while self.cost > self._budget:
            self._drop_oldest(self._largest())

    def expire(self, now: float) -> None:
        """Give up what is too old; early and late calls are harmless, `keep` is one of them."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        for source in list(self._sources.values()):
            while source.ring and source.ring.oldest.at < now - MAX_AGE_S:
                self._drop_oldest(source)

    def replay(self, wanted: Replay) -> list[bytes]:
        """Give the kept frames that hold any of the wanted numbers.

        Returns:
            Oldest first, at most `MAX_REPLAY` bytes: what does not fit is the newest.
        """
        key = (wanted.source, wanted.incarnation, Topic(wanted.topic))
        ring = self._lines.get(key, Ring())
        found = ring.between(wanted.first, wanted.last)
        sticky = self._sticky.get(key[2], GONE)
        overlaps = sticky.first <= wanted.last and sticky.last >= wanted.first
        if sticky.line == key and overlaps and not sticky.is_kept:
            found = chain([sticky], found)
        return [entry.frame for entry in _fitting(found)]

    def recall(self, pattern: Topic, last: int, since: float, now: float) -> list[bytes]:
        """Give what a late joiner to a pattern asks for, in order of arrival.

        These are whole runs. The oldest may hold more events than were asked for, and a sticky
        run may be older than all the others: who receives them cuts them down.

        Args:
            last: Events that the newest runs have to hold together; 0 goes by `since` instead.
            since: Seconds since the epoch; runs stamped then or later. `math.inf` asks for
                nothing but the values of sticky types, which every answer holds.
        Returns:
            At most `MAX_REPLAY` bytes: sticky runs go before others, newer ones before older.
        """
        self.expire(now)
        topics = self._matching(pattern)
        sticky = {self._sticky.get(topic, GONE) for topic in topics} - {GONE}
        rings = [ring for topic in topics for ring in self._topics.get(topic, {}).values()]
        wanted = newest_of(rings, last) if last > 0 else stamped_since(rings, since)
        others = (entry for entry in wanted if entry not in sticky)
        chosen = _fitting(chain(sorted(sticky, key=serial_of, reverse=True), others))
        return [entry.frame for entry in sorted(chosen, key=serial_of)]

    # --- sticky types -----------------------------------------------------------------------------

    @property
    def sticky(self) -> frozenset[Topic]:
        """The types whose last run is always kept."""
        return frozenset(self._sticky)

    def make_sticky(self, topic: Topic) -> None:
        """Keep the last run of a type from now on, beginning with what is kept of it now.

        Raises:
            UsageError: There are `MAX_STICKY` others.
        """
        if topic in self._sticky:
            return
        if len(self._sticky) >= MAX_STICKY:
            raise UsageError(f"{topic} cannot be sticky: {MAX_STICKY} event types are already")
        lines = self._topics.get(topic, {}).values()
        self._sticky[topic] = max((ring.newest for ring in lines), key=serial_of, default=GONE)

    def last_of(self, topic: Topic) -> bytes | None:
        """Give the last run of a sticky type; None if it has had none, or is not sticky."""
        entry = self._sticky.get(topic, GONE)
        return None if entry is GONE else entry.frame

    # --- keeping and giving up --------------------------------------------------------------------

    def _append(self, head: Head, frame: bytes, now: float) -> Entry:
        key = head.line
        ring = self._lines.get(key)
        if ring is None:
            ring = self._lines[key] = Ring()
            self._topics.setdefault(head.topic, {})[key] = ring
        latest = -inf
        if ring:
            newest = ring.newest
            key, latest = newest.line, newest.latest
            ring.is_ordered = ring.is_ordered and head.first > newest.last
        latest = max(latest, head.ts)  # in this order: a stamp that is no number is passed over
        self._arrived += 1
        entry = Entry(key, self._arrived, now, head.first, head.last, head.ts, latest, frame)
        ring.append(entry)
        if head.topic in self._sticky or (head.sticky and len(self._sticky) < MAX_STICKY):
            self._sticky[head.topic] = entry
        return entry

    def _drop_oldest(self, source: _Source) -> None:
        entry = source.ring.drop_oldest()
        entry.is_kept = False
        cost = len(entry.frame) + OVERHEAD
        source.cost -= cost
        self.cost -= cost
        # A source's oldest run is its line's oldest, too.
        ring = self._lines[entry.line]
        ring.drop_oldest()
        if not ring:
            self._forget_line(entry.line)
        if not source.ring:
            del self._sources[source.name]

    def _forget_line(self, key: Line) -> None:
        del self._lines[key]
        lines = self._topics[key[2]]
        del lines[key]
        if not lines:
            del self._topics[key[2]]

    # --- who keeps most ---------------------------------------------------------------------------

    def _place(self, source: _Source) -> None:
        source.bound = source.cost
        heapq.heappush(self._order, (-source.bound, source.name))
        if len(self._order) > 2 * len(self._sources) + 64:
            for each in self._sources.values():
                each.bound = each.cost
            self._order = [(-each.cost, name) for name, each in self._sources.items()]
            heapq.heapify(self._order)

    def _largest(self) -> _Source:
        while True:
            bound, name = self._order[0]
            source = self._sources.get(name)
            if source is None or source.bound != -bound:
                heapq.heappop(self._order)  # placed again since, or gone
            elif source.cost < source.bound:
                source.bound = source.cost
                heapq.heapreplace(self._order, (-source.cost, name))
            else:
                return source

    def _matching(self, pattern: Topic) -> Iterable[Topic]:
        if pattern != EVERYTHING and not pattern.endswith(FAMILY):
            return [pattern]
        topics = self._topics.keys() | self._sticky.keys()
        return [topic for topic in topics if pattern == EVERYTHING or matches(pattern, topic)]


def _fitting(entries: Iterable[Entry]) -> Iterator[Entry]:
    size = 0
    for entry in entries:
        size += len(entry.frame)
        if size > MAX_REPLAY:
            return
        yield entry
