"""Serve the calls that come on lanes, all in the thread of one loop.

The thread that polls a lane also runs its calls, so no call passes through two threads. What may
not begin now is held: a call of others while the thread waits, an `async def` before there is an
event loop, and whatever comes while a handler looks for its own cancel.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from protocol.admission import Admission
from protocol.calls import CREDITS, Call, error_parts
from protocol.errors import Overloaded, RemoteProtocolError, ServiceUnavailable, SpiralHostError
from protocol.failpoints import ARMED
from protocol.gathering import Gathering
from protocol.lane import Lane
from protocol.line import Home, Line
from protocol.messages import LaneOpened
from protocol.reactor import Reactor
from protocol.running import Target, run
from protocol.servant import Servant
from protocol.turn import TURN, belongs, spelled
from protocol.waits import owe

MAX_RUNNING: Final = 64
"""`async def` handlers at the same time, in one thread; gRPC's servers take about as many."""

MAX_QUEUED: Final = 256
"""Calls that wait for one of these to end, before more are refused."""

MAX_QUEUED_BYTES: Final = 8 << 20
"""Bytes of their frames; what comes out of a frame may take 70 times as much."""

_FAIR: Final = 64
"""Frames taken from one lane before the others have their turn."""


class LaneServer:
    """The callee's ends of some lanes, all served by the thread of one loop.

    Args:
        closed: Called with the number of a lane whose caller is gone or broke the protocol.
    """

    def __init__(
        self, reactor: Reactor, servant: Servant, home: Home, closed: Callable[[int], object]
    ) -> None:
        self.is_reentrant = True
        """Whether calls that its own calls lead to are served while it waits, or refused."""
        self.served = 0
        """Calls that were begun, whatever came of them."""
        self._reactor = reactor
        self._gathering = Gathering(reactor)
        self._servant = servant
        self._targets = servant.targets
        self._home = home
        self._closed = closed
        self._lines: set[Line] = set()
        self._ready: deque[Line] = deque()
        """Lines of which whole frames are here that no poll will announce, or calls are held."""
        self._queued: deque[tuple[Line, Call, Target, int]] = deque()
        self._running = 0
        self._is_starting = False
        self._pace_s = 0.0
        """How far apart handlers end, smoothed: what a place in the queue costs."""
        self._last_end = monotonic()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def has_more(self) -> bool:
        """Whether there is something to do that no descriptor will announce."""
        return bool(self._ready or TURN.later)

    def open(self, opened: LaneOpened, fd: int) -> None:
        """Serve one lane more."""
        line = Line(Lane(fd), opened.lane, opened.peer, opened.peer_name, None, self._home)
        line.reactor = self._reactor
        admission = self._servant.admissions.of(opened)
        line.serve = self._take if admission is None else partial(self._take_admitted, admission)
        line.blocked = self._blocked
        line.lost = self._lost
        line.unread = self._again
        line.ended = self._ended
        line.unwanted = partial(self._unwanted, line)
        self._lines.add(line)
        self._reactor.watch(fd, partial(self._read, line))

    def go_on(self) -> None:
        """Do what was held; called by the loop, when its thread waits for nothing."""
        if not (self._ready or TURN.later):
            return
        TURN.held.clear()
        later, TURN.later = TURN.later, []
        for job in later:
            job()
        for _ in range(len(self._ready)):
            line = self._ready.popleft()
            if not line.is_lost:
                self._reactor.watch(line.lane.fd, partial(self._read, line))
                self._serve_held(line)
            if not line.is_lost:  # which may have come to light only now
                self._read(line)

    def close(self) -> None:
        """Close every lane, telling nobody: this process is leaving."""
        for line in tuple(self._lines):
            self._closed = _nobody
            line.lose()

    # --- what comes -------------------------------------------------------------------------------

    def _read(self, line: Line) -> None:
        lane = line.lane
        try:
            frame = lane.receive()
            if frame is None:
                return
            if lane.rest and lane.has_more():
                self._take_many(line, frame)
            else:
                line.sort(line.unpack(frame), len(frame))
            if lane.rest and not line.is_lost and lane.has_more():
                self._again(line)
        except (EOFError, RemoteProtocolError):
            line.lose()

    def _take_many(self, line: Line, first: bytes) -> None:
        """Take in what has come together; the answers leave together, too."""
        lane = line.lane
        frame: bytes | None = first
        if not ARMED:  # of which each wants to know what has been sent
            self._gathering.begin(line)
        try:
            left = _FAIR
            while frame is not None:
                line.sort(line.unpack(frame), len(frame))
                left -= 1
                frame = lane.next() if left and not line.is_lost else None
        finally:
            self._gathering.release()

    def _take(self, line: Line, call: Call) -> None:
        """Begin a call, or hold it."""
        if line.is_looking:
            self._hold(line, call)
        elif line.waiting:
            if self._belongs(call):  # even before those that are held: they wait for its answer
                self._begin(line, call)
            else:
                self._hold(line, call)
        elif line.held or line.lane.unsent:  # who takes in no answers gets no more of them
            self._hold(line, call)
        else:
            target = self._targets.get((call[1], call[2]))
            if target is None or target.is_async:
                self._begin(line, call)
            else:
                self.served += 1
                if self._gathering.line is line:
                    self._gathering.run(line, call, target)
                else:
                    run(line, call, target, monotonic())

    def _take_admitted(self, admission: Admission, line: Line, call: Call) -> None:
        """Do so with the call of somebody who may not call everything, or not that often."""
        error = admission.refusal(call)
        if error is None:
            self._take(line, call)
        else:
            self._refuse(line, call, error)

    def _belongs(self, call: Call) -> bool:
        return belongs(call[6], self._home.own())

    def _hold(self, line: Line, call: Call) -> None:
        # One that is full is read on only by a handler that waits for its caller's function.
        if len(line.held) >= CREDITS or (line.is_full and TURN.waiting):
            self._refuse(line, call, self._overloaded(call[1]))
            return
        line.held.append((line.size, call))
        self._again(line)
        if line.is_full:
            self._reactor.forget_readable(line.lane.fd)
        if TURN.waiting:
            TURN.held.append((line.peer, call[0]))
            owe(line, call[0])

    def _again(self, line: Line) -> None:
        if line.lane.has_unsent:
            line.when_flushed.append(partial(self._again, line))
        elif line not in self._ready:
            self._ready.append(line)
            self._reactor.nudge()

    def _serve_held(self, line: Line) -> None:
        while line.held:
            line.look()  # the caller may want it no longer, or be gone
            if line.is_lost or not line.held:
                return
            if line.lane.has_unsent:
                self._again(line)
                return
            line.size, call = line.held.popleft()
            if not self._begin(line, call):
                return

    # --- what is begun ----------------------------------------------------------------------------

    def _begin(self, line: Line, call: Call) -> bool:
        """Begin a call; False if it has to wait for an event loop."""
        _, service, method, *_ = call
        target = self._targets.get((service, method))
        self.served += 1
        if target is None:
            self._refuse(line, call, self._servant.missing(service, method))
        elif TURN.waiting and not (self.is_reentrant and not target.is_async):
            self._refuse(line, call, self._no_reentry(line, call, target))
        elif not target.is_async:
            run(line, call, target, monotonic())
        elif self._reactor.loop is None:
            self._reactor.needs_asyncio = True
            line.held.appendleft((line.size, call))
            self._again(line)
            return False
        elif self._running < MAX_RUNNING:
            self._start(line, call, target)
        elif self._has_place(line.size):
            self._queued.append((line, call, target, line.size))
        else:
            self._refuse(line, call, self._overloaded(service))
        return True

    def _has_place(self, size: int) -> bool:
        queued = self._queued
        return len(queued) < MAX_QUEUED and size + sum(o[3] for o in queued) <= MAX_QUEUED_BYTES

    def _start(self, line: Line, call: Call, target: Target) -> None:
        self._running += 1
        line.loop = self._reactor.loop
        run(line, call, target, monotonic())

    def _ended(self) -> None:
        """Note that an `async def` is over; one that waited for its place may begin."""
        now = monotonic()
        self._pace_s += 0.1 * (min(now - self._last_end, 1.0) - self._pace_s)
        self._last_end = now
        self._running -= 1
        if self._is_starting:
            return  # what is started below has failed at once, and the loop goes on
        self._is_starting = True
        while self._queued and self._running < MAX_RUNNING:
            line, call, queued, _ = self._queued.popleft()
            if not line.is_lost:
                self._start(line, call, queued)
        self._is_starting = False

    def _unwanted(self, line: Line, number: int) -> None:
        """Take a call out of the queue that was cancelled before its turn."""
        kept = [one for one in self._queued if one[0] is not line or one[1][0] != number]
        if len(kept) < len(self._queued):
            self._queued = deque(kept)

    # --- what is not ------------------------------------------------------------------------------

    def _refuse(self, line: Line, call: Call, error: SpiralHostError) -> None:
        line.say(*error_parts(call[0], error))

    def _overloaded(self, service: str) -> Overloaded:
        return Overloaded(service, round(max(0.01, self._pace_s * len(self._queued)), 3))

    def _no_reentry(self, line: Line, call: Call, target: Target) -> ServiceUnavailable:
        circle = spelled(call[6] or [], line.peer_name, "here")
        if self.is_reentrant:
            why = f"{target.name} is `async def`, and its thread waits for a call of its own"
        else:
            why = "it takes no calls while it waits for one of its own"
        return ServiceUnavailable(call[1], f"{why}: {circle}")

    # --- lines ------------------------------------------------------------------------------------

    def _blocked(self, line: Line) -> None:
        self._reactor.watch_writable(line.lane.fd, partial(self._writable, line))

    def _writable(self, line: Line) -> None:
        try:
            if line.flush():
                self._reactor.forget_writable(line.lane.fd)
        except OSError:
            line.lose()

    def _lost(self, line: Line) -> None:
        self._lines.remove(line)
        self._reactor.forget(line.lane.fd)
        self._closed(line.number)


def _nobody(_: int) -> None:
    """Nobody is told."""
