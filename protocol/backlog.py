"""Decide whether a subscriber is given more, or is told later what it missed. No I/O, no clock.

It falls behind within bounds, which costs nobody else anything. Beyond them it misses events; when
it has caught up it is told which, once for each line of numbers, and goes on behind them. The last
event of a sticky type is not missed but late.
"""

from collections import deque
from typing import Final, TypeAlias

from protocol.follower import Delivery
from protocol.names import Topic
from protocol.runs import Line, Missing, Run

MAX_EVENTS: Final = 131_072
MAX_BYTES: Final = 2 << 20
"""What one subscriber may be behind: 0.2 s of the fastest stream measured; in bytes, as much as a
hundred of them may be behind without a node that grows by more than 200 MiB."""

MAX_LATE: Final = 256
"""Sticky types whose last event is kept for it, as many as the hub keeps. Others are missed."""


_Hole: TypeAlias = tuple[int, int, Run | None]
"""First and last number that it was not given; and the run at the end, if that is only late."""


def _end(hole: _Hole) -> int:
    """Give the number behind the last that is missed."""
    _, last, late = hole
    return last + 1 if late is None else late.head.first


class Backlog:
    """What one subscriber has not run yet; lives as long as its subscriptions.

    Args:
        events: How many it may be behind, and how many bytes.
    """

    def __init__(self, events: int = MAX_EVENTS, size: int = MAX_BYTES) -> None:
        self._max_events = events
        self._max_size = size
        self.missed = 0
        """Events that it never got, all in all."""
        self._sent = 0
        self._ran = 0
        self._size = 0
        self._under_way: deque[tuple[int, int]] = deque()
        self._holes: dict[Line, _Hole] = {}
        self._late = 0

    @property
    def is_full(self) -> bool:
        """Whether it misses what comes now."""
        return self._sent - self._ran >= self._max_events or self._size >= self._max_size

    @property
    def lag(self) -> int:
        """How many events it has been given and has not run."""
        return self._sent - self._ran

    @property
    def has_missed(self) -> bool:
        """Whether there is something that it must be told."""
        return bool(self._holes)

    def sent(self, events: int, size: int) -> None:
        """Count a run on its way to the subscriber."""
        self._sent += events
        self._size += size
        self._under_way.append((self._sent, size))

    def ran(self, total: int) -> None:
        """Take in how many events it says it has run, since it began."""
        self._ran = max(self._ran, min(total, self._sent))
        while self._under_way and self._under_way[0][0] <= self._ran:
            self._size -= self._under_way.popleft()[1]

    def miss(self, delivery: Delivery) -> None:
        """Remember what it is not given."""
        about = delivery.head if isinstance(delivery, Run) else delivery
        line: Line = (about.source, about.incarnation, Topic(about.topic))
        known = self._holes.get(line)
        first = about.first if known is None else known[0]
        was_late = known is not None and known[2] is not None
        late = delivery if isinstance(delivery, Run) and delivery.head.sticky else None
        if not was_late and self._late >= MAX_LATE:
            late = None
        self._late += (late is not None) - was_late
        hole = self._holes[line] = (first, about.last, late)
        before = first if known is None else _end(known)
        self.missed += _end(hole) - before

    def take_missed(self) -> list[Delivery]:
        """Give what it must be told next, of one line: all of it may be too much at once."""
        told: list[Delivery] = []
        if not self._holes:
            return told
        line = next(iter(self._holes))
        hole = first, _, late = self._holes.pop(line)
        if _end(hole) > first:
            told.append(Missing(*line, first, _end(hole) - 1))
        if late is not None:
            told.append(late)
            self._late -= 1
        return told
