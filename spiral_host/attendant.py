"""The thread that runs an application's own code: event callbacks, and calls of its services.

A thread apart from the connection's, so that a callback may use the host like any other code.
It polls the lanes of incoming calls itself; no call passes through two threads.
"""

import collections
import contextlib
import os
import socket
import threading
from collections.abc import Callable

from protocol.errors import SpiralHostError
from protocol.follower import Delivery
from protocol.lane import Lane
from protocol.reactor import Reactor
from protocol.servant import Servant
from protocol.subscriptions import Subscriptions


class Uncounted:
    """A client's calls are not counted: it has no flight page."""

    def count_call(self) -> None:
        """Do nothing."""

    def count_error(self) -> None:
        """Do nothing."""


class Attendant:
    """Runs user code for one connection; its thread starts with the first need for it.

    Args:
        lane_closed: Called with the number of a lane whose caller is gone.
    """

    def __init__(self, lane_closed: Callable[[int], None]) -> None:
        self.servant = Servant(Uncounted())
        self.subscriptions = Subscriptions()
        self._lane_closed = lane_closed
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._lanes: dict[int, Lane] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def deliver(self, delivery: Delivery) -> None:
        """Have the callbacks called for a run or a gap; called by the connection's thread."""
        self._do(lambda: self.subscriptions.deliver(delivery))

    def serve(self, number: int, fd: int) -> None:
        """Serve the calls that come on a lane; called by the connection's thread."""
        self._do(lambda: self._open(number, fd))

    def close(self) -> None:
        """Stop the thread, after what it is doing."""
        self._is_over = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if thread is None:
            os.close(self._wake)

    def _do(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="spiral-host callbacks", daemon=True
                )
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        self._reactor = Reactor()
        self._reactor.watch(self._wake, self._woken)
        while not self._is_over:
            self._reactor.turn()
        for lane in self._lanes.values():
            lane.close()
        self._reactor.close()
        os.close(self._wake)

    def _woken(self) -> None:
        os.eventfd_read(self._wake)
        while self._jobs and not self._is_over:
            self._jobs.popleft()()

    def _open(self, number: int, fd: int) -> None:
        lane = self._lanes[number] = Lane(socket.socket(fileno=fd))
        self._reactor.watch(lane.fd, lambda: self._serve(number, lane))

    def _serve(self, number: int, lane: Lane) -> None:
        try:
            while (frame := lane.receive()) is not None:
                if not lane.send(self.servant.serve(frame)):
                    self._reactor.watch_writable(lane.fd, lambda: self._flush(number, lane))
                if not lane.has_more():
                    return
        except (EOFError, OSError, SpiralHostError):
            self._end(number, lane)

    def _flush(self, number: int, lane: Lane) -> None:
        try:
            if lane.flush():
                self._reactor.forget_writable(lane.fd)
        except OSError:
            self._end(number, lane)

    def _end(self, number: int, lane: Lane) -> None:
        self._reactor.forget(lane.fd)
        self._lanes.pop(number, None)
        lane.close()
        self._lane_closed(number)
