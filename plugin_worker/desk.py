"""The worker's end of its umbilical: questions and their answers, from whichever thread asks.

There is no reader thread. Whoever waits reads: it takes the umbilical's lock if it is free and
sorts what has come; what is for another thread wakes that thread. So nothing stands between the
thread that serves calls and its socket, and a thread that waits keeps the worker answering.
"""

import collections
import os
import select
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from protocol.arena import Arena
from protocol.deaths import UNASKED_S, Deaths
from protocol.errors import DeadlineExceeded, SpiralHostError, from_wire
from protocol.gathering import release_gathered
from protocol.messages import (
    FROM_ENDPOINT,
    FROM_WORKER,
    TO_ENDPOINT,
    TO_WORKER,
    Allocated,
    Answer,
    DaemonChanged,
    Down,
    Explain,
    FromEndpoint,
    FromWorker,
    LaneOpened,
    Question,
    Ready,
    Refusal,
    Release,
    Reported,
    Shared,
    Subscribed,
    ToEndpoint,
    ToWorker,
    Unexplained,
    Unshared,
)
from protocol.packets import Kind
from protocol.umbilical import Umbilical

ASK_S: Final = 30.0
"""How long a question may take; a daemon that is being started again answers within 2."""

_MS: Final = 1000

_LONGEST_S: Final = 3600.0
"""How long it sleeps at once, seconds; poll(2) knows no more than 24 days."""

_WITH_DESCRIPTORS: Final = (LaneOpened, Allocated, Shared)


def report_name(number: int) -> str:
    """Give the name under which what became of an event is waited for."""
    return f"report:{number}"


class _Slot:
    """A question under way, and the thread that waits for its answer."""

    __slots__ = ("_lock", "done", "error", "frame", "value", "wake")

    def __init__(self, frame: bytes) -> None:
        self._lock = threading.Lock()
        self.frame = frame
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.done = False
        self.value: Any = None
        self.error: SpiralHostError | None = None

    def finish(self, value: object, error: SpiralHostError | None = None) -> bool:
        """Give the answer; False if nobody waits any more. Called in whichever thread reads."""
        with self._lock:  # whoever waits may see that it is done before it is woken
            if self.wake < 0:
                return False
            self.value, self.error, self.done = value, error, True
            os.eventfd_write(self.wake, 1)
            return True

    def close(self) -> None:
        """Wait no more: from now on `done` says whether there was an answer."""
        with self._lock:
            os.close(self.wake)
            self.wake = -1


class Desk:
    """Sorts what comes down the umbilical; lives as long as the worker.

    Args:
        other: Called, in whichever thread reads, with what no question waits for.
        meanwhile: Called by a thread that waits, when something may have come.
    """

    def __init__(
        self,
        umbilical: Umbilical,
        other: Callable[[ToEndpoint | ToWorker | bytes, list[int]], None],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self._umbilical = umbilical
        self._other = other
        self._meanwhile = meanwhile
        self._reading = threading.Lock()
        self._reader = 0
        """The thread that has it."""
        self._writing = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._numbers = count(1)
        self._deaths = Deaths()
        self._mourned: dict[str, int] = {}
        """Whose end is asked for, by the question's name."""
        self._soon: collections.deque[bytes] = collections.deque()
        self._thread = threading.get_ident()
        self.alarm: tuple[int, Callable[[], None]] | None = None
        """What the thread that made this hears while it waits, and what it does then: another
        thread may have read what is for this one."""
        self.arena = Arena(self)
        """The worker's shared memory."""

    @property
    def fd(self) -> int:
        """The umbilical's descriptor, to be polled."""
        return self._umbilical.fd

    def close(self) -> None:
        """Hang up."""
        self._umbilical.close()

    # --- sending ----------------------------------------------------------------------------------

    def send(self, kind: Kind, body: bytes) -> None:
        """Send a message up; waits while the node does not read."""
        with self._writing:
            self._send(kind, body)
        self._send_what_is_left()

    def _send(self, kind: Kind, body: bytes) -> None:
        if self._umbilical.send(kind, body):
            return
        poll = select.poll()
        poll.register(self._umbilical.fd, select.POLLOUT)
        while not self._umbilical.flush():
            poll.poll()

    def tell_node_soon(self, message: FromEndpoint) -> None:
        """Send the node a message, now or as soon as the thread that is sending has done so.

        For finalizers, which run anywhere: this very thread may be in the middle of `send`.
        """
        self._soon.append(FROM_ENDPOINT.encode(message))
        self._send_what_is_left()

    def _send_what_is_left(self) -> None:
        while self._soon and self._writing.acquire(blocking=False):
            try:
                self._send(Kind.NODE, self._soon.popleft())
            except IndexError:
                return  # another thread was quicker
            finally:
                self._writing.release()

    def tell_node(self, message: FromEndpoint) -> None:
        """Send the node a message."""
        self.send(Kind.NODE, FROM_ENDPOINT.encode(message))

    def tell_daemon(self, message: FromWorker) -> None:
        """Send the daemon a frame."""
        self.send(Kind.RELAY, FROM_WORKER.encode(message))

    def state(self, key: str, message: FromWorker) -> None:
        """Send the daemon a frame that stays true, and that later daemons are told too."""
        self._fact(key, message)

    def retract(self, key: str, message: FromWorker) -> None:
        """Take a fact back, with the frame that says so."""
        self._fact(f"-{key}", message)

    def _fact(self, key: str, message: FromWorker) -> None:
        name = key.encode()
        self.send(Kind.FACT, bytes([len(name)]) + name + FROM_WORKER.encode(message))

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, build: Callable[[str], Question], timeout: float = ASK_S) -> Any:  # noqa: ANN401
        """Ask the daemon; a daemon that takes over meanwhile is asked again.

        Raises:
            SpiralHostError: The daemon refused, with its reason.
            DeadlineExceeded: It said nothing in time.
        """
        name = self.new_name()
        frame = FROM_WORKER.encode(build(name))
        return self._wait(_Slot(frame), name, lambda: self.send(Kind.RELAY, frame), timeout)

    def ask_node(self, build: Callable[[str], FromEndpoint], timeout: float) -> Any:  # noqa: ANN401
        """Ask the node."""
        name = self.new_name()
        return self.expect(name, lambda: self.tell_node(build(name)), timeout)

    def new_name(self) -> str:
        """Give a name that no other question bears."""
        return str(next(self._numbers))

    def expect(self, name: str, say: Callable[[], object], timeout: float) -> Any:  # noqa: ANN401
        """Say something, and wait for the node's answer that bears a name."""
        return self._wait(_Slot(b""), name, say, timeout)

    def _wait(self, slot: _Slot, name: str, say: Callable[[], object], timeout: float) -> Any:  # noqa: ANN401
        release_gathered()
        self._slots[name] = slot
        try:
            say()
            deadline = time.monotonic() + timeout
            wait = self.waiter(slot.wake)
            while not slot.done and wait(deadline):
                pass
        finally:
            del self._slots[name]
            slot.close()
        if not slot.done:
            raise DeadlineExceeded("a question to the host", timeout)
        if slot.error is not None:
            raise slot.error
        return slot.value

    def cause_of_death(self, incarnation: int, deadline: float) -> str:
        """Say how a peer ended; the node is asked, and its answer waited for.

        Nothing else is done meanwhile but reading: this may be called anywhere, by finalizers too.
        """
        if incarnation not in self._deaths and self._reader != threading.get_ident():
            self._ask_for_end(incarnation, deadline)
        return str(self._deaths.cause(incarnation))

    def _ask_for_end(self, incarnation: int, deadline: float) -> None:
        name, slot = self.new_name(), _Slot(b"")
        self._slots[name], self._mourned[name] = slot, incarnation
        try:
            self._read_until(slot, min(deadline, time.monotonic() + UNASKED_S))
            if not slot.done:
                self.tell_node_soon(Explain(name, incarnation))
                self._read_until(slot, deadline)
        finally:
            del self._slots[name], self._mourned[name]
            slot.close()

    def _read_until(self, slot: _Slot, deadline: float) -> None:
        """Read, and do nothing else, until an answer has come or the time is up."""
        poll = self._poll(slot.wake)
        while not slot.done and (left := deadline - time.monotonic()) > 0:
            for ready, _ in poll.poll(min(left, _LONGEST_S) * _MS + 1):
                if ready == self.fd:
                    self.read()

    # --- waiting and reading ----------------------------------------------------------------------

    def waiter(self, fd: int) -> Callable[[float], bool]:
        """Give one thread what it waits with for a descriptor while the umbilical is read.

        It takes a deadline, and says False when the time is up.
        """
        alarm, heed = self._heard_here()
        wait_for_all = self._poll(fd, *alarm).poll

        def wait(deadline: float) -> bool:
            self._meanwhile()  # what came before it waits is waited for no less
            while (left := deadline - time.monotonic()) > 0:
                for ready, _ in wait_for_all(min(left, _LONGEST_S) * _MS + 1):
                    if ready == fd:
                        return True
                    if ready in alarm:
                        heed()
                    else:
                        self.read()
                self._meanwhile()
            return False

        return wait

    def _heard_here(self) -> tuple[tuple[int, ...], Callable[[], None]]:
        if self.alarm is None or threading.get_ident() != self._thread:
            return (), self.read
        fd, heed = self.alarm
        return (fd,), heed

    def wait_for_news(self, deadline: float) -> bool:
        """Wait until something may have come down; False when the time is up."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        # Another thread may read it first, so this looks up now and then.
        if self._poll().poll(min(left * _MS + 1, 20)):
            self.read()
        return True

    def _poll(self, *beside: int) -> select.poll:
        poll = select.poll()
        for fd in (self.fd, *beside):
            poll.register(fd, select.POLLIN)
        return poll

    def read(self) -> None:
        """Read and sort what is there, unless another thread is at it.

        Raises:
            EOFError: The node is gone; so is the reason for this process to live.
        """
        if not self._reading.acquire(blocking=False):
            return
        self._reader = threading.get_ident()
        try:
            while (message := self._umbilical.receive()) is not None:
                self._sort(*message)
        finally:
            self._reader = 0
            self._reading.release()

    def _sort(self, kind: Kind, body: bytes, descriptors: list[int]) -> None:
        if kind is Kind.EVENTS:
            self._other(body, descriptors)
        elif kind is Kind.NODE:
            self._from_node(TO_ENDPOINT.decode(body), descriptors)
        else:
            self._from_daemon(TO_WORKER.decode(body))

    def _from_daemon(self, message: ToWorker) -> None:
        if isinstance(message, Answer):
            self._finish(message.request, message.value)
        elif isinstance(message, Refusal) and message.request:
            self._finish(message.request, None, from_wire(message.kind, message.fields))
        else:
            self._other(message, [])

    def _from_node(self, message: ToEndpoint, descriptors: list[int]) -> None:
        if not isinstance(message, _WITH_DESCRIPTORS):
            while descriptors:
                os.close(descriptors.pop())
        if isinstance(message, LaneOpened) and message.request:
            if not self._finish(message.request, (message, descriptors[0])):
                os.close(descriptors[0])
        elif isinstance(message, Subscribed):
            self._finish(message.request, message.frames)
        elif isinstance(message, Reported):
            figures = (message.matched, message.delivered, message.failures)
            self._finish(report_name(message.report), figures)
        elif isinstance(message, Allocated | Ready | Refusal | Shared | Unshared):
            self._of_segments(message, descriptors)
        elif isinstance(message, Down | Unexplained):
            self._of_deaths(message)
        elif isinstance(message, DaemonChanged):
            self._ask_again(message.epoch)
        else:
            self._other(message, descriptors)

    def _of_deaths(self, message: Down | Unexplained) -> None:
        if isinstance(message, Unexplained):
            self._finish(message.request, None)
            return
        self._deaths.note(message.incarnation, message.cause)
        for name, incarnation in tuple(self._mourned.items()):
            if incarnation == message.incarnation:
                self._finish(name, None)

    def _of_segments(
        self, message: Allocated | Ready | Refusal | Shared | Unshared, descriptors: list[int]
    ) -> None:
        if isinstance(message, Shared | Unshared):
            self.arena.told(message, descriptors)
        elif isinstance(message, Refusal):
            self._finish(message.request, None, from_wire(message.kind, message.fields))
        elif isinstance(message, Ready):
            self._finish(message.request, None)
        elif not self._finish(message.request, (message.segment, descriptors[0])):
            os.close(descriptors[0])
            self.tell_node_soon(Release(message.segment))

    def _ask_again(self, epoch: int) -> None:
        if epoch:
            for slot in tuple(self._slots.values()):
                if slot.frame and not slot.done:
                    self.send(Kind.RELAY, slot.frame)

    def _finish(self, request: str, value: object, error: SpiralHostError | None = None) -> bool:
        slot = self._slots.get(request)
        return slot is not None and slot.finish(value, error)
