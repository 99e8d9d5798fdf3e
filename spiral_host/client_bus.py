"""An application's events: published from any thread, numbered and followed in the background one.

Callbacks run in the attendant's thread. One that publishes and waits runs those that come
meanwhile, because its own may be among what it waits for.
"""

import collections
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from protocol.backlog import Backlog
from protocol.batches import Batches
from protocol.errors import DeadlineExceeded
from protocol.events import PluginEvent
from protocol.feed import Interest, Outcome, Ran
from protocol.follower import Delivery
from protocol.names import Topic, parse_topic
from protocol.patterns import PatternMap
from protocol.payloads import encode_event, topic_of
from protocol.publishing import MARGIN_S, ROOM_S, PublishReport, report_of
from protocol.runs import Publication, Run, pack_body
from protocol.subscriptions import EventCallback, Past, Subscription, Subscriptions

if TYPE_CHECKING:
    from protocol.peer import BusPeer

BEHIND_EVENTS: Final = 1 << 18
BEHIND_BYTES: Final = 16 << 20
"""What an application's callbacks may be behind: its own memory, and its own business."""

MAX_WAITING: Final = 64
"""Batches that wait for the background thread: 2 MiB of events."""


class Background(Protocol):
    """The connection's thread, which owns the sockets."""

    def do(self, job: Callable[[], None]) -> None:
        """Run something in it; raises `NoDaemon` when it has ended."""

    def do_soon(self, job: Callable[[], None]) -> None:
        """The same without waiting for any lock; harmless once it has ended."""


class Attendant(Protocol):
    """The thread that runs the application's own code."""

    def do(self, job: Callable[[], None]) -> None:
        """Run something in it, after what it is doing."""

    def do_meanwhile(self, job: Callable[[], bool]) -> None:
        """Do this whenever what it runs waits for a call."""

    @property
    def is_current(self) -> bool:
        """Whether this very thread asks."""


class ClientBus:
    """The events of one connection; lives as long as it."""

    filters = False

    def __init__(self, background: Background, attendant: Attendant, name: str) -> None:
        self.peer: BusPeer
        self._background = background
        self._attendant = attendant
        attendant.do_meanwhile(self._meanwhile)
        self._source = f"app:{name}"
        self._incarnation = 0
        self._subscriptions = Subscriptions()
        self._subscribing = threading.Lock()
        self._in_force: PatternMap[None] = PatternMap()
        self._backlog = Backlog(BEHIND_EVENTS, BEHIND_BYTES)
        self._ran = 0
        self._deliveries: collections.deque[Delivery | Callable[[], None]] = collections.deque()
        self._awaited: collections.deque[None] = collections.deque()
        """One for each delivery among them whose publisher waits."""
        self._batches = Batches()
        self._sticky: set[Topic] = set()
        self._is_leaving = False
        self._room = threading.Condition()
        """Guards what waits to leave."""
        self._news = threading.Condition()
        self._reports: dict[int, Future[Outcome]] = {}
        self._numbers = count(1)

    # --- from any thread --------------------------------------------------------------------------

    def publish(self, event: PluginEvent) -> None:
        """Put an event on the bus, in the order of the calls."""
        topic = topic_of(event)
        payload = encode_event(event)
        if topic in self._sticky:
            self._publish_alone(Publication(topic, pack_body([payload]), 1, sticky=True))
            return
        with self._room:
            if not self._batches.join(topic, payload):
                self._begin(topic, payload)
            self._leave()

    def publish_report(self, event: PluginEvent, timeout: float) -> PublishReport:
        """Put an event on the bus, and wait until every callback for it has run.

        Args:
            timeout: Seconds.

        Raises:
            DeadlineExceeded: There is no daemon that would know.
        """
        topic = topic_of(event)
        body = pack_body([encode_event(event)])
        number = next(self._numbers)
        outcome = self._reports[number] = Future()
        is_sticky = topic in self._sticky
        try:
            self._publish_alone(Publication(topic, body, 1, number, int(timeout * 1000), is_sticky))
            self._await(outcome, timeout + MARGIN_S)
        finally:
            del self._reports[number]
        if not outcome.done():
            raise DeadlineExceeded(f"event {topic}", timeout)
        told = outcome.result()
        return report_of(topic, told.matched, told.delivered, told.failures)

    def make_sticky(self, event_type: str) -> None:
        """Have the last event of a type kept for whoever subscribes later."""
        self._sticky.add(parse_topic(event_type))

    @property
    def has_unsent(self) -> bool:
        """Whether something published here has not reached every peer."""
        return bool(self._batches or len(self.peer.outbox))

    def _publish_alone(self, said: Publication) -> None:
        with self._room:
            if self._has_room():
                self._batches.add_alone(said)
            else:
                self._batches.skip(said.topic)
            self._leave()

    def _begin(self, topic: Topic, payload: bytes) -> None:
        if self._has_room():
            self._batches.begin(topic, payload)
        else:
            self._batches.skip(topic)

    def _has_room(self) -> bool:
        """Wait until what is on its way leaves room for a batch."""
        return self._room.wait_for(lambda: len(self._batches) < MAX_WAITING, ROOM_S)

    def _leave(self) -> None:
        # What is published until the background thread wakes leaves together.
        if not self._is_leaving:
            self._background.do(self.room)
            self._is_leaving = True

    def _await(self, outcome: "Future[Outcome]", longest_s: float) -> None:
        deadline = time.monotonic() + longest_s
        may_run = self._attendant.is_current
        while not outcome.done() and (left := deadline - time.monotonic()) > 0:
            if may_run and self._deliveries:
                self._run_one()
                continue
            with self._news:
                self._news.wait_for(
                    lambda: outcome.done() or (may_run and bool(self._deliveries)), left
                )

    # --- subscribing ------------------------------------------------------------------------------

    def add(
        self, pattern: Topic, callback: EventCallback, past: Past
    ) -> tuple[Subscription, "Future[tuple[bytes, ...]]"]:
        """Add a callback; the future gives the past when its subscription holds."""
        holds: Future[tuple[bytes, ...]] = Future()

        def confirmed(frames: tuple[bytes, ...]) -> None:
            self._in_force.add(pattern, None)
            holds.set_result(frames)

        def subscribe() -> None:
            if is_first:
                self.peer.subscribe(pattern)
            self.peer.confirm(pattern, *past, confirmed)

        with self._subscribing:
            subscription, is_first = self._subscriptions.add(pattern, callback)
            self._background.do(subscribe)
        return subscription, holds

    def begin(self, subscription: Subscription, past: Past, frames: tuple[bytes, ...]) -> None:
        """Call back for past events, and from now on for those that come."""
        self._queue(lambda: self._subscriptions.begin(subscription, past, frames))

    def remove(self, subscription: Subscription) -> bool:
        """End a subscription."""
        with self._subscribing:
            found, was_last = self._subscriptions.remove(subscription)
            if was_last:
                self._background.do(lambda: self._unsubscribe(subscription.topic))
        return found

    def _unsubscribe(self, pattern: Topic) -> None:
        self._in_force.remove(pattern, None)
        self.peer.unsubscribe(pattern)

    # --- in the background thread -----------------------------------------------------------------

    def joined(self, incarnation: int) -> None:
        """The daemon knows this connection under a number."""
        self._incarnation = incarnation

    def room(self) -> None:
        """Number what waits, in order; while the ring is full and a daemon is there, it waits."""
        outbox = self.peer.outbox
        while True:
            has_room = outbox.has_room(self._source, self._incarnation)
            with self._room:
                if not self._batches or (self.peer.has_hub and not has_room):
                    self._is_leaving = bool(self._batches)
                    return
                said = self._batches.take()
                self._room.notify_all()
            if said.body and has_room:
                self.peer.publish(self._source, self._incarnation, said)
            elif said.body:
                self.peer.publish_here(self._source, self._incarnation, said)
            else:
                outbox.skip(self._source, self._incarnation, said.topic, said.events)

    def deliver(self, delivery: Delivery) -> None:
        """Have the callbacks called, unless they are too far behind."""
        self._catch_up()
        if self._backlog.is_full or self._backlog.has_missed:
            self._backlog.miss(delivery)
            self._tell_ran(delivery, Ran(0, 0, "", 1, 1, ("it is too far behind",)))
            self._catch_up()  # the other thread may have run the last one a moment ago
            return
        self._hand(delivery)

    def _hand(self, delivery: Delivery) -> None:
        if isinstance(delivery, Run):
            self._backlog.sent(delivery.head.events, len(delivery.frame))
        self._queue(delivery)

    def _catch_up(self) -> None:
        self._backlog.ran(self._ran)
        while self._backlog.has_missed and not self._backlog.is_full:
            for missed in self._backlog.take_missed():
                self._hand(missed)

    def _queue(self, delivery: "Delivery | Callable[[], None]") -> None:
        if _is_awaited(delivery):
            self._awaited.append(None)
        self._deliveries.append(delivery)
        with self._news:
            self._news.notify_all()
        self._attendant.do(self._run_one)

    def concerned(self, incarnation: int, report: int, topic: Topic) -> tuple[str, ...]:  # noqa: ARG002
        """Say whether this application is given an event that somebody waits for."""
        # Who has only just subscribed may not be given it, and is not waited for.
        is_given = self._in_force.wants(topic) and self._subscriptions.wants(topic)
        return (self._source,) if is_given else ()

    def outcome(self, outcome: Outcome) -> None:
        """Take in what became of an event that a thread here waits for."""
        future = self._reports.get(outcome.report)
        if future is not None and not future.done():
            future.set_result(outcome)
            with self._news:
                self._news.notify_all()

    def told_interest(self, interest: Interest) -> None:
        """Applications publish whether anybody wants it or not: nothing to be told."""

    # --- in the attendant's thread ----------------------------------------------------------------

    def _meanwhile(self) -> bool:
        """Run what other publishers wait for: they may be what a callback here is waiting for."""
        has_run = False
        while self._awaited and self._deliveries:
            self._run_one()
            has_run = True
        return has_run

    def _run_one(self) -> None:
        try:
            delivery = self._deliveries.popleft()
        except IndexError:
            return  # it was run by a callback that waited
        if not isinstance(delivery, tuple):
            delivery()
            return
        if _is_awaited(delivery):
            self._awaited.pop()
        ran = self._subscriptions.deliver(delivery)
        if not isinstance(delivery, Run):
            return
        self._ran += delivery.head.events
        if self._backlog.has_missed:
            self._background.do_soon(self._catch_up)
        if ran is not None:
            self._tell_ran(delivery, Ran(0, 0, "", ran.matched, ran.failed, tuple(ran.failures)))

    def _tell_ran(self, delivery: Delivery, ran: Ran) -> None:
        if isinstance(delivery, Run) and delivery.head.report:
            head = delivery.head
            told = Ran(
                head.incarnation, head.report, self._source, ran.matched, ran.failed, ran.failures
            )
            self._background.do_soon(lambda: self._tell(told))

    def _tell(self, told: Ran) -> None:
        self.peer.ran(told)


def _is_awaited(delivery: "Delivery | Callable[[], None]") -> bool:
    return isinstance(delivery, Run) and bool(delivery.head.report)
