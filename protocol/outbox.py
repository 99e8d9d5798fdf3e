"""Decide what a peer of the bus keeps until the hub has it everywhere. No I/O, no clock.

Here events get their numbers: (source, incarnation, topic, n). A run stays until it is accepted
and is sent again to a hub that comes back; a publisher whose ring is full has to wait, and
numbers that were given to events which nobody could keep show as a gap at every subscriber.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.names import Topic
from protocol.runs import MAX_TYPES, Head, Publication, Run, pack_run

RING_EVENTS: Final = 65_536
RING_BYTES: Final = 4 << 20
"""For one publisher: 0.1 s of the fastest stream measured, 40 MB/s, and far above the time
between two acceptances."""

RING_S: Final = 300.0
"""How long a run is kept for a hub that does not come, seconds: as long as the hub keeps one."""

MAX_STICKY: Final = 256
"""Types whose last event a peer keeps for the next hub."""


@dataclass(slots=True)
class _Ring:
    events: int = 0
    size: int = 0


class Outbox:
    """What one peer has sent and the hub has not accepted; lives as long as the peer."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], dict[Topic, int]] = {}
        self._rings: dict[tuple[str, int], _Ring] = {}
        self._kept: deque[Run] = deque()
        self._sticky: dict[Topic, Run] = {}
        self._transmission = 0
        self._looks: deque[tuple[float, int]] = deque()
        """When `expire` was called, and the last transmission by then."""

    def __len__(self) -> int:
        return len(self._kept)

    def has_room(self, source: str, incarnation: int) -> bool:
        """Say whether this publisher may add a run; one that does may overshoot by that run."""
        ring = self._rings.get((source, incarnation))
        return ring is None or (ring.events < RING_EVENTS and ring.size < RING_BYTES)

    def put(self, source: str, incarnation: int, said: Publication, ts: float) -> Run:
        """Number events, keep them, and give what has to be sent.

        Args:
            ts: Now, seconds since the epoch.

        Raises:
            RemoteProtocolError: The publisher has used too many types.
        """
        self._transmission += 1
        run = self.number(source, incarnation, said, ts)
        ring = self._rings.get((source, incarnation))
        if ring is None:
            ring = self._rings[source, incarnation] = _Ring()
        ring.events += said.events
        ring.size += len(run.frame)
        self._kept.append(run)
        if said.sticky:
            self._stick(run)
        return run

    def number(self, source: str, incarnation: int, said: Publication, ts: float) -> Run:
        """Number events that are not kept: whoever is not given them now will see a gap.

        Raises:
            RemoteProtocolError: The publisher has used too many types.
        """
        first = self.skip(source, incarnation, said.topic, said.events)
        head = Head(
            transmission=self._transmission,
            source=source,
            incarnation=incarnation,
            topic=said.topic,
            first=first,
            events=said.events,
            ts=ts,
            report=said.report,
            within_ms=said.within_ms,
            sticky=said.sticky,
        )
        return pack_run(head, said.body)

    def _stick(self, run: Run) -> None:
        topic = run.head.topic
        if topic in self._sticky or len(self._sticky) < MAX_STICKY:
            self._sticky[topic] = run

    def sticky(self) -> list[Run]:
        """Give the last of every sticky type that is kept for this alone, in order.

        All of them were sent before whatever `after` gives.
        """
        kept = self._kept[0].head.transmission if self._kept else self._transmission + 1
        runs = (run for run in self._sticky.values() if run.head.transmission < kept)
        return sorted(runs, key=lambda run: run.head.transmission)

    def is_own(self, source: str, incarnation: int) -> bool:
        """Say whether a publisher that is still there is numbered here."""
        return (source, incarnation) in self._numbers

    def skip(self, source: str, incarnation: int, topic: Topic, count: int) -> int:
        """Use up numbers without events, so that the loss shows; give the first of them.

        Raises:
            RemoteProtocolError: The publisher has used too many types.
        """
        numbers = self._numbered(source, incarnation, topic)
        first = numbers.get(topic, 0) + 1
        numbers[topic] = first + count - 1
        return first

    def reserve(self, source: str, incarnation: int, topic: Topic) -> None:
        """Make sure that events of this type can be numbered later.

        Raises:
            RemoteProtocolError: The publisher has used too many types.
        """
        self._numbered(source, incarnation, topic).setdefault(topic, 0)

    def _numbered(self, source: str, incarnation: int, topic: Topic) -> dict[Topic, int]:
        numbers = self._numbers.setdefault((source, incarnation), {})
        if topic not in numbers and len(numbers) >= MAX_TYPES:
            raise RemoteProtocolError(f"{source} publishes more than {MAX_TYPES} types of events")
        return numbers

    def accepted(self, transmission: int) -> None:
        """Forget what has reached everybody."""
        while self._kept and self._kept[0].head.transmission <= transmission:
            self._drop_oldest()

    def expire(self, now: float) -> None:
        """Forget what has waited too long for a hub; its numbers show as a gap.

        An event's own stamp is a wall clock's, which may jump: what counts is which events were
        there already at an earlier look.

        Args:
            now: Seconds on a clock that never jumps.
        """
        self._looks.append((now, self._transmission))
        while self._looks[0][0] <= now - RING_S:
            self.accepted(self._looks.popleft()[1])

    def _drop_oldest(self) -> None:
        head, frame = self._kept.popleft()
        key = (head.source, head.incarnation)
        ring = self._rings[key]
        ring.events -= head.events
        ring.size -= len(frame)
        if not ring.events:
            del self._rings[key]

    def after(self, transmission: int) -> Iterator[Run]:
        """Give everything that was sent after a transmission and is still kept, in order."""
        return (run for run in tuple(self._kept) if run.head.transmission > transmission)

    def forget(self, source: str, incarnation: int) -> None:
        """Forget the numbers of a publisher that is gone; what it published is kept."""
        self._numbers.pop((source, incarnation), None)
