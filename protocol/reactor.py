"""One thread's loop over descriptors, ZeroMQ sockets and timers; it knows nothing of what they say.

A ZeroMQ socket's descriptor is edge-triggered and says only "look again"; whatever is done with the
socket may take that word away. So each socket is asked itself before the loop sleeps, and between
that and its waking nobody else touches it.
"""

import heapq
import os
import select
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from protocol.kernel import wait

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

POLLIN: Final = 1
"""ZeroMQ's flag for "a message can be received", which equals poll(2)'s."""

EVENTS: Final = 15
"""ZeroMQ's option of that name. Asked by its number, because by name it takes 1 us longer."""

_WRITABLE: Final = select.EPOLLOUT
_ANYTHING_ELSE: Final = ~select.EPOLLOUT


_NONE: Final[frozenset[int]] = frozenset()

_LONGEST_S: Final = 3600.0
"""How long it sleeps at once, seconds; poll(2) knows no more than 24 days."""


class ZmqSocket(Protocol):
    """What the loop needs of a ZeroMQ socket; workers use this loop and never import ZeroMQ."""

    @property
    def FD(self) -> Any:  # noqa: ANN401, N802 - pyzmq's name, and its type
        """The descriptor that says "look again"."""

    def getsockopt(self, option: int) -> Any:  # noqa: ANN401 - pyzmq's type
        """Give what `EVENTS` stands for: what can be done now without waiting."""


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
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._zmq: dict[int, tuple[ZmqSocket, Callable[[], None]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._is_nudged = False
        self._again: Callable[[], object] | None = None
        """Has an asyncio loop turn, if it is the one that runs."""
        self.needs_asyncio = False
        """Whether `run` is to go on inside an asyncio loop; there is no way back."""
        self.meanwhile: Callable[[], bool] | None = None
        """Does what must not wait until `wait_for` returns; says whether there was any of it."""
        self.urgent: Collection[object] = (None,)
        """What there is of that, if whoever set it keeps it here: then nobody asks while it is
        empty."""
        self.unsent: dict[object, Callable[[], object]] = {}
        """What sends what was gathered, by who has gathered it: nobody waits while it is kept, and
        nothing is called back for that may take long and has nothing to do with it."""
        self.loop: AbstractEventLoop | None = None

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

    def forget_readable(self, fd: int) -> None:
        """Read no further for now; harmless if nobody does."""
        if self._readers.pop(fd, None) is not None:
            self._update(fd)

    def forget(self, fd: int) -> None:
        """Stop watching altogether, before the descriptor is closed."""
        known = self._readers.pop(fd, None), self._writers.pop(fd, None)
        if known != (None, None):
            self._epoll.unregister(fd)

    def watch_zmq(self, socket: ZmqSocket, callback: Callable[[], None]) -> None:
        """Call back whenever a message can be received; the callback may leave some for later."""
        fd: int = socket.FD
        self._zmq[fd] = (socket, callback)
        self._epoll.register(fd, select.EPOLLIN)

    def forget_zmq(self, socket: ZmqSocket) -> None:
        """Stop watching, before the socket is closed."""
        fd: int = socket.FD
        del self._zmq[fd]
        self._epoll.unregister(fd)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once `time.monotonic()` has reached `when`."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back after so many seconds."""
        return self.call_at(monotonic() + delay_s, callback)

    def turn(self, longest_s: float | None = None) -> None:
        """Wait until something is ready or due, or `longest_s` has passed, and call back for it."""
        ready = self._ask_zmq() if self._zmq else _NONE
        if ready:
            longest_s = 0
        elif self._timers:
            longest_s = self._wait_s(longest_s)
        for fd, happened in wait(self._epoll, -1 if longest_s is None else longest_s):
            # Looked up now: an earlier callback of this turn may have forgotten it.
            if happened & _WRITABLE and (callback := self._writers.get(fd)):
                callback()
            if happened & _ANYTHING_ELSE:
                if callback := self._readers.get(fd):
                    callback()
                elif fd in self._zmq:
                    ready = ready | {fd}
        if ready:
            self._call_zmq(ready)
        if self._timers:
            self._run_due(monotonic())

    def wait_for(self, fd: int, deadline: float) -> bool:
        """Wait until one watched descriptor can be read or others were called back for.

        Called from inside a callback or before the loop runs; its own callback is not called.

        Returns:
            Whether anything has happened; False when `time.monotonic()` has reached `deadline`.
        """
        if self.unsent:
            self.send_unsent()
        if self.urgent and self.meanwhile is not None and self.meanwhile():
            return True
        left = deadline - monotonic()
        if left <= 0:
            return False
        happenings = wait(self._epoll, min(_LONGEST_S, left))
        for ready, happened in happenings:
            if ready != fd and (
                (happened & _WRITABLE and (callback := self._writers.get(ready)))
                or (callback := self._readers.get(ready))
            ):
                callback()
        return bool(happenings)

    def run(self, step: Callable[[], bool | None]) -> None:
        """Turn for ever; moves into an asyncio loop when asked to, and stays there.

        Args:
            step: Called first, and after each turn in which `nudge` was: it does what callbacks
                have left to do. Says True when there is more of it, and None when all is over.
        """
        self._is_nudged = True
        while True:
            if self._is_nudged:
                self._is_nudged = False
                has_more = step()
                if has_more is None:
                    return
                if self.needs_asyncio:
                    self._run_in_asyncio(step)
                    return
                self._is_nudged = self._is_nudged or has_more
            self.turn(0 if self._is_nudged else None)

    def nudge(self) -> None:
        """Have `step` called soon. From this thread only."""
        if not self._is_nudged:
            self._is_nudged = True
            if self._again is not None:
                self._again()

    def _run_in_asyncio(self, step: Callable[[], bool | None]) -> None:
        """Go on as a guest of an asyncio loop: our epoll is one descriptor among its own."""
        import asyncio  # noqa: PLC0415 - 30 ms, for those who have `async def` only

        loop = self.loop = asyncio.new_event_loop()
        timer: asyncio.TimerHandle | None = None
        failed: BaseException | None = None

        def turn() -> None:
            nonlocal failed
            try:
                turn_once()
            except BaseException as error:  # noqa: BLE001 - asyncio would only log it, for ever
                failed = error
                loop.stop()

        def turn_once() -> None:
            nonlocal timer
            if self.unsent:  # by tasks; a callback may keep the thread
                self.send_unsent()
            self.turn(0)
            if self._is_nudged:
                self._is_nudged = False
                has_more = step()
                if has_more is None:
                    loop.stop()
                elif has_more:
                    self.nudge()
            if timer is not None:
                timer.cancel()
            due = self._next_due()
            timer = None if due is None else loop.call_at(due, turn)

        self._again = lambda: loop.call_soon(turn)
        asyncio.set_event_loop(loop)
        loop.add_reader(self._epoll.fileno(), turn)
        self._is_nudged = False
        self.nudge()
        try:
            loop.run_forever()
        finally:
            _close_loop(loop)
        if failed is not None:
            raise failed

    def close(self) -> None:
        """Let go of the kernel's side; watched descriptors stay open."""
        self._epoll.close()

    def send_unsent(self) -> None:
        """Send all that was gathered, before this thread waits or runs what may take long."""
        while self.unsent:
            self.unsent.popitem()[1]()

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

    def _ask_zmq(self) -> frozenset[int]:
        asked = tuple(self._zmq.items())
        return frozenset(fd for fd, (socket, _) in asked if socket.getsockopt(EVENTS) & POLLIN)

    def _call_zmq(self, ready: frozenset[int]) -> None:
        # In the order in which they are watched: what a node hears of the bus goes before what the
        # daemon orders, if both have come.
        for fd, (_, callback) in tuple(self._zmq.items()):
            if fd in ready and fd in self._zmq:
                callback()

    def _wait_s(self, longest_s: float | None) -> float:
        due = self._next_due()
        if due is None:
            return -1 if longest_s is None else longest_s
        wait_s = min(max(0.0, due - monotonic()), _LONGEST_S)
        return wait_s if longest_s is None else min(wait_s, longest_s)

    def _next_due(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _run_due(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()


def hear(bell: int) -> None:
    """Take in that an eventfd was written to, once or more often.

    Harmless if it was not: of two descriptors that are ready together, what is called back for the
    first may wait, and then the other has been heard already when its turn comes.
    """
    with suppress(BlockingIOError):
        os.eventfd_read(bell)


def _close_loop(loop: "AbstractEventLoop") -> None:
    """End the tasks that are left, and let them run their `finally`."""
    import asyncio  # noqa: PLC0415 - it has been imported

    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
