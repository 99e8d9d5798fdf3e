"""One peer of the bus: publishes with numbers, subscribes with certainty, follows without a hole.

A node and a client are peers alike. Deciders do the thinking (outbox.py, follower.py); this is
their driver over a DEALER to the hub and a SUB from it. Never imported by workers.
"""

import time
from typing import Final, Protocol

import zmq

from protocol.answers import Answers
from protocol.beginnings import Beginnings
from protocol.confirming import Confirmed, Confirming
from protocol.errors import RemoteProtocolError
from protocol.feed import (
    ASKED,
    ECHO,
    EVENT,
    FROM_HUB,
    MARK,
    NUMBERS,
    SYNC,
    TO_ALL,
    TO_HUB,
    Accepted,
    Concerned,
    FromHub,
    Interest,
    Join,
    JoinAgain,
    Joined,
    Numbers,
    Outcome,
    Ran,
    Recalled,
    Replay,
    Replayed,
    Synced,
    ToHub,
)
from protocol.follower import REPLAY_S, Delivery, Follower
from protocol.link import publisher, subscriber
from protocol.names import Topic
from protocol.outbox import Outbox
from protocol.patterns import PatternMap, wanted_prefix
from protocol.reactor import Reactor, Timer
from protocol.runs import Publication, Run, read_topic, unpack_run

_RETRY_S: Final = 0.02
"""How soon the hub is tried again while its socket is not connected yet, seconds."""

_JOIN_S: Final = 2.0
"""How long joining may take before it is begun afresh, seconds; a word may have been lost."""

_MAX_EARLY: Final = 10_000
"""Runs of unknown lines that wait for a new hub to say where these began."""

_FORGET_S: Final = 10.0
"""How often it is looked for what has waited too long for a hub, seconds."""

_BURST: Final = 256


class Behind(Protocol):
    """The publishers and subscribers behind a peer."""

    filters: bool
    """Whether events that nobody wants are not even sent here: then it must hear what is wanted."""

    def deliver(self, delivery: Delivery) -> None:
        """Hand on a run or a gap; they come in order."""

    def room(self) -> None:
        """Rings that were full may have room again."""

    def concerned(self, incarnation: int, report: int, topic: Topic) -> tuple[str, ...]:
        """Name those who are given the event that somebody waits for."""

    def outcome(self, outcome: Outcome) -> None:
        """Tell a publisher what became of the event that it waits for."""

    def told_interest(self, interest: Interest) -> None:
        """Let every publisher know what is wanted, and tell the hub when they do."""


class BusPeer:
    """The events of one node or client; lives as long as it does.

    Args:
        addresses: Where the hub takes events in, and where it sends them out.
        behind: Whose events these are.
    """

    def __init__(
        self,
        reactor: Reactor,
        context: zmq.Context[zmq.Socket[bytes]],
        addresses: tuple[str, str],
        behind: Behind,
    ) -> None:
        self.outbox = Outbox()
        self.has_hub = False
        self._name = ""
        self._reactor = reactor
        self._behind = behind
        self._follower = Follower()
        self._beginnings = Beginnings()
        self._patterns: PatternMap[None] = PatternMap()
        self._was_joined = False
        self._has_lost = False
        self._is_away = False
        self._early: list[Run] = []
        self._joining: bytes | None = None
        self._join_timer: Timer | None = None
        self._answers = Answers()
        self._timer: Timer | None = None
        self._up = publisher(context, addresses[0])
        self._down = subscriber(context, addresses[1])
        self._down.subscribe(TO_ALL)
        self._confirming = Confirming(reactor, self._down, self.tell)
        reactor.watch_zmq(self._up, self._drain_up)
        reactor.watch_zmq(self._down, self._drain_down)
        self._forget_timer = reactor.call_later(_FORGET_S, self._forget)

    # --- the daemon comes and goes ----------------------------------------------------------------

    def join(self, name: str) -> None:
        """A daemon is there: take part, as soon as every subscription is in force."""
        self._name = name
        self._join_afresh()

    def lost(self) -> None:
        """The daemon is gone; what is published meanwhile is kept."""
        self._stop_joining()
        self._has_lost = self._was_joined
        self._is_away = True
        self.has_hub = False
        self._follower.lost(time.monotonic())

    def close(self) -> None:
        """Close both sockets; what was not accepted is lost with this process."""
        self._stop_joining()
        self._forget_timer.cancel()
        self._confirming.close()
        self._reactor.forget_zmq(self._up)
        self._reactor.forget_zmq(self._down)
        self._up.close(linger=0)
        self._down.close(linger=0)

    # --- publishing -------------------------------------------------------------------------------

    def publish(self, source: str, incarnation: int, said: Publication) -> None:
        """Number events, keep them until the hub has them everywhere, and send them.

        Subscribers behind this very peer need not wait for the hub: what it sends back to them has
        been seen by then.
        """
        run = self.outbox.put(source, incarnation, said, time.time())
        if said.report:
            self._answers.published(incarnation, said.report)
        if self._patterns.wants(said.topic):
            self._hand_on(self._follower.near(run))
        if self.has_hub:
            self._send_run(run)

    def ran(self, ran: Ran) -> None:
        """Tell the hub, when it asks, that callbacks have run for an event."""
        if self._answers.ran(ran):
            self.tell(ran)

    def publish_here(self, source: str, incarnation: int, said: Publication) -> None:
        """Number events that there is no room to keep, for those behind this peer alone."""
        run = self.outbox.number(source, incarnation, said, time.time())
        if self._patterns.wants(said.topic):
            self._hand_on(self._follower.near(run))

    def _send_run(self, run: Run) -> None:
        try:
            self._up.send(run.frame, zmq.DONTWAIT)
        except zmq.Again:
            # The hub is gone. All of it is sent again when it is joined anew: afresh, because it
            # may be another, at which no subscription is in force yet.
            self._join_afresh()

    def _forget(self) -> None:
        self.outbox.expire(time.monotonic())
        self._forget_timer = self._reactor.call_later(_FORGET_S, self._forget)

    # --- subscribing ------------------------------------------------------------------------------

    def subscribe(self, pattern: Topic) -> None:
        """Ask for the events of a pattern."""
        self._patterns.add(pattern, None)
        self._beginnings.subscribed(pattern, time.monotonic())
        self._down.subscribe(wanted_prefix(pattern))

    def confirm(self, pattern: Topic, last: int, since: float, then: Confirmed) -> None:
        """Call back once every subscription holds: no event published from then on is missed."""
        self._confirming.confirm(pattern, last, since, then)

    def unsubscribe(self, pattern: Topic) -> None:
        """Ask for them no more."""
        self._down.unsubscribe(wanted_prefix(pattern))
        self._patterns.remove(pattern, None)
        self._beginnings.unsubscribed(pattern)
        self._hand_on(self._follower.forget_others(self._patterns.wants))
        self._arm()

    # --- the conversation with the hub ------------------------------------------------------------

    def _join_afresh(self) -> None:
        self._stop_joining()
        self.has_hub = False
        self._joining = self._confirming.echo(self._join)
        self._join_timer = self._reactor.call_later(_JOIN_S, self._join_afresh)

    def _join(self) -> None:
        if not self.tell(Join(self._name, self._behind.filters)):
            self._stop_joining()
            self._join_timer = self._reactor.call_later(_RETRY_S, self._join_afresh)
        elif self._is_away:
            self._is_away = False
            self._follower.found(time.monotonic())
            self._arm()

    def _stop_joining(self) -> None:
        if self._joining is not None:
            self._confirming.withdraw(self._joining)
        self._joining = None
        if self._join_timer is not None:
            self._join_timer.cancel()
            self._join_timer = None

    def tell(self, message: ToHub) -> bool:
        """Tell the hub; False if there is none."""
        try:
            self._up.send(TO_HUB.encode(message), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _drain_up(self) -> None:
        for _ in range(_BURST):
            try:
                body = self._up.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._told(FROM_HUB.decode(body))

    def _told(self, message: FromHub) -> None:
        if isinstance(message, Accepted):
            self.outbox.accepted(message.transmission)
            self._behind.room()
        elif isinstance(message, Joined):
            self._joined(message)
        elif isinstance(message, Replayed):
            self._replayed(message)
        elif isinstance(message, Numbers):
            self._counted(message)
        elif isinstance(message, JoinAgain):
            self._join_afresh()
        elif isinstance(message, Recalled):
            self._confirming.recalled(message)
        elif isinstance(message, Interest):
            self._behind.told_interest(message)
        elif isinstance(message, Outcome):
            self._answers.over(message.incarnation, message.report)
            self._behind.outcome(message)

    def _joined(self, joined: Joined) -> None:
        self._stop_joining()
        self.has_hub, self._was_joined, self._has_lost = True, True, False
        early, self._early = self._early, []
        for run in early:
            self._follow(run)
        for run in (*self.outbox.sticky(), *self.outbox.after(joined.after)):
            if self.has_hub:
                self._send_run(run)
        self._confirming.joined()
        self._behind.room()

    def _counted(self, numbers: Numbers) -> None:
        if self._is_away:
            return  # the dead hub's: the next one tells its own to who joins it
        now = time.monotonic()
        for line in numbers.lines:
            if self.outbox.is_own(line.source, line.incarnation):
                continue  # who wants it here has had it
            key = (line.source, line.incarnation, Topic(line.topic))
            has_begun = self._beginnings.told(key, now) and self._was_joined
            if has_begun or (self._has_lost and self._patterns.wants(key[2])):
                # Nothing of this line may have come: it was lost, or went out before the new hub
                # was joined.
                self._hand_on(self._follower.begin(key, line.first))
            self._ask(self._follower.counted(key, line.last, now))

    def _replayed(self, message: Replayed) -> None:
        runs = [run for run in map(_run_of, message.frames) if run is not None]
        key = (message.source, message.incarnation, Topic(message.topic))
        now = time.monotonic()
        deliveries, wanted = self._follower.replayed(key, runs, message.last, now)
        self._hand_on(deliveries)
        self._ask(wanted)

    def _drain_down(self) -> None:
        for _ in range(_BURST):
            try:
                frame = self._down.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            if frame[:1] == MARK:
                self._marked(frame)
            else:
                self._run_arrived(frame)

    def _marked(self, frame: bytes) -> None:
        if frame.startswith(ECHO):
            self._confirming.came(frame)
        elif frame.startswith(SYNC):
            self.tell(Synced(int.from_bytes(frame[len(SYNC) :], "big")))
        elif frame.startswith(NUMBERS):
            self._told(FROM_HUB.decode(frame[len(NUMBERS) :]))
        elif frame.startswith(ASKED):
            incarnation, report = EVENT.unpack_from(frame, len(ASKED))
            topic = read_topic(frame[len(ASKED) + EVENT.size :])
            names = self._behind.concerned(incarnation, report, topic)
            self.tell(Concerned(incarnation, report, names))
            for said in self._answers.asked(incarnation, report):
                self.tell(said)

    def _run_arrived(self, frame: bytes) -> None:
        run = _run_of(frame)
        if run is None or self.outbox.is_own(run.head.source, run.head.incarnation):
            return  # who wants it here has had it
        if not self._patterns.wants(run.head.topic):
            return  # it was under way when its type was unsubscribed
        is_known = self._follower.follows(run.head.line)
        if self._has_lost and not is_known and len(self._early) < _MAX_EARLY:
            self._early.append(run)
        else:
            self._follow(run)

    def _follow(self, run: Run) -> None:
        deliveries, wanted = self._follower.arrive(run, time.monotonic())
        self._hand_on(deliveries)
        self._ask(wanted)

    def _ask(self, wanted: Replay | None) -> None:
        if wanted is not None:
            self.tell(wanted)
            # Else it is due before this one: all wait for as long, or for another hub.
            if self._timer is None or self._timer.when > time.monotonic() + REPLAY_S:
                self._arm()

    def _hand_on(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._behind.deliver(delivery)

    def _arm(self) -> None:
        deadline = self._follower.deadline
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._reactor.call_at(deadline, self._expire)

    def _expire(self) -> None:
        deliveries, asked = self._follower.expire(time.monotonic())
        self._hand_on(deliveries)
        for wanted in asked:
            self.tell(wanted)
        self._arm()


def _run_of(frame: bytes) -> Run | None:
    """Read a run; None where another peer sent nonsense: its numbers will show the hole."""
    try:
        return unpack_run(frame)
    except RemoteProtocolError:
        return None
