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
from protocol.feed import Frames, Run, pack_run
from protocol.names import Topic

RING_EVENTS: Final = 65_536
RING_BYTES: Final = 4 << 20
"""For one publisher: 0.1 s of the fastest stream measured, 40 MB/s, and far above the time
between two acceptances."""

MAX_TYPES: Final = 4096
"""Types of events by one life of one publisher: every peer counts each of them."""


@dataclass(slots=True)
class _Ring:
    events: int = 0
    size: int = 0


class Outbox:
    """What one peer has sent and the hub has not accepted; lives as long as the peer."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], dict[Topic, int]] = {}
        self._rings: dict[tuple[str, int], _Ring] = {}
        self._kept: deque[tuple[int, tuple[str, int], int, Frames]] = deque()
        self._transmission = 0

    def __len__(self) -> int:
        return len(self._kept)

    def has_room(self, source: str, incarnation: int) -> bool:
        """Say whether this publisher may add a run; one that does may overshoot by that run."""
        ring = self._rings.get((source, incarnation))
        return ring is None or (ring.events < RING_EVENTS and ring.size < RING_BYTES)

    def put(
        self, source: str, incarnation: int, topic: Topic, payloads: list[bytes], ts: float
    ) -> Frames:
        """Number a run, keep it, and give what has to be sent."""
        first = self.skip(source, incarnation, topic, len(payloads))
        run = Run(source, incarnation, topic, first, [ts] * len(payloads), payloads)
        self._transmission += 1
        frames = pack_run(run, self._transmission)
        key = (source, incarnation)
        ring = self._rings.setdefault(key, _Ring())
        ring.events += len(payloads)
        ring.size += sum(map(len, frames))
        self._kept.append((self._transmission, key, len(payloads), frames))
        return frames

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
        while self._kept and self._kept[0][0] <= transmission:
            _, key, events, frames = self._kept.popleft()
            ring = self._rings[key]
            ring.events -= events
            ring.size -= sum(map(len, frames))
            if not ring.events:
                del self._rings[key]

    def after(self, transmission: int) -> Iterator[Frames]:
        """Give everything that was sent after a transmission and is still kept, in order."""
        return (frames for sent, _, _, frames in tuple(self._kept) if sent > transmission)

    def forget(self, source: str, incarnation: int) -> None:
        """Forget the numbers of a publisher that is gone; what it published is kept."""
        self._numbers.pop((source, incarnation), None)
