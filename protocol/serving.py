"""Serve the calls that come on lanes: in a loop's own thread, or in a thread made for it.

The thread that polls a lane also runs its calls, so no call passes through two threads.
"""

import collections
import os
import socket
import threading
from collections.abc import Callable

from protocol.codec import new_packer
from protocol.errors import SpiralHostError
from protocol.lane import Lane
from protocol.reactor import Reactor
from protocol.servant import Servant


class LaneServer:
    """The callee's ends of some lanes, all served by the thread of one loop.

    Args:
        closed: Called with the number of a lane whose caller is gone or broke the protocol.
    """

    def __init__(self, reactor: Reactor, servant: Servant, closed: Callable[[int], object]) -> None:
        self._reactor = reactor
        self._servant = servant
        self._closed = closed
        self._lanes: dict[int, Lane] = {}
        self._pack = new_packer()

    def __len__(self) -> int:
        return len(self._lanes)

    def open(self, number: int, fd: int) -> None:
        """Serve one lane more."""
        lane = self._lanes[number] = Lane(socket.socket(fileno=fd))
        self._reactor.watch(fd, lambda: self._serve(number, lane))

    def close(self) -> None:
        """Close every lane, telling nobody: this process is leaving."""
        for lane in self._lanes.values():
            self._reactor.forget(lane.fd)
            lane.close()
        self._lanes.clear()

    def _serve(self, number: int, lane: Lane) -> None:
        try:
            while (frame := lane.receive()) is not None:
                if not lane.send(self._servant.serve(frame, self._pack)):
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
        self._closed(number)


class ServingThread:
    """A thread that serves lanes and does what else it is given; starts with the first of it."""

    def __init__(self, name: str, servant: Servant, closed: Callable[[int], object]) -> None:
        self.lanes = 0
        """How many lanes it serves, or is about to."""
        self._closed = closed
        self._reactor = Reactor()
        self._lanes = LaneServer(self._reactor, servant, self._lane_closed)
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reactor.watch(self._wake, self._woken)
        self._is_over = False
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def serve(self, number: int, fd: int) -> None:
        """Serve one lane more; from any thread."""
        self.lanes += 1
        self.do(lambda: self._lanes.open(number, fd))

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back in this thread whenever `fd` can be read; from any thread."""
        self.do(lambda: self._reactor.watch(fd, callback))

    def do(self, job: Callable[[], None]) -> None:
        """Run something in this thread, after what it is doing; from any thread."""
        self._jobs.append(job)
        with self._starting:
            if not self._thread.is_alive() and not self._is_over:
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stop after what it is doing, and wait for that; its own code may call this too."""
        with self._starting:
            self._is_over = True
            started = self._thread.is_alive()
        os.eventfd_write(self._wake, 1)
        if self._thread is threading.current_thread():
            return
        if started:
            self._thread.join()
        else:
            self._leave()

    def _lane_closed(self, number: int) -> None:
        self.lanes -= 1
        self._closed(number)

    def _run(self) -> None:
        while not self._is_over:
            self._reactor.turn()
        self._leave()

    def _leave(self) -> None:
        self._lanes.close()
        self._reactor.close()
        os.close(self._wake)

    def _woken(self) -> None:
        os.eventfd_read(self._wake)
        while self._jobs and not self._is_over:
            self._jobs.popleft()()
