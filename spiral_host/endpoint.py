"""The daemon's ZeroMQ sockets and nothing else: made, bound, sent to, received from.

Every option here was forced by a measurement: without ROUTER_MANDATORY a message for a peer that
is gone vanishes without a word; without LINGER=0 an end waits for peers that never come.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import zmq

from protocol.codec import MAX_MESSAGE
from protocol.link import MAX_RUNS, watch_over
from protocol.reactor import Reactor
from spiral_host.rundir import CONTROL, EVENTS_IN, EVENTS_OUT, RunDir

MAX_FRAME: Final = 2 * MAX_MESSAGE
"""Bytes of one ZeroMQ frame: a whole message inside another, with room for the envelope."""

_BURST: Final = 256
"""Messages handled before other descriptors get their turn."""

_HIGH_WATER: Final = 20_000


def is_crowded(used: int, limit: int, *, is_open: bool) -> bool:
    """Decide whether so many descriptors are in use that nobody new may be let in.

    libzmq aborts the whole process when it meets the limit while it lets somebody in. A quarter of
    the limit is what may come between two looks at it; who was refused comes in when an eighth more
    is free, so that the door does not swing.
    """
    free = limit - used
    return free < limit // 4 if is_open else free < limit * 3 // 8


class Sent(Enum):
    """What became of a message."""

    YES = "it is on its way"
    DEAF = "its peer has not read the last 20,000"
    GONE = "its peer is no longer connected"


class Endpoint:
    """The three sockets of one daemon; lives as long as it."""

    def __init__(self, run_dir: RunDir) -> None:
        self._context = zmq.Context()
        self._run_dir = run_dir
        self.is_open = True
        """Whether somebody new is let in."""
        self.control = self._socket(zmq.ROUTER, run_dir.socket(CONTROL))
        self.events_in = self._socket(zmq.ROUTER, run_dir.socket(EVENTS_IN))
        self.events_out = self._socket(zmq.XPUB, run_dir.socket(EVENTS_OUT))

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME)
        socket.set(zmq.SNDHWM, MAX_RUNS if kind == zmq.XPUB else _HIGH_WATER)
        socket.set(zmq.RCVHWM, _HIGH_WATER)
        if kind == zmq.ROUTER:
            socket.set(zmq.ROUTER_MANDATORY, 1)
            watch_over(socket)
        else:
            socket.set(zmq.XPUB_VERBOSE, 1)
        socket.bind(address)
        return socket

    def let_in(self, *, anybody: bool) -> None:
        """Let new peers connect, or nobody; those that are connected stay so either way."""
        if anybody != self.is_open:
            # ZeroMQ's own `unbind` would hang up on those who are here.
            self._run_dir.open_doors() if anybody else self._run_dir.shut_doors()
            self.is_open = anybody

    def watch(
        self,
        reactor: Reactor,
        on_control: Callable[[bytes, list[bytes]], None],
        on_events: Callable[[bytes, list[bytes]], None],
        on_subscription: Callable[[bytes], None],
    ) -> None:
        """Call back for every message."""
        reactor.watch_zmq(self.control, lambda: _drain(self.control, on_control))
        reactor.watch_zmq(self.events_in, lambda: _drain(self.events_in, on_events))

        def on_parts(first: bytes, others: list[bytes]) -> None:
            # Each by itself: ZeroMQ hands on parts that are subscriptions alone, so behind a part
            # that says that more follows somebody else's may stand.
            for frame in (first, *others):
                on_subscription(frame)

        reactor.watch_zmq(self.events_out, lambda: _drain(self.events_out, on_parts))

    def send_control(self, peer: bytes, body: bytes) -> Sent:
        """Send to a node or client."""
        return _send_to(self.control, peer, body)

    def send_event_peer(self, peer: bytes, body: bytes) -> Sent:
        """Send to one peer of the bus; one that misses it joins again."""
        return _send_to(self.events_in, peer, body)

    def fan_out(self, frame: bytes) -> None:
        """Send to every subscriber; those whose queue is full miss it, and their numbers tell."""
        self.events_out.send(frame, zmq.DONTWAIT)

    def close(self) -> None:
        """Close the sockets; nothing is waited for."""
        self._context.destroy(linger=0)


def _send_to(socket: zmq.Socket[bytes], peer: bytes, body: bytes) -> Sent:
    try:
        socket.send_multipart([peer, body], zmq.DONTWAIT)
    except zmq.Again:
        return Sent.DEAF
    except zmq.ZMQError:
        return Sent.GONE
    return Sent.YES


def _drain(socket: zmq.Socket[bytes], take: Callable[[bytes, list[bytes]], None]) -> None:
    for _ in range(_BURST):
        try:
            first, *rest = socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return
        take(first, rest)
