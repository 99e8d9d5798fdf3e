"""A thread that serves lanes and does what else it is given; starts with the first of it."""

import collections
import os
import threading
from collections.abc import Callable

from protocol.line import Home
from protocol.messages import LaneOpened
from protocol.reactor import Reactor, hear
from protocol.servant import Servant
from protocol.serving import LaneServer
from protocol.turn import TURN


class ServingThread:
    """One such thread; lives until `close`.

    Args:
        closed: Called with the number of a lane whose caller is gone or broke the protocol.
    """

    def __init__(
        self, name: str, servant: Servant, home: Home, closed: Callable[[int], object]
    ) -> None:
        self.lanes = 0
        """How many lanes it serves, or is about to."""
        self._closed = closed
        self._reactor = Reactor()
        self._lanes = LaneServer(self._reactor, servant, home, self._lane_closed)
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._unopened: collections.deque[tuple[LaneOpened, int]] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reactor.watch(self._wake, self._woken)
        self._is_over = False
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_current(self) -> bool:
        """Whether this very thread asks."""
        return self._thread is threading.current_thread()

    def serve(self, opened: LaneOpened, fd: int) -> None:
        """Serve one lane more; from any thread. One that comes too late is closed."""
        with self._starting:
            if self._wake < 0:
                os.close(fd)
                return
            self._unopened.append((opened, fd))
            self.lanes += 1
        self.do(self._open)

    def _open(self) -> None:
        self._lanes.open(*self._unopened.popleft())

    def refuse_reentry(self) -> None:
        """Refuse calls that its own calls lead to, instead of serving them while it waits."""
        self._lanes.is_reentrant = False

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back in this thread whenever `fd` can be read; from any thread."""
        self.do(lambda: self._reactor.watch(fd, callback))

    def do_meanwhile(self, job: Callable[[], bool]) -> None:
        """Do this in this thread whenever it waits for a call; it says if there was anything."""
        self._reactor.meanwhile = job

    def do(self, job: Callable[[], None]) -> None:
        """Run something in this thread, after what it is doing; from any thread."""
        self._jobs.append(job)
        with self._starting:
            if not self._thread.is_alive() and not self._is_over:
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Have it look at what it waits for again; from any thread."""
        with self._starting:  # or its descriptor might be closed, and another's, by now
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stop after what it is doing, and wait for that; its own code may call this too."""
        with self._starting:
            self._is_over = True
            started = self._thread.is_alive()
        self.wake()
        if self.is_current:
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
        self._reactor.run(self._step)
        for end in TURN.at_end:
            end()
        self._leave()

    def _step(self) -> bool | None:
        self._lanes.go_on()
        # One job a turn, and none while an earlier one waits: jobs never run inside each other.
        if self._jobs and not self._is_over:
            self._jobs.popleft()()
        return None if self._is_over else bool(self._jobs) or self._lanes.has_more

    def _leave(self) -> None:
        self._lanes.close()
        self._reactor.close()
        with self._starting:
            wake, self._wake = self._wake, -1
            while self._unopened:  # or whoever calls on it would wait as long as we live
                os.close(self._unopened.popleft()[1])
        if wake >= 0:
            os.close(wake)

    def _woken(self) -> None:
        hear(self._wake)
        self._reactor.nudge()
