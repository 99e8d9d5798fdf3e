"""Events between this machine's workers and the bus: numbered going up, handed out going down.

A publisher may have so many events under way; `Published` gives it room for more once they are
in its ring here. While the ring is full and a daemon is there, the publisher's packets wait;
while there is none they are given up at once, and their numbers show as a gap. A subscriber says
on its flight page how many events it has run; one that is too far behind misses some, and is told.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from plugin_worker.node.interest import NodeInterest
from protocol import failpoints
from protocol.backlog import Backlog
from protocol.errors import RemoteProtocolError
from protocol.events import RESERVED
from protocol.feed import Informed, Interest, Outcome, Ran
from protocol.follower import Delivery
from protocol.messages import (
    CallbacksRan,
    Published,
    Reported,
    Subscribe,
    Subscribed,
    ToEndpoint,
)
from protocol.names import Topic, shown
from protocol.patterns import PatternMap
from protocol.permissions import Permissions
from protocol.reactor import Reactor
from protocol.runs import Head, Missing, Publication, Run, pack_missing, unpack_publication
from protocol.subscriptions import MAX_PATTERNS
from protocol.window import WINDOW_BYTES, WINDOW_EVENTS, Receipts

if TYPE_CHECKING:
    from protocol.peer import BusPeer

SLOW_BYTES: Final = 1 << 20
"""What may wait for one subscriber that does not even read."""

MAX_DROPPED: Final = 1 << 32
"""Events that a worker may say it gave up; their numbers have to stay below 2**63."""

LOOK_S: Final = 0.02
"""How often it is looked whether a subscriber that missed something has caught up, seconds."""

MAX_AWAITED: Final = 1024
"""Events for which it is remembered who was given them until the hub asks."""

MAX_OWED: Final = 16_384
"""Events of which it is remembered that one worker owes its word; the hub waits for fewer."""

LAST_GIVEN: Final = 20
"""Deliveries to a worker that are remembered for the report of its death."""

_Event = tuple[int, int]

Denied = Callable[[int, str, str], object]


@dataclass(slots=True)
class Wire:
    """How a worker is reached.

    Attributes:
        send: Sends it a delivery.
        unsent: Says how many bytes wait because it does not read.
        ran: Says how many events it has run, by its own word.
    """

    send: Callable[[bytes], None]
    unsent: Callable[[], int]
    ran: Callable[[], int]


@dataclass(slots=True)
class _Reader:
    """One worker as a subscriber and publisher."""

    name: str
    wire: Wire
    permissions: Permissions
    types: set[Topic] = field(default_factory=set)
    """Those that it publishes, and may."""
    patterns: set[Topic] = field(default_factory=set)
    backlog: Backlog = field(default_factory=Backlog)
    receipts: Receipts = field(default_factory=Receipts)
    waiting: deque[Publication] = field(default_factory=deque)
    waiting_bytes: int = 0
    owes: dict[_Event, None] = field(default_factory=dict)
    """Events whose publishers wait until this worker has run its callbacks."""
    asks: deque[tuple[Topic, Subscribe]] = field(default_factory=deque)
    """Subscriptions to be confirmed; the first is under way, and nobody else waits for these."""
    last: deque[Head | Missing] = field(default_factory=lambda: deque(maxlen=LAST_GIVEN))
    """What it was given last, without the events themselves."""

    @property
    def is_slow(self) -> bool:
        if not self.backlog.is_full and self.wire.unsent() <= SLOW_BYTES:
            return False
        self.backlog.ran(self.wire.ran())
        return self.backlog.is_full or self.wire.unsent() > SLOW_BYTES


class Feeds:
    """The events of every worker of this machine; lives as long as the node.

    Args:
        denied: Called with what a worker has tried without permission, behind its library's back.
    """

    filters = True

    def __init__(
        self, reactor: Reactor, send: Callable[[int, ToEndpoint], object], denied: Denied
    ) -> None:
        self.peer: BusPeer  # set by the node, which makes both
        self.interest = NodeInterest(reactor)
        self._reactor = reactor
        self._send = send
        self._denied = denied
        self._readers: dict[int, _Reader] = {}
        self._wanted: PatternMap[int] = PatternMap()
        self._in_force: PatternMap[int] = PatternMap()
        """Those of them that the hub has confirmed."""
        self._awaited: dict[_Event, tuple[str, ...]] = {}
        self._is_looking = False

    def add(self, incarnation: int, name: str, wire: Wire, permissions: Permissions) -> None:
        """A worker is there, and may publish and receive what it has permission for."""
        self._readers[incarnation] = _Reader(name, wire, permissions)

    def remove(self, incarnation: int) -> None:
        """A worker is gone; what it published is still kept."""
        reader = self._readers.pop(incarnation, None)
        if reader is None:
            return
        for pattern in reader.patterns:
            self._unwant(incarnation, pattern)
        self._told_own()
        for event in reader.owes:
            self._failed(event, reader.name, "it has gone")
        self.peer.outbox.forget(reader.name, incarnation)

    def lag(self, incarnation: int) -> tuple[int, int]:
        """Say how many events a worker is behind, and how many it has missed for good."""
        reader = self._readers.get(incarnation)
        if reader is None:
            return 0, 0
        reader.backlog.ran(reader.wire.ran())
        return reader.backlog.lag, reader.backlog.missed

    def last_given(self, incarnation: int) -> tuple[str, ...]:
        """Name the last events that a worker was given, newest last."""
        reader = self._readers.get(incarnation)
        return tuple(map(_named, reader.last)) if reader is not None else ()

    # --- subscriptions ----------------------------------------------------------------------------

    def subscribe(self, incarnation: int, pattern: Topic, wish: Subscribe) -> None:
        """Give a worker the events of a pattern; it hears `Subscribed` when it misses none.

        One at a time: what is kept of the past is much work to look up for the daemon.

        Raises:
            RemoteProtocolError: It has too many subscriptions, or no permission for this one.
        """
        reader = self._readers[incarnation]
        if not reader.permissions.may_subscribe(pattern):
            self._denied(incarnation, "subscribe", pattern)
            raise RemoteProtocolError(f"it has no permission to subscribe to {shown(pattern)}")
        if len(reader.asks) >= MAX_PATTERNS:
            raise RemoteProtocolError("a subscription that nobody waits for")
        if len(reader.patterns) >= MAX_PATTERNS and pattern not in reader.patterns:
            raise RemoteProtocolError(f"more than {MAX_PATTERNS} patterns")
        reader.patterns.add(pattern)
        if self._wanted.add(pattern, incarnation):
            self.peer.subscribe(pattern)
            self._told_own()

        reader.asks.append((pattern, wish))
        if len(reader.asks) == 1:
            self._confirm_next(incarnation)

    def _confirm_next(self, incarnation: int) -> None:
        reader = self._readers[incarnation]
        while reader.asks and reader.asks[0][0] not in reader.patterns:
            reader.asks.popleft()  # it has thought better of it
        if reader.asks:
            pattern, wish = reader.asks[0]
            confirmed = partial(self._confirmed, incarnation)
            self.peer.confirm(pattern, wish.last, wish.since, confirmed)

    def _confirmed(self, incarnation: int, past: tuple[bytes, ...]) -> None:
        reader = self._readers.get(incarnation)
        if reader is None:
            return
        pattern, wish = reader.asks.popleft()
        if pattern in reader.patterns:
            self._in_force.add(pattern, incarnation)
        self._send(incarnation, Subscribed(wish.request, past))
        self._confirm_next(incarnation)

    def unsubscribe(self, incarnation: int, pattern: Topic) -> None:
        """Give it no more of them."""
        self._readers[incarnation].patterns.discard(pattern)
        self._unwant(incarnation, pattern)
        self._told_own()

    def _unwant(self, incarnation: int, pattern: Topic) -> None:
        self._in_force.remove(pattern, incarnation)
        if self._wanted.remove(pattern, incarnation):
            self.peer.unsubscribe(pattern)

    def _told_own(self) -> None:
        self.interest.own(self._wanted.patterns)

    def told_interest(self, interest: Interest) -> None:
        """Let every worker know what is wanted, and the hub that they do."""
        self.interest.told(interest)
        self.peer.tell(Informed(interest.generation))

    # --- down -------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        """Hand events, or the word that some are missing, to every worker that wants them."""
        is_run = isinstance(delivery, Run)
        topic = delivery.head.topic if is_run else delivery.topic  # type: ignore[union-attr]
        for incarnation in self._wanted.matching(topic):
            reader = self._readers[incarnation]
            if self._keeps_up(reader):
                self._hand(reader, delivery)
            else:
                self._miss(reader, delivery)
        if isinstance(delivery, Run) and delivery.head.report:
            self._await(delivery)

    def _hand(self, reader: _Reader, delivery: Delivery) -> None:
        if isinstance(delivery, Run):
            head, frame = delivery
            reader.last.append(head)
            reader.backlog.sent(head.events, len(frame))
            if head.report:
                while len(reader.owes) >= MAX_OWED:
                    del reader.owes[next(iter(reader.owes))]
                reader.owes[head.incarnation, head.report] = None
            if failpoints.ARMED:
                failpoints.hit("deliver.before")
            reader.wire.send(frame)
        else:
            reader.last.append(delivery)
            reader.wire.send(pack_missing(delivery))

    def _miss(self, reader: _Reader, delivery: Delivery) -> None:
        reader.backlog.miss(delivery)
        if isinstance(delivery, Run) and delivery.head.report:
            event = (delivery.head.incarnation, delivery.head.report)
            self._failed(event, reader.name, "it is too far behind and missed the event")
        if not self._is_looking:
            self._is_looking = True
            self._reactor.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Tell those who have caught up what they missed."""
        behind = [reader for reader in self._readers.values() if reader.backlog.has_missed]
        for reader in behind:
            self._keeps_up(reader)
        self._is_looking = any(reader.backlog.has_missed for reader in behind)
        if self._is_looking:
            self._reactor.call_later(LOOK_S, self._look)

    def _keeps_up(self, reader: _Reader) -> bool:
        """Tell a worker what it missed, as far as it has room; say whether it is given more."""
        while not reader.is_slow:
            if not reader.backlog.has_missed:
                return True
            for delivery in reader.backlog.take_missed():
                self._hand(reader, delivery)
        return False

    # --- what became of an event ------------------------------------------------------------------

    def _await(self, run: Run) -> None:
        names = tuple(self._readers[each].name for each in self._wanted.matching(run.head.topic))
        while len(self._awaited) >= MAX_AWAITED:
            del self._awaited[next(iter(self._awaited))]
        self._awaited[run.head.incarnation, run.head.report] = names

    def concerned(self, incarnation: int, report: int, topic: Topic) -> tuple[str, ...]:
        """Name the workers that are given an event; one that is late in a replay will be.

        Who has only just subscribed is named where the event has come, and else is not given it.
        """
        known = self._awaited.pop((incarnation, report), None)
        if known is not None:
            return known
        return tuple(self._readers[each].name for each in self._in_force.matching(topic))

    def ran(self, incarnation: int, said: CallbacksRan) -> None:
        """Take in that a worker has run its callbacks for an event whose publisher waits."""
        reader = self._readers[incarnation]
        event = (said.incarnation, said.report)
        if event in reader.owes:
            del reader.owes[event]
            self.peer.ran(Ran(*event, reader.name, said.matched, said.failed, said.failures))

    def _failed(self, event: _Event, name: str, why: str) -> None:
        self.peer.ran(Ran(*event, name, 1, 1, (why,)))

    def outcome(self, outcome: Outcome) -> None:
        """Tell a worker what became of the event that it waits for."""
        figures = (outcome.matched, outcome.delivered, outcome.failures)
        self._send(outcome.incarnation, Reported(outcome.report, *figures))

    # --- up ---------------------------------------------------------------------------------------

    def published(self, incarnation: int, packet: bytes) -> int:
        """Take in what a worker publishes; give how many events.

        Raises:
            RemoteProtocolError: It is none, reserved, without permission, or more than the worker
                was given room for.
        """
        reader = self._readers[incarnation]
        said = unpack_publication(packet)
        if said.topic not in reader.types:
            self._let_in(incarnation, reader, said.topic)
        if reader.waiting or not self.peer.outbox.has_room(reader.name, incarnation):
            self._wait(incarnation, reader, said)
        else:
            self._enter(incarnation, reader, said)
        return said.events

    def _let_in(self, incarnation: int, reader: _Reader, topic: Topic) -> None:
        """Take in that a worker publishes a type, once; the outbox bounds how many there are."""
        if topic in RESERVED:
            raise RemoteProtocolError(f"only the daemon publishes {topic}")
        if not reader.permissions.may_publish(topic):
            self._denied(incarnation, "publish", topic)
            raise RemoteProtocolError(f"it has no permission to publish {shown(topic)}")
        self.peer.outbox.reserve(reader.name, incarnation, topic)
        reader.types.add(topic)

    def dropped(self, incarnation: int, topic: Topic, count: int) -> None:
        """Use up the numbers of events that a worker gave up by itself.

        Raises:
            RemoteProtocolError: Nobody gives up so many, or so often, or of so many types.
        """
        if not 0 < count <= MAX_DROPPED:
            raise RemoteProtocolError(f"{count} events given up at once")
        reader = self._readers[incarnation]
        # Now: later it would be nobody's fault, when there is room for what waits.
        if topic not in reader.types:
            self._let_in(incarnation, reader, topic)
        lost = Publication(topic, b"", count)
        if reader.waiting:
            self._queue(reader, lost)  # what waits was published before, and has lower numbers
        else:
            self._enter(incarnation, reader, lost)

    def room(self) -> None:
        """Rings may have room again: let those in who wait."""
        has_room = self.peer.outbox.has_room
        for incarnation, reader in self._readers.items():
            while reader.waiting and has_room(reader.name, incarnation):
                self._enter(incarnation, reader, self._next(reader))

    def give_up(self) -> None:
        """There is no daemon: nobody waits for room, and the gaps will show."""
        self.interest.hub_lost()
        for incarnation, reader in self._readers.items():
            self._give_up_waiting(incarnation, reader)

    def _give_up_waiting(self, incarnation: int, reader: _Reader) -> None:
        while reader.waiting:
            self._enter(incarnation, reader, self._next(reader), keep=False)

    @staticmethod
    def _next(reader: _Reader) -> Publication:
        said = reader.waiting.popleft()
        reader.waiting_bytes -= len(said.body)
        return said

    def _enter(
        self, incarnation: int, reader: _Reader, said: Publication, *, keep: bool = True
    ) -> None:
        """Number events; what is not kept only subscribers on this machine are given."""
        if not said.body:
            self.peer.outbox.skip(reader.name, incarnation, said.topic, said.events)
            return
        publish = self.peer.publish if keep else self.peer.publish_here
        if failpoints.ARMED:
            failpoints.hit("publish.heard")
        publish(reader.name, incarnation, said)
        if failpoints.ARMED:
            failpoints.hit("publish.numbered")
        told = reader.receipts.took(said.events, said.size)
        if told is not None:
            self._send(incarnation, Published(*told))

    def _wait(self, incarnation: int, reader: _Reader, said: Publication) -> None:
        if self.peer.has_hub:
            self._queue(reader, said)
            return
        # The hub may be gone and the daemon not missed yet: what waits was published before.
        self._give_up_waiting(incarnation, reader)
        self._enter(incarnation, reader, said, keep=False)

    @staticmethod
    def _queue(reader: _Reader, said: Publication) -> None:
        reader.waiting.append(said)
        reader.waiting_bytes += len(said.body)
        if len(reader.waiting) > WINDOW_EVENTS or reader.waiting_bytes > 2 * WINDOW_BYTES:
            raise RemoteProtocolError("more events under way than there was room for")


def _named(given: Head | Missing) -> str:
    missed = " (missed)" if isinstance(given, Missing) else ""
    return f"{given.topic} {given.source} {given.first}-{given.last}{missed}"
