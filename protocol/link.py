"""A node's or client's end of the control conversation: one ZeroMQ DEALER that knows its state.

ZeroMQ reconnects by itself and says so only to who asks; the daemon must be greeted anew after
every reconnect, so the socket's monitor drives this. Imported by nodes and clients, never by
workers.
"""

from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol.codec import MAX_MESSAGE
from protocol.reactor import Reactor

RECONNECT_MS: Final = 20
RECONNECT_MAX_MS: Final = 200
HEARTBEAT_MS: Final = 2000
SILENT_MS: Final = 10_000
"""How long the other end may be silent. ZeroMQ's own thread answers, so busy ends are heard."""
_MAX_FRAME: Final = 2 * MAX_MESSAGE

MAX_RUNS: Final = 1000
"""Runs of events that may wait for a peer at either end: 32 MiB when each is as long as a
publisher makes it, and half a second of the fastest stream measured. Others can be replayed."""


def dealer(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Make a DEALER that keeps nothing for a daemon that is not there, and comes back quickly."""
    socket = _dealer(context)
    socket.connect(address)
    return socket


def publisher(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Make a DEALER for events; it keeps what a hub that is busy does not take yet.

    No bound of its own: what is under way stands in the rings of those who published it.
    """
    socket = _dealer(context)
    socket.set(zmq.SNDHWM, 0)
    socket.connect(address)
    return socket


def subscriber(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Make a SUB. With SNDHWM 0 it keeps all its subscriptions over a reconnect, not just 1000."""
    socket = context.socket(zmq.SUB)
    _tune(socket)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, MAX_RUNS)
    socket.connect(address)
    return socket


def _dealer(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    _tune(socket)
    socket.set(zmq.IMMEDIATE, 1)
    return socket


def _tune(socket: zmq.Socket[bytes]) -> None:
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.MAXMSGSIZE, _MAX_FRAME)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.set(zmq.RCVHWM, 20_000)


def watch_over(socket: zmq.Socket[bytes]) -> None:
    """Have ZeroMQ end connections whose other end is stopped. What hangs, it cannot see."""
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, SILENT_MS)
    socket.set(zmq.HEARTBEAT_TTL, SILENT_MS)


class DaemonLink:
    """The control connection of one node or client; lives as long as it does.

    Args:
        connected: Called after every (re)connect: greet now.
        disconnected: Called when the daemon is gone.
        received: Called with each message.
    """

    def __init__(
        self,
        reactor: Reactor,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        *,
        connected: Callable[[], None],
        disconnected: Callable[[], None],
        received: Callable[[bytes], None],
    ) -> None:
        self.is_connected = False
        self._reactor = reactor
        self._connected = connected
        self._disconnected = disconnected
        self._received = received
        self._socket = _dealer(context)
        watch_over(self._socket)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        reactor.watch_zmq(self._monitor, self._changed)
        reactor.watch_zmq(self._socket, self._drain)
        self._socket.connect(address)

    def send(self, body: bytes) -> bool:
        """Send a message; False when no daemon is there or it does not read."""
        try:
            self._socket.send(body, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._reactor.forget_zmq(self._monitor)
        self._reactor.forget_zmq(self._socket)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _changed(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_connected = True
                self._connected()
            elif event == zmq.EVENT_DISCONNECTED and self.is_connected:
                self.is_connected = False
                self._drain()
                self._disconnected()

    def _drain(self) -> None:
        while True:
            try:
                body = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._received(body)
