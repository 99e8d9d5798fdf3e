"""Decide which events leave together: consecutive ones of a type, within bounds. No I/O, no clock.

What follows each other stays in order, so a change of type begins a new batch.

Most events of a flood are like the one before and say numbers alone: these join it in one step,
in half of the time that it takes to find out what an event is.
"""

from collections import deque
from typing import Final

from protocol.errors import UsageError
from protocol.events import BUILT_IN, PluginEvent
from protocol.names import Topic
from protocol.payloads import pack_numbers
from protocol.runs import MAX_RUN, MAX_TYPES, Publication, pack_body
from protocol.shapes import SHAPES

MAX_BATCH: Final = 32 * 1024
"""What the events of one batch may cost together; a single event may cost more. Small enough that
1,000 batches, which is what may wait for a peer of the bus, are 32 MiB."""

LEAST: Final = MAX_BATCH // MAX_RUN
"""What an event costs at least, so that a batch never has more than a run may have."""


MOST: Final = 32
"""Bytes of an event of numbers alone, at most: a built-in one has no more than three of them."""

assert max(len(shape.fields) for shape in SHAPES.values()) * 9 < MOST


class _Batch:
    __slots__ = ("alone", "payloads", "room", "skipped", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.payloads: list[bytes] = []
        self.room = MAX_BATCH
        self.skipped = 0
        self.alone: Publication | None = None


_NONE: Final = _Batch(Topic(""))


class Batches:
    """Events that wait to leave, oldest first; lives as long as their publisher."""

    def __init__(self) -> None:
        self._waiting: deque[_Batch] = deque()
        self._last = _NONE
        self._topics: set[Topic] = set()
        self.topic = _NONE.topic
        """The type of those that may join the newest batch; empty where none may."""
        self.kind: type[PluginEvent] | None = None
        """Their class, if the type is built in."""

    def __len__(self) -> int:
        """Give the number of batches."""
        return len(self._waiting)

    def join(self, topic: Topic, payload: bytes) -> bool:
        """Add an event to the newest batch; False, and nothing is done, if it has to begin one."""
        batch = self._last
        cost = len(payload)
        if cost < LEAST:  # noqa: PLR1730 - max() takes three times as long, for every event
            cost = LEAST
        if batch.topic != topic or batch.room < cost:
            return False
        batch.payloads.append(payload)
        batch.room -= cost
        return True

    def join_numbers(self, event: PluginEvent) -> bool:
        """Add an event as it is; False, and nothing is done, where that is not so simple."""
        if event.__class__ is not self.kind:
            return False
        batch, shape = self._last, SHAPES[event.__class__]
        if batch.room < MOST or shape.types(event) not in shape.numbers:
            return False
        try:
            payload = pack_numbers(shape.values(event))
        except (OverflowError, TypeError):
            return False
        batch.payloads.append(payload)
        batch.room -= LEAST if (size := len(payload)) < LEAST else size
        return True

    def begin(self, topic: Topic, payload: bytes) -> None:
        """Begin a batch with an event.

        Raises:
            UsageError: That would be a type too many.
        """
        self._note(topic)
        batch = self._last = _Batch(topic)
        self.topic, self.kind = topic, BUILT_IN.get(topic)
        batch.payloads.append(payload)
        batch.room -= max(len(payload), LEAST)
        self._waiting.append(batch)

    def add_alone(self, said: Publication) -> None:
        """Add an event that travels by itself, because something is asked for it.

        Raises:
            UsageError: As `begin` does.
        """
        self._note(said.topic)
        batch = _Batch(said.topic)
        batch.alone = said
        self._waiting.append(batch)
        self._end_newest()

    def skip(self, topic: Topic) -> None:
        """Count an event that was given up, so that those behind it show the gap.

        Raises:
            UsageError: As `begin` does.
        """
        self._note(topic)
        if not self._waiting or self._waiting[-1].topic != topic or not self._waiting[-1].skipped:
            self._waiting.append(_Batch(topic))
        self._waiting[-1].skipped += 1
        self._end_newest()

    def _end_newest(self) -> None:
        self._last = _NONE
        self.topic, self.kind = _NONE.topic, None

    def _note(self, topic: Topic) -> None:
        if topic not in self._topics and len(self._topics) >= MAX_TYPES:
            raise UsageError(f"more than {MAX_TYPES} types of events from one publisher")
        self._topics.add(topic)

    @property
    def newest(self) -> int:
        """How many events are in the batch that others may still join."""
        return len(self._last.payloads)

    def take(self) -> Publication:
        """Take the oldest batch out; one without a body is of events that were given up.

        Raises:
            IndexError: Nothing waits.
        """
        batch = self._waiting.popleft()
        if batch is self._last:
            self._end_newest()
        if batch.alone is not None:
            return batch.alone
        if batch.skipped:
            return Publication(batch.topic, b"", batch.skipped)
        return Publication(batch.topic, pack_body(batch.payloads), len(batch.payloads))
