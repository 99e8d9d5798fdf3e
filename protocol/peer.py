"""One peer of the bus: publishes with numbers, subscribes with certainty, follows without a hole.

A node and a client are peers alike. Deciders do the thinking (outbox.py, follower.py); this is
their driver over a DEALER to the hub and a SUB from it. Never imported by workers.
"""

import time
from collections.abc import Callable
from secrets import token_bytes
from typing import Final

import zmq

from protocol.errors import RemoteProtocolError
from protocol.feed import (
    ECHO,
    FROM_HUB,
    SYNC,
    TO_HUB,
    Accepted,
    Frames,
    Join,
    JoinAgain,
    Joined,
    Numbers,
    Replay,
    Replayed,
    Run,
    Synced,
    ToHub,
    unpack_run,
    wanted_prefix,
)
from protocol.follower import Delivery, Follower, is_wanted
from protocol.link import dealer, subscriber
from protocol.names import Topic
from protocol.outbox import Outbox
from protocol.reactor import Reactor, Timer

_RETRY_S: Final = 0.02
"""How soon the hub is tried again while its socket is not connected yet, seconds."""

_JOIN_S: Final = 2.0
"""How long joining may take before it is begun afresh, seconds; a word may have been lost."""

_MAX_EARLY: Final = 10_000
"""Runs of unknown lines that wait for a new hub to say where these began."""

_BURST: Final = 256
_FANNED_RUN: Final = 4


class BusPeer:
    """The events of one node or client; lives as long as it does.

    Args:
        name: This life of this process; the hub keeps its place under it.
        deliver: Called with runs and gaps, in order.
        room: Called when rings that were full may have room again.
    """

    def __init__(
        self,
        reactor: Reactor,
        context: zmq.Context[zmq.Socket[bytes]],
        addresses: tuple[str, str],
        *,
        deliver: Callable[[Delivery], None],
        room: Callable[[], None],
    ) -> None:
        self.outbox = Outbox()
        self.has_hub = False
        self._name = ""
        self._reactor = reactor
        self._deliver = deliver
        self._room = room
        self._follower = Follower()
        self._topics: set[Topic] = set()
        self._was_joined = False
        self._has_lost = False
        self._early: list[Run] = []
        self._joining: bytes | None = None
        self._join_timer: Timer | None = None
        self._echoes: dict[bytes, Callable[[], None]] = {}
        self._timer: Timer | None = None
        self._up = dealer(context, addresses[0])
        self._down = subscriber(context, addresses[1])
        self._down.subscribe(SYNC)
        reactor.watch_zmq(self._up, self._drain_up)
        reactor.watch_zmq(self._down, self._drain_down)

    # --- the daemon comes and goes ----------------------------------------------------------------

    def join(self, name: str) -> None:
        """A daemon is there: take part, as soon as every subscription is in force."""
        self._name = name
        self._join_afresh()

    def lost(self) -> None:
        """The daemon is gone; what is published meanwhile is kept."""
        self._stop_joining()
        self._has_lost = self._was_joined
        self.has_hub = False

    def close(self) -> None:
        """Close both sockets; what was not accepted is lost with this process."""
        self._stop_joining()
        self._reactor.forget_zmq(self._up)
        self._reactor.forget_zmq(self._down)
        self._up.close(linger=0)
        self._down.close(linger=0)

    # --- publishing -------------------------------------------------------------------------------

    def publish(self, source: str, incarnation: int, topic: Topic, payloads: list[bytes]) -> None:
        """Number events, keep them until the hub has them everywhere, and send them."""
        frames = self.outbox.put(source, incarnation, topic, payloads, time.time())
        if self.has_hub:
            self._send_run(frames)

    def _send_run(self, frames: Frames) -> None:
        try:
            self._up.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            # The hub does not keep up or is gone. All of it is sent again when it is joined anew:
            # afresh, because it may be another, at which no subscription is in force yet.
            self._join_afresh()

    # --- subscribing ------------------------------------------------------------------------------

    def subscribe(self, topic: Topic) -> None:
        """Ask for events of a type."""
        self._topics.add(topic)
        self._down.subscribe(wanted_prefix(topic))

    def confirm(self, then: Callable[[], None]) -> None:
        """Call back once every subscription holds: no event published from then on is missed."""
        self._echo(then)

    def unsubscribe(self, topic: Topic) -> None:
        """Ask for them no more."""
        self._down.unsubscribe(wanted_prefix(topic))
        self._topics.discard(topic)
        self._hand_on(self._follower.forget_others(self._topics))
        self._arm()

    def _echo(self, then: Callable[[], None]) -> bytes:
        # Subscriptions travel in order, so when the hub answers this one the others are in force.
        mark = ECHO + token_bytes(12).hex().encode()
        self._echoes[mark] = then
        self._down.subscribe(mark)
        return mark

    # --- the conversation with the hub ------------------------------------------------------------

    def _join_afresh(self) -> None:
        self._stop_joining()
        self.has_hub = False
        self._joining = self._echo(self._join)
        self._join_timer = self._reactor.call_later(_JOIN_S, self._join_afresh)

    def _join(self) -> None:
        if not self._tell(Join(self._name)):
            self._stop_joining()
            self._join_timer = self._reactor.call_later(_RETRY_S, self._join_afresh)

    def _stop_joining(self) -> None:
        if self._joining is not None and self._echoes.pop(self._joining, None) is not None:
            self._down.unsubscribe(self._joining)
        self._joining = None
        if self._join_timer is not None:
            self._join_timer.cancel()
            self._join_timer = None

    def _tell(self, message: ToHub) -> bool:
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
            self._told(body)

    def _told(self, body: bytes) -> None:
        message = FROM_HUB.decode(body)
        if isinstance(message, Accepted):
            self.outbox.accepted(message.transmission)
            self._room()
        elif isinstance(message, Joined):
            self._stop_joining()
            self.has_hub, self._was_joined, self._has_lost = True, True, False
            early, self._early = self._early, []
            for run in early:
                self._follow(run)
            for frames in self.outbox.after(message.after):
                if self.has_hub:
                    self._send_run(frames)
            self._room()
        elif isinstance(message, Replayed):
            self._replayed(message)
        elif isinstance(message, Numbers):
            self._counted(message)
        elif isinstance(message, JoinAgain):
            self._join_afresh()

    def _counted(self, numbers: Numbers) -> None:
        now = time.monotonic()
        for line in numbers.lines:
            key = (line.source, line.incarnation, Topic(line.topic))
            if self._has_lost and is_wanted(key[2], self._topics):
                # The new hub began before it was joined: nothing of this line may have come.
                self._follower.begin(key, line.first)
            self._ask(self._follower.counted(key, line.last, now))

    def _replayed(self, message: Replayed) -> None:
        topic = Topic(message.topic)
        frame = wanted_prefix(topic)
        pairs = zip(message.heads, message.bodies, strict=False)
        runs = [unpack_run(frame, head, body) for head, body in pairs]
        key = (message.source, message.incarnation, topic)
        self._hand_on(self._follower.replayed(key, runs, message.last))

    def _drain_down(self) -> None:
        for _ in range(_BURST):
            try:
                frames = self._down.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._fanned(frames)

    def _fanned(self, frames: list[bytes]) -> None:
        if frames[0].startswith(ECHO):
            then = self._echoes.pop(frames[0], None)
            if then is not None:
                self._down.unsubscribe(frames[0])
                then()
        elif frames[0] == SYNC:
            self._tell(Synced(int.from_bytes(frames[1], "big")))
        elif len(frames) == _FANNED_RUN:
            topic, _, head, body = frames
            self._run_arrived(topic, head, body)

    def _run_arrived(self, topic: bytes, head: bytes, body: bytes) -> None:
        try:
            run = unpack_run(topic, head, body)
        except RemoteProtocolError:
            return  # another peer's nonsense; its numbers will show the hole
        if not is_wanted(run.topic, self._topics):
            return  # it was under way when its type was unsubscribed
        is_known = self._follower.follows((run.source, run.incarnation, run.topic))
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
            self._tell(wanted)
            self._arm()

    def _hand_on(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._deliver(delivery)

    def _arm(self) -> None:
        deadline = self._follower.deadline
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._reactor.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._hand_on(self._follower.expire(time.monotonic()))
        self._arm()
