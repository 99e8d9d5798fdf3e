"""Hold kept runs in order of arrival, cheap to drop at one end and to find in the middle. No I/O.

A ring holds what is kept of one line (one type by one life of one source) or of one whole source.
What bounds it is decided in keeping.py.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from operator import attrgetter
from typing import Final

from protocol.names import Topic
from protocol.runs import Line


@dataclass(slots=True, eq=False)
class Entry:
    """A kept run, and what has to be known of it without reading it.

    Attributes:
        serial: Its place in the order of arrival, over all lines.
        at: When it arrived, seconds on the caller's monotonic clock.
        ts: When it was stamped, seconds since the epoch.
        latest: The latest stamp of its line so far: a clock may be set back, this is not.
    """

    line: Line
    serial: int
    at: float
    first: int
    last: int
    ts: float
    latest: float
    frame: bytes
    is_kept: bool = True


GONE: Final = Entry(("", 0, Topic("")), -1, -inf, 0, 0, -inf, -inf, b"", is_kept=False)
"""Stands for no run."""

serial_of = attrgetter("serial")
_last = attrgetter("last")
_latest = attrgetter("latest")


class Ring:
    """Runs in order of arrival; a list, because a deque is ten times as large with one run."""

    __slots__ = ("_entries", "_start", "is_ordered")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._start = 0
        self.is_ordered = True
        """Whether their numbers only rise, as they do from an honest source."""

    def __bool__(self) -> bool:
        return self._start < len(self._entries)

    def append(self, entry: Entry) -> None:
        self._entries.append(entry)

    @property
    def oldest(self) -> Entry:
        return self._entries[self._start]

    @property
    def newest(self) -> Entry:
        return self._entries[-1]

    def drop_oldest(self) -> Entry:
        """Give the oldest run up; the list closes up once half of it is gone."""
        entry = self._entries[self._start]
        self._entries[self._start] = GONE
        self._start += 1
        if self._start * 2 >= len(self._entries):
            del self._entries[: self._start]
            self._start = 0
        return entry

    def tail(self, count: int) -> list[Entry]:
        """Give the newest runs, oldest first."""
        return self._entries[max(self._start, len(self._entries) - count) :]

    def since(self, ts: float) -> list[Entry]:
        """Give the runs of this one line from the first on that may have this stamp."""
        return self._entries[bisect_left(self._entries, ts, lo=self._start, key=_latest) :]

    def between(self, first: int, last: int) -> Iterator[Entry]:
        """Give the runs of this one line that overlap the numbers, oldest first."""
        at = self._start
        if self.is_ordered:
            at = bisect_left(self._entries, first, lo=at, key=_last)
        for place in range(at, len(self._entries)):
            entry = self._entries[place]
            if entry.first > last and self.is_ordered:
                return
            if entry.first <= last and entry.last >= first:
                yield entry


def newest_of(rings: Iterable[Ring], last: int) -> list[Entry]:
    """Give the newest runs of lines that together hold so many events, newest first."""
    # A run holds an event or more: neither lines nor runs beyond that many are needed.
    spoke = heapq.nlargest(last, rings, key=lambda ring: ring.newest.serial)
    entries = [entry for ring in spoke for entry in ring.tail(last)]
    entries.sort(key=serial_of, reverse=True)
    reached = accumulate((entry.last - entry.first + 1 for entry in entries), initial=0)
    return [entry for entry, events in zip(entries, reached, strict=False) if events < last]


def stamped_since(rings: Iterable[Ring], ts: float) -> list[Entry]:
    """Give the runs of lines that were stamped then or later, newest first."""
    late = (ring for ring in rings if ring.newest.latest >= ts)
    entries = [entry for ring in late for entry in ring.since(ts) if entry.ts >= ts]
    return sorted(entries, key=serial_of, reverse=True)
