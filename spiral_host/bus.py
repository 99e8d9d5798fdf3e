"""Drive the hub: events between its decisions and the daemon's sockets."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from protocol import failpoints
from protocol.errors import RemoteProtocolError, SpiralHostError
from protocol.events import PluginEvent
from protocol.feed import (
    ASKED,
    ECHO,
    EVENT,
    FROM_HUB,
    NUMBERS,
    SYNC,
    TO_HUB,
    Accepted,
    Concerned,
    FromHub,
    Informed,
    Join,
    JoinAgain,
    Joined,
    LastNumber,
    Numbers,
    Outcome,
    Ran,
    Recall,
    Recalled,
    Replay,
    Replayed,
    Synced,
    ToHub,
    is_run,
)
from protocol.feed import Interest as InterestTold
from protocol.names import Topic, parse_pattern
from protocol.outbox import Outbox
from protocol.patterns import pattern_of
from protocol.payloads import encode_event
from protocol.reactor import Reactor, Timer
from protocol.runs import Publication, pack_body, unpack_head
from spiral_host import hub as decided
from spiral_host.endpoint import Endpoint, Sent
from spiral_host.hub import Accept, Ask, FanOut, Hub, Mark, TellNumbers
from spiral_host.interest import AnswerEcho, Interest, TellInterest
from spiral_host.reports import Finished, Reports

_UNSUBSCRIBE: Final = b"\0"
_SUBSCRIBE: Final = b"\1"
"""How ZeroMQ opens what a SUB socket tells; whatever else it hands up, somebody made up."""

_LINES: Final = 1000
"""Rows of one `Numbers`, so that it stays below a message's limit."""

_MAX_STRANGERS: Final = 1000

_AGAIN_S: Final = 0.1
"""How soon a peer whose queue was full is told again what is wanted, seconds."""

Action = decided.Action | TellInterest | AnswerEcho | Finished


class Bus:
    """The daemon's side of the bus; lives as long as the daemon."""

    def __init__(self, hub: Hub, endpoint: Endpoint, reactor: Reactor) -> None:
        self.violations = 0
        """Messages that were none; they are dropped and harm nobody."""
        self._hub = hub
        self._interest = Interest()
        self._reports = Reports()
        self._endpoint = endpoint
        self._reactor = reactor
        self._own = Outbox()
        self._strangers: set[bytes] = set()
        self._dead: set[str] = set()
        self.knows: Callable[[str], bool] = lambda _: True
        """Says whether a peer of this name is there; set by the daemon, who knows who is."""
        self._timer: Timer | None = None

    # --- what the daemon does ---------------------------------------------------------------------

    def publish(self, event: PluginEvent) -> None:
        """Put an event of the daemon's own on the bus."""
        said = Publication(Topic(event.type), pack_body([encode_event(event)]), 1)
        head, frame = self._own.put("spiral-host", self._hub.epoch, said, time.time())
        self._own.accepted(head.transmission)
        self._carry_out(self._hub.publish(head, frame, time.monotonic()))

    def open(self) -> None:
        """Wait for no more peers."""
        self._carry_out(self._hub.open(time.monotonic()))

    def leave(self, name: str) -> None:
        """Forget a peer that is gone."""
        peer = self._hub.place_of(name)
        self._carry_out(self._hub.leave(name, time.monotonic()))
        if peer is not None:
            self._carry_out(self._interest.left(peer))
            self._carry_out(self._reports.left(peer))

    def bury(self, name: str) -> None:
        """Forget a peer whose process has ended, for good: its last words may be still to come."""
        self._dead.add(name)
        self.leave(name)

    # --- what peers send --------------------------------------------------------------------------

    def received(self, peer: bytes, frames: list[bytes]) -> None:
        """Take in what a peer of the bus sent."""
        try:
            if len(frames) != 1:
                raise RemoteProtocolError("neither a run nor a message")
            if is_run(frames[0]):
                if failpoints.ARMED:
                    failpoints.hit("hub.before")
                self._ask_to_join(peer)
                head = unpack_head(frames[0])
                self._carry_out(self._hub.arrive(peer, head, frames[0], time.monotonic()))
                if failpoints.ARMED:
                    failpoints.hit("hub.after")
            else:
                self._told(peer, TO_HUB.decode(frames[0]))
        except SpiralHostError:  # it is malformed, or what it asks for fits in no answer
            self.violations += 1

    def _told(self, peer: bytes, message: ToHub) -> None:
        if isinstance(message, Join):
            self._join(peer, message)
            return
        self._ask_to_join(peer)
        if isinstance(message, Synced):
            self._carry_out(self._hub.synced(peer, message.number, time.monotonic()))
        elif isinstance(message, Replay):
            frames = tuple(self._hub.kept.replay(message))
            line = (message.source, message.incarnation, message.topic)
            self._tell(peer, Replayed(*line, message.last, frames))
        elif isinstance(message, Recall):
            self._recall(peer, message)
        elif isinstance(message, Informed):
            self._carry_out(self._interest.written(peer, message.generation))
        elif isinstance(message, Concerned):
            event = (message.incarnation, message.report)
            self._carry_out(self._reports.expected(peer, *event, message.names))
        elif isinstance(message, Ran):
            self._carry_out(
                self._reports.answered(
                    peer,
                    message.incarnation,
                    message.report,
                    message.name,
                    message.matched,
                    message.failed,
                    message.failures,
                )
            )

    def _join(self, peer: bytes, message: Join) -> None:
        self._strangers.discard(peer)
        if message.name in self._dead or not self.knows(message.name):
            return  # everybody would wait for what it never says
        before = self._hub.place_of(message.name)
        after, actions = self._hub.join(peer, message.name, time.monotonic())
        self._carry_out(actions)
        self._tell(peer, Joined(self._hub.epoch, after))
        if message.filters:
            self._carry_out(self._interest.joined(peer, before))

    def _recall(self, peer: bytes, message: Recall) -> None:
        pattern, now = parse_pattern(message.pattern), time.monotonic()
        frames = self._hub.kept.recall(pattern, message.last, message.since, now)
        self._tell(peer, Recalled(message.request, tuple(frames)))

    def _ask_to_join(self, peer: bytes) -> None:
        """Ask a peer that reconnected without knowing it, once: what it sends is dropped."""
        if self._hub.knows(peer) or peer in self._strangers:
            return
        if self._tell(peer, JoinAgain()) is Sent.YES:
            if len(self._strangers) >= _MAX_STRANGERS:
                self._strangers.clear()  # most are gone; one that is not may be asked twice
            self._strangers.add(peer)

    def subscribed(self, frame: bytes) -> None:
        """See a subscription come or go; one to an echo is answered when all others hold."""
        is_new, prefix = frame[:1] == _SUBSCRIBE, frame[1:]
        if not is_new and frame[:1] != _UNSUBSCRIBE:
            self.violations += 1
            return
        if prefix.startswith(ECHO):
            if is_new:
                self._carry_out(self._interest.echo(prefix))
            else:
                self._interest.withdrawn(prefix)
            return
        pattern = pattern_of(prefix)
        if pattern is not None and is_new:
            self._carry_out(self._interest.subscribed(pattern))
        elif pattern is not None:
            self._carry_out(self._interest.unsubscribed(pattern))

    # --- what the deciders want -------------------------------------------------------------------

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._do(action)
        self._arm()

    def _do(self, action: Action) -> None:
        if isinstance(action, FanOut):
            self._endpoint.fan_out(action.frame)
        elif isinstance(action, Mark):
            self._endpoint.fan_out(SYNC + action.number.to_bytes(8, "big"))
        elif isinstance(action, Accept):
            self._tell(action.peer, Accepted(action.transmission))
        elif isinstance(action, TellNumbers):
            self._tell_numbers(action.peer, action.lines)
        elif isinstance(action, Ask):
            head = action.head
            begun = self._reports.begin(action.peer, head, self._hub.peers, time.monotonic())
            event = EVENT.pack(head.incarnation, head.report)
            self._endpoint.fan_out(ASKED + event + head.topic.encode())
            self._carry_out(begun)
        elif isinstance(action, Finished):
            figures = (action.matched, action.delivered, action.failures)
            self._tell(action.peer, Outcome(action.incarnation, action.report, *figures))
        elif isinstance(action, AnswerEcho):
            self._endpoint.fan_out(action.mark)
        elif isinstance(action, TellInterest):
            self._tell_interest(action)

    def _tell(self, peer: bytes, message: FromHub) -> Sent:
        return self._endpoint.send_event_peer(peer, FROM_HUB.encode(message))

    def _tell_numbers(self, peer: bytes | None, lines: tuple[LastNumber, ...]) -> None:
        for first in range(0, len(lines), _LINES):
            numbers = Numbers(lines[first : first + _LINES])
            if peer is None:
                self._endpoint.fan_out(NUMBERS + FROM_HUB.encode(numbers))
            else:
                self._tell(peer, numbers)

    def _tell_interest(self, told: TellInterest) -> None:
        change = InterestTold(told.generation, told.added, told.removed, told.full)
        if self._tell(told.peer, change) is not Sent.YES:
            again = lambda: self._carry_out(self._interest.resend(told.peer))  # noqa: E731
            self._reactor.call_later(_AGAIN_S, again)

    def _arm(self) -> None:
        due = [at for at in (self._hub.deadline, self._reports.deadline) if at is not None]
        deadline = min(due, default=None)
        if self._timer is not None and self._timer.when == deadline and self._timer.callback:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._reactor.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        self._carry_out([*self._hub.expire(now), *self._reports.expire(now)])
