"""Events between this machine's workers and the bus: stamped going up, filtered going down.

A publisher may have so many events under way; `Published` gives it room for more once they are
in its ring here. While the ring is full and a daemon is there, the publisher's packets wait;
while there is none they are given up at once, and their numbers show as a gap.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protocol.errors import RemoteProtocolError
from protocol.feed import Missing, pack_delivery, pack_missing, unpack_publication
from protocol.follower import Delivery
from protocol.messages import Published, Subscribed, ToEndpoint
from protocol.names import EVERYTHING, Topic
from protocol.window import WINDOW_BYTES, WINDOW_EVENTS

if TYPE_CHECKING:
    from protocol.peer import BusPeer

SLOW_BYTES: Final = 1 << 20
"""What may wait for one subscriber that does not read; beyond that it is told what it missed."""

MAX_SUBSCRIPTIONS: Final = 10_000

MAX_DROPPED: Final = 1 << 32
"""Events that a worker may say it gave up; their numbers have to stay below 2**63."""


@dataclass(slots=True)
class _Reader:
    """One worker as a subscriber and publisher."""

    name: str
    backlog: Callable[[], int]
    send_events: Callable[[bytes], None]
    topics: set[Topic] = field(default_factory=set)
    missed: dict[tuple[str, int, Topic], Missing] = field(default_factory=dict)
    waiting: deque[tuple[Topic, list[bytes]]] = field(default_factory=deque)
    waiting_bytes: int = 0

    @property
    def is_slow(self) -> bool:
        return self.backlog() > SLOW_BYTES


class Feeds:
    """The events of every worker of this machine; lives as long as the node."""

    def __init__(self, send: Callable[[int, ToEndpoint], object]) -> None:
        self.peer: BusPeer  # set by the node, which makes both
        self._send = send
        self._readers: dict[int, _Reader] = {}
        self._wanted: dict[Topic, set[int]] = {}

    def add(
        self,
        incarnation: int,
        name: str,
        backlog: Callable[[], int],
        send_events: Callable[[bytes], None],
    ) -> None:
        """A worker is there."""
        self._readers[incarnation] = _Reader(name, backlog, send_events)

    def remove(self, incarnation: int) -> None:
        """A worker is gone; what it published is still kept."""
        reader = self._readers.pop(incarnation, None)
        if reader is None:
            return
        for topic in reader.topics:
            self._unwant(incarnation, topic)
        self.peer.outbox.forget(reader.name, incarnation)

    # --- down -------------------------------------------------------------------------------------

    def subscribe(self, incarnation: int, topic: Topic, request: str) -> None:
        """Give a worker events of a type; it hears `Subscribed` when none is missed any more.

        Raises:
            RemoteProtocolError: It has too many subscriptions.
        """
        reader = self._readers[incarnation]
        if len(reader.topics) >= MAX_SUBSCRIPTIONS:
            raise RemoteProtocolError(f"more than {MAX_SUBSCRIPTIONS} subscriptions")
        reader.topics.add(topic)
        confirmed = Subscribed(request)
        if topic not in self._wanted:
            self.peer.subscribe(topic)
        self._wanted.setdefault(topic, set()).add(incarnation)
        if self.peer.has_hub:
            self.peer.confirm(lambda: self._confirm(incarnation, confirmed))
        else:
            self._send(incarnation, confirmed)

    def _confirm(self, incarnation: int, confirmed: Subscribed) -> None:
        self._send(incarnation, confirmed)

    def unsubscribe(self, incarnation: int, topic: Topic) -> None:
        """Give it no more of them."""
        self._readers[incarnation].topics.discard(topic)
        self._unwant(incarnation, topic)

    def _unwant(self, incarnation: int, topic: Topic) -> None:
        wanted = self._wanted.get(topic, set())
        wanted.discard(incarnation)
        if not wanted and self._wanted.pop(topic, None) is not None:
            self.peer.unsubscribe(topic)

    def deliver(self, delivery: Delivery) -> None:
        """Hand events, or the word that some are missing, to every worker that wants them."""
        wanted = self._wanted.get(delivery.topic, set()) | self._wanted.get(EVERYTHING, set())
        for incarnation in wanted:
            reader = self._readers[incarnation]
            if reader.is_slow:
                _miss(reader, delivery)
                continue
            self.tell_missed(incarnation)
            reader.send_events(_packed(delivery))

    def tell_missed(self, incarnation: int) -> None:
        """Tell a worker that reads again which events it missed meanwhile."""
        reader = self._readers.get(incarnation)
        if reader is not None and reader.missed and not reader.is_slow:
            missed, reader.missed = reader.missed, {}
            for missing in missed.values():
                reader.send_events(pack_missing(missing))

    # --- up ---------------------------------------------------------------------------------------

    def published(self, incarnation: int, body: bytes) -> None:
        """Take in what a worker publishes.

        Raises:
            RemoteProtocolError: It is none, or more than the worker was given room for.
        """
        reader = self._readers[incarnation]
        topic, payloads = unpack_publication(body)
        self.peer.outbox.reserve(reader.name, incarnation, topic)
        if reader.waiting or not self.peer.outbox.has_room(reader.name, incarnation):
            self._wait(incarnation, reader, topic, payloads)
            return
        self._enter(incarnation, reader, topic, payloads)

    def dropped(self, incarnation: int, topic: Topic, count: int) -> None:
        """Use up the numbers of events that a worker gave up by itself.

        Raises:
            RemoteProtocolError: Nobody gives up so many.
        """
        if not 0 < count <= MAX_DROPPED:
            raise RemoteProtocolError(f"{count} events given up at once")
        name = self._readers[incarnation].name
        self.peer.outbox.skip(name, incarnation, topic, count)

    def room(self) -> None:
        """Rings may have room again: let those in who wait."""
        for incarnation, reader in self._readers.items():
            has_room = self.peer.outbox.has_room
            while reader.waiting and has_room(reader.name, incarnation):
                topic, payloads = reader.waiting.popleft()
                reader.waiting_bytes -= sum(map(len, payloads))
                self._enter(incarnation, reader, topic, payloads)

    def give_up(self) -> None:
        """There is no daemon: nobody waits for room, and the gaps will show."""
        for incarnation, reader in self._readers.items():
            while reader.waiting:
                topic, payloads = reader.waiting.popleft()
                reader.waiting_bytes -= sum(map(len, payloads))
                self._skip(incarnation, reader, topic, len(payloads))

    def _enter(
        self, incarnation: int, reader: _Reader, topic: Topic, payloads: list[bytes]
    ) -> None:
        self.peer.publish(reader.name, incarnation, topic, payloads)
        self._send(incarnation, Published(len(payloads)))

    def _wait(self, incarnation: int, reader: _Reader, topic: Topic, payloads: list[bytes]) -> None:
        if not self.peer.has_hub:
            self._skip(incarnation, reader, topic, len(payloads))
            return
        reader.waiting.append((topic, payloads))
        reader.waiting_bytes += sum(map(len, payloads))
        if len(reader.waiting) > WINDOW_EVENTS or reader.waiting_bytes > 2 * WINDOW_BYTES:
            raise RemoteProtocolError("more events under way than there was room for")

    def _skip(self, incarnation: int, reader: _Reader, topic: Topic, count: int) -> None:
        self.peer.outbox.skip(reader.name, incarnation, topic, count)
        self._send(incarnation, Published(count))


def _packed(delivery: Delivery) -> bytes:
    return pack_missing(delivery) if isinstance(delivery, Missing) else pack_delivery(delivery)


def _miss(reader: _Reader, delivery: Delivery) -> None:
    key = (delivery.source, delivery.incarnation, delivery.topic)
    known = reader.missed.get(key)
    first = known.first if known else delivery.first
    reader.missed[key] = Missing(*key, first, delivery.last)
