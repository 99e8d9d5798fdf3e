"""Drive the hub: events between its decisions and the daemon's sockets."""

import time
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.events import PluginEvent, said_by
from protocol.feed import (
    ECHO,
    FROM_HUB,
    SYNC,
    TO_HUB,
    Accepted,
    Join,
    JoinAgain,
    Joined,
    Numbers,
    Replay,
    Synced,
    encode_said,
    unpack_head,
)
from protocol.names import Topic
from protocol.outbox import Outbox
from protocol.reactor import Reactor, Timer
from spiral_host.endpoint import Endpoint, Sent
from spiral_host.hub import Accept, Action, FanOut, Hub, Mark, TellNumbers

_RUN: int = 3
_SUBSCRIBE: int = 1

_LINES: Final = 1000
"""Rows of one `Numbers`, so that it stays below a message's limit."""

_MAX_STRANGERS: Final = 1000


class Bus:
    """The daemon's side of the bus; lives as long as the daemon."""

    def __init__(self, hub: Hub, endpoint: Endpoint, reactor: Reactor) -> None:
        self.violations = 0
        """Messages that were none; they are dropped and harm nobody."""
        self._hub = hub
        self._endpoint = endpoint
        self._reactor = reactor
        self._epoch = hub.epoch.to_bytes(8, "big")
        self._own = Outbox()
        self._strangers: set[bytes] = set()
        self._timer: Timer | None = None

    def publish(self, event: PluginEvent) -> None:
        """Put an event of the daemon's own on the bus."""
        topic = Topic(event.type)
        payload = encode_said(topic, said_by(event))
        frames = self._own.put("spiral-host", self._hub.epoch, topic, [payload], time.time())
        head = unpack_head(frames[0], frames[1])
        self._own.accepted(head.transmission)
        self._carry_out(self._hub.publish(head, frames))

    def received(self, peer: bytes, frames: list[bytes]) -> None:
        """Take in what a peer of the bus sent."""
        try:
            if len(frames) == _RUN:
                topic, head, body = frames
                known = unpack_head(topic, head)
                self._ask_to_join(peer)
                self._carry_out(self._hub.arrive(peer, known, (topic, head, body)))
            elif len(frames) == 1:
                self._told(peer, frames[0])
            else:
                raise RemoteProtocolError("neither a run nor a message")
        except RemoteProtocolError:
            self.violations += 1

    def _told(self, peer: bytes, body: bytes) -> None:
        message = TO_HUB.decode(body)
        now = time.monotonic()
        if not isinstance(message, Join):
            self._ask_to_join(peer)
        if isinstance(message, Synced):
            self._carry_out(self._hub.synced(peer, message.number, now))
        elif isinstance(message, Join):
            self._strangers.discard(peer)
            after, actions = self._hub.join(peer, message.name, now)
            self._carry_out(actions)
            joined = FROM_HUB.encode(Joined(self._hub.epoch, after))
            self._endpoint.send_event_peer(peer, joined)
        elif isinstance(message, Replay):
            replayed = self._hub.replay(message)
            self._endpoint.send_event_peer(peer, FROM_HUB.encode(replayed))

    def _ask_to_join(self, peer: bytes) -> None:
        """Ask a peer that reconnected without knowing it, once: what it sends is dropped."""
        if self._hub.knows(peer) or peer in self._strangers:
            return
        if self._endpoint.send_event_peer(peer, FROM_HUB.encode(JoinAgain())) is Sent.YES:
            if len(self._strangers) >= _MAX_STRANGERS:
                self._strangers.clear()  # most are gone; one that is not may be asked twice
            self._strangers.add(peer)

    def subscribed(self, frame: bytes) -> None:
        """See a subscription pass; one to an echo is answered, so its peer knows it is in force."""
        if frame[:1] == bytes([_SUBSCRIBE]) and frame[1:].startswith(ECHO):
            self._endpoint.fan_out([frame[1:]])

    def pause(self) -> None:
        """No event is waiting for the moment."""
        self._carry_out(self._hub.pause(time.monotonic()))

    def open(self) -> None:
        """Wait for no more peers."""
        self._carry_out(self._hub.open(time.monotonic()))

    def leave(self, name: str) -> None:
        """Forget a peer that is gone."""
        self._carry_out(self._hub.leave(name, time.monotonic()))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, FanOut):
                topic, head, body = action.frames
                self._endpoint.fan_out([topic, self._epoch, head, body])
            elif isinstance(action, Mark):
                self._endpoint.fan_out([SYNC, action.number.to_bytes(8, "big")])
            elif isinstance(action, Accept):
                accepted = FROM_HUB.encode(Accepted(action.transmission))
                self._endpoint.send_event_peer(action.peer, accepted)
            elif isinstance(action, TellNumbers):
                for first in range(0, len(action.lines), _LINES):
                    numbers = FROM_HUB.encode(Numbers(action.lines[first : first + _LINES]))
                    self._endpoint.send_event_peer(action.peer, numbers)
        self._arm()

    def _arm(self) -> None:
        deadline = self._hub.deadline
        if self._timer is not None and self._timer.when == deadline and self._timer.callback:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._reactor.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._carry_out(self._hub.expire(time.monotonic()))
