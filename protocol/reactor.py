"""One thread's loop over descriptors, ZeroMQ sockets and timers; it knows nothing of what they say.

A ZeroMQ socket's descriptor is edge-triggered and says only "look again", so every turn asks
each socket itself before it sleeps.
"""

import heapq
import select
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol

POLLIN: Final = 1
"""ZeroMQ's flag for "a message can be received", which equals poll(2)'s."""

_WRITABLE: Final = select.EPOLLOUT
_ANYTHING_ELSE: Final = ~select.EPOLLOUT


class ZmqSocket(Protocol):
    """What the loop needs of a ZeroMQ socket; workers use this loop and never import ZeroMQ."""

    @property
    def FD(self) -> Any:  # noqa: ANN401, N802 - pyzmq's name, and its type
        """The descriptor that says "look again"."""

    @property
    def EVENTS(self) -> Any:  # noqa: ANN401, N802 - pyzmq's name, and its type
        """What can be done now without waiting."""


class Timer:
    """A call that is due at a moment; lives until then or until it is cancelled."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """Never call it; harmless afterwards."""
        self.callback = None


class Reactor:
    """Calls back when something can be read, written or is due. Belongs to one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wait = self._epoll.poll
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._zmq: list[tuple[ZmqSocket, Callable[[], None]]] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` can be read or its other end is gone."""
        self._readers[fd] = callback
        self._update(fd)

    def watch_writable(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` can be written, until `forget_writable`."""
        self._writers[fd] = callback
        self._update(fd)

    def forget_writable(self, fd: int) -> None:
        """Stop watching for room to write; harmless if nobody does."""
        if self._writers.pop(fd, None) is not None:
            self._update(fd)

    def forget(self, fd: int) -> None:
        """Stop watching altogether, before the descriptor is closed."""
        known = self._readers.pop(fd, None), self._writers.pop(fd, None)
        if known != (None, None):
            self._epoll.unregister(fd)

    def watch_zmq(self, socket: ZmqSocket, callback: Callable[[], None]) -> None:
        """Call back whenever a message can be received; the callback may leave some for later."""
        self._zmq.append((socket, callback))
        self._epoll.register(socket.FD, select.EPOLLIN)

    def forget_zmq(self, socket: ZmqSocket) -> None:
        """Stop watching, before the socket is closed."""
        self._zmq = [(known, callback) for known, callback in self._zmq if known is not socket]
        self._epoll.unregister(socket.FD)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once `time.monotonic()` has reached `when`."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back after so many seconds."""
        return self.call_at(time.monotonic() + delay_s, callback)

    def turn(self, longest_s: float | None = None) -> None:
        """Wait until something is ready or due, or `longest_s` has passed, and call back for it."""
        for fd, happened in self._wait(self._wait_s(longest_s)):
            if happened & _WRITABLE and (callback := self._writers.get(fd)):
                callback()
            # Looked up now: an earlier callback of this turn may have forgotten it.
            if happened & _ANYTHING_ELSE and (callback := self._readers.get(fd)):
                callback()
        if self._zmq:
            self._ask_zmq()
        if self._timers:
            self._run_due(time.monotonic())

    def wait_for(self, fd: int, deadline: float) -> bool:
        """Wait until one watched descriptor can be read, calling back for all the others.

        Called from inside a callback or before the loop runs; its own callback is not called.

        Returns:
            False when `time.monotonic()` has reached `deadline`; True also when the descriptor
            is no longer watched, because a callback has closed it.
        """
        mine = self._readers.get(fd)
        while (left := deadline - time.monotonic()) > 0:
            is_ready = False
            for ready, happened in self._wait(left):
                if ready == fd:
                    is_ready = True
                elif (happened & _WRITABLE and (callback := self._writers.get(ready))) or (
                    callback := self._readers.get(ready)
                ):
                    callback()
            if is_ready or self._readers.get(fd) is not mine:
                return True
        return False

    def close(self) -> None:
        """Let go of the kernel's side; watched descriptors stay open."""
        self._epoll.close()

    def _update(self, fd: int) -> None:
        events = select.EPOLLIN if fd in self._readers else 0
        if fd in self._writers:
            events |= select.EPOLLOUT
        if not events:
            self._epoll.unregister(fd)  # or its other end's leaving would wake us for ever
            return
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def _ask_zmq(self) -> None:
        for socket, callback in tuple(self._zmq):
            if socket.EVENTS & POLLIN:
                callback()

    def _wait_s(self, longest_s: float | None) -> float:
        for socket, _ in self._zmq:
            if socket.EVENTS & POLLIN:
                return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1 if longest_s is None else longest_s
        wait_s = max(0.0, self._timers[0][0] - time.monotonic())
        return wait_s if longest_s is None else min(wait_s, longest_s)

    def _run_due(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()
