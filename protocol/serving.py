"""Serve the calls that come on lanes: in a loop's own thread, or in a thread made for it.

The thread that polls a lane also runs its calls, so no call passes through two threads.
"""

import collections
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from protocol.calls import Call, pack_error_reply, unpack_call
from protocol.codec import new_packer
from protocol.errors import ServiceUnavailable, SpiralHostError
from protocol.lane import Lane
from protocol.messages import LaneOpened
from protocol.reactor import Reactor
from protocol.servant import Servant
from protocol.turn import TURN, belongs, spelled


@dataclass(frozen=True, slots=True)
class _Served:
    """The callee's end of one lane, and who is at the other."""

    number: int
    lane: Lane
    peer: int
    peer_name: str


class LaneServer:
    """The callee's ends of some lanes, all served by the thread of one loop.

    Args:
        own: Gives this process's incarnation.
        closed: Called with the number of a lane whose caller is gone or broke the protocol.
    """

    def __init__(
        self,
        reactor: Reactor,
        servant: Servant,
        own: Callable[[], int],
        closed: Callable[[int], object],
    ) -> None:
        self.is_reentrant = True
        """Whether calls that its own calls lead to are served while it waits, or refused."""
        self._reactor = reactor
        self._servant = servant
        self._own = own
        self._closed = closed
        self._lanes: dict[int, Lane] = {}
        self._held: list[tuple[_Served, Call]] = []
        self._pack = new_packer()

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def has_held(self) -> bool:
        """Whether calls came while the thread waited that are still to be served."""
        return bool(self._held)

    def open(self, opened: LaneOpened, fd: int) -> None:
        """Serve one lane more."""
        lane = self._lanes[opened.lane] = Lane(fd)
        served = _Served(opened.lane, lane, opened.peer, opened.peer_name)
        self._reactor.watch(fd, lambda: self._serve(served))

    def serve_held(self) -> None:
        """Serve what was held, now that the thread waits no longer."""
        held, self._held = self._held, []
        for served, call in held:
            self._reactor.watch(served.lane.fd, partial(self._serve, served))
            self._answer(served, call)

    def close(self) -> None:
        """Close every lane, telling nobody: this process is leaving."""
        for lane in self._lanes.values():
            self._reactor.forget(lane.fd)
            lane.close()
        self._lanes.clear()

    def _serve(self, served: _Served) -> None:
        lane = served.lane
        try:
            while (frame := lane.receive()) is not None:
                call = unpack_call(frame)
                if TURN.waiting and not belongs(call[-1], self._own()):
                    self._held.append((served, call))
                    self._reactor.forget(lane.fd)
                    return
                self._answer(served, call)
                if not lane.has_more():
                    return
        except (EOFError, OSError, SpiralHostError):
            self._end(served)

    def _answer(self, served: _Served, call: Call) -> None:
        if TURN.waiting and not self.is_reentrant:
            reply = self._refusal(served, call)
        else:
            reply = self._servant.serve(call, served.peer, served.peer_name, self._pack)
        try:
            if not served.lane.send(reply):
                self._reactor.watch_writable(served.lane.fd, lambda: self._flush(served))
        except (OSError, SpiralHostError):
            self._end(served)

    def _refusal(self, served: _Served, call: Call) -> bytes:
        number, service, *_, chain = call
        circle = spelled(chain or [], served.peer_name, "here")
        why = f"it takes no calls while it waits for one of its own: {circle}"
        return pack_error_reply(self._pack, number, ServiceUnavailable(service, why))

    def _flush(self, served: _Served) -> None:
        try:
            if served.lane.flush():
                self._reactor.forget_writable(served.lane.fd)
        except OSError:
            self._end(served)

    def _end(self, served: _Served) -> None:
        if self._lanes.pop(served.number, None) is None:
            return
        self._reactor.forget(served.lane.fd)
        served.lane.close()
        self._closed(served.number)


class ServingThread:
    """A thread that serves lanes and does what else it is given; starts with the first of it."""

    def __init__(
        self,
        name: str,
        servant: Servant,
        own: Callable[[], int],
        closed: Callable[[int], object],
    ) -> None:
        self.lanes = 0
        """How many lanes it serves, or is about to."""
        self._closed = closed
        self._reactor = Reactor()
        self._lanes = LaneServer(self._reactor, servant, own, self._lane_closed)
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reactor.watch(self._wake, self._woken)
        self._is_over = False
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def serve(self, opened: LaneOpened, fd: int) -> None:
        """Serve one lane more; from any thread."""
        self.lanes += 1
        self.do(lambda: self._lanes.open(opened, fd))

    def refuse_reentry(self) -> None:
        """Refuse calls that its own calls lead to, instead of serving them while it waits."""
        self._lanes.is_reentrant = False

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
        TURN.reactor = self._reactor
        while not self._is_over:
            self._reactor.turn(0 if self._jobs else None)
            self._lanes.serve_held()
            self._work()
        for end in TURN.at_end:
            end()
        self._leave()

    def _leave(self) -> None:
        self._lanes.close()
        self._reactor.close()
        os.close(self._wake)

    def _woken(self) -> None:
        os.eventfd_read(self._wake)

    def _work(self) -> None:
        # One job a turn, and none while an earlier one waits: jobs never run inside each other.
        if self._jobs and not self._is_over:
            self._jobs.popleft()()
