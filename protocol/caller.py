"""The calls of a process's stubs: each thread has lanes of its own, so none waits for another's.

    stub.add(1, 2)  ->  Caller.call  ->  a line of this thread's own  ->  the callee

Who the process is (a worker or an application) hides behind `Connector`.
"""

import os
import random
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from protocol.calls import CREDITS
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    ServiceUnavailable,
    UsageError,
    WorkerLost,
)
from protocol.exchange import CalleeGone, begin, exchange, take_exported
from protocol.future import Future
from protocol.lane import PeerGone
from protocol.line import Home, Line
from protocol.lines import Lines
from protocol.listen import finish
from protocol.stub import Method, Options, Stub
from protocol.throttle import Throttle, delay_s
from protocol.turn import CURRENT, TURN
from protocol.waits import DeadlockError, attend

if TYPE_CHECKING:
    from protocol.admission import CallRate
    from protocol.aio import AioCaller


LATE_S: Final = 0.04
"""How long after a call's deadline the daemon may still say why there is nobody, seconds."""


class Connector(Home, Protocol):
    """What a process gives to its stubs. Called from whichever thread makes a call."""

    def open_line(self, service: str, deadline: float, *, wait: bool) -> Line:
        """Open a line of the calling thread's own to whoever offers a service.

        Args:
            wait: Whether to wait until somebody does, not longer than until `deadline`.

        Raises:
            ServiceUnavailable: Nobody does.
        """


class Caller:
    """Carries out the calls of a process's stubs; lives as long as the process's connection."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self.lines = Lines()
        self.rate: CallRate | None = None
        """What a plugin's calls are held to; None where there is no limit."""
        self._aio: AioCaller | None = None
        self._throttles: dict[str, Throttle] = {}
        _CALLERS.add(self)

    def find(
        self, service: str, options: Options, open_line: Callable[[], Line | None]
    ) -> Stub | None:
        """Give an object whose methods are the service's, or None if nobody offers it.

        Raises:
            UsageError: The options are none.
        """
        stub = Stub(self, service, options)
        if service not in self.lines.by_service:
            opened = open_line()
            if opened is None:
                return None
            self.lines.keep(service, opened)
        return stub

    def call(
        self, method: Method, arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> Any:  # noqa: ANN401 - whatever the plugin returned
        """Make one call and wait for its one outcome; an idempotent one is made again when lost.

        Raises:
            RemoteError: The plugin's code raised.
            WorkerLost: The callee died; the call may have been carried out.
            ServiceUnavailable: Nobody offers the service; the call was not carried out.
            DeadlineExceeded: No outcome in time; the call may have been carried out.
            Cancelled: Whoever waits for what this thread is doing waits no longer.
            Overloaded: The callee has too much to do, or this plugin makes too many calls; the call
                was not carried out.
            LocalProtocolError: An argument cannot travel; nothing was sent.
        """
        if self.rate is not None:
            self.rate.take(str(method))
        current = CURRENT.get()
        now = monotonic()
        deadline = min(now + method.timeout, current.deadline)
        attempts = 0
        while True:
            line = self.lines.by_service.get(method.service)
            if line is None:
                line = self._open(method, deadline)
                now = monotonic()
            try:
                value = exchange(
                    line, method.what, arguments, keywords, deadline, current.chain, now
                )
            except CalleeGone:
                # The callee was gone before the call left, so nothing ran: try its successor.
                line.lose()
                continue
            except ServiceUnavailable:
                # Its process lives, and may offer it no more: the next call asks who does.
                self.lines.by_service.pop(method.service, None)
                raise
            except WorkerLost:
                attempts += 1
                delay = self.delay(line, method, attempts, deadline)
                if delay is None:
                    raise
                _pause(monotonic() + delay)
                now = monotonic()
                continue
            if line.idempotent:
                self.answered(line, method)
            return value

    def submit(
        self, method: Method, arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> Future:
        """Make one call without waiting for its outcome.

        It leaves at once: what was gathered nobody would send, should this thread go off computing.
        Waits only while this thread has `CREDITS` calls under way to the same callee.

        Raises:
            ServiceUnavailable, LocalProtocolError, DeadlineExceeded, Overloaded: As `call`; nothing
                was sent.
        """
        if self.rate is not None:
            self.rate.take(str(method))
        current = CURRENT.get()
        now = monotonic()
        deadline = min(now + method.timeout, current.deadline)
        while True:
            line = self.lines.by_service.get(method.service)
            if line is None:
                line = self._open(method, deadline)
                now = monotonic()
            try:
                if len(line.pending) >= CREDITS:
                    _wait_for_room(line, method, deadline)
                    now = monotonic()
                number, has_left = begin(
                    line, method.what, arguments, keywords, deadline, current.chain, now
                )
                exported = take_exported(line) if line.exported else ()
                future = line.pending[number] = Future(
                    line, number, method.what, deadline, exported
                )
                line.in_flight.add(number)
            except TimeoutError:
                raise DeadlineExceeded(str(method), method.timeout) from None
            except (CalleeGone, PeerGone):
                line.lose()
                continue
            if not has_left:
                # The future has been told, or is: a part may have left.
                with suppress(PeerGone, TimeoutError):
                    finish(line, deadline)
            return future

    @property
    def aio(self) -> "AioCaller":
        """The same for coroutines."""
        if self._aio is None:
            from protocol.aio import AioCaller  # noqa: PLC0415 - asyncio, for those who have it

            self._aio = AioCaller(self)
        return self._aio

    def deadline(self, method: Method) -> float:
        """Say when a call that is made now is given up: never after the call that led to it."""
        return min(monotonic() + method.timeout, CURRENT.get().deadline)

    def delay(self, line: Line, method: Method, attempts: int, deadline: float) -> float | None:
        """Say how long to wait before a lost call is made again, seconds; None if it is not."""
        if (method.service, method.name) not in line.idempotent:
            return None
        throttle = self._throttles.setdefault(method.service, Throttle())
        throttle.lost()
        chance = random.random()  # noqa: S311 - a matter of traffic, not of secrets
        delay = delay_s(attempts, chance)
        is_in_time = monotonic() + delay < deadline
        return delay if is_in_time and throttle.allows(attempts) else None

    def answered(self, line: Line, method: Method) -> None:
        """Note that a call had an outcome, if it is one that may be made again."""
        if (method.service, method.name) in line.idempotent:
            throttle = self._throttles.get(method.service)
            if throttle is not None:
                throttle.answered()

    def _open(self, method: Method, deadline: float) -> Line:
        if monotonic() >= deadline:
            raise DeadlineExceeded(str(method), method.timeout)
        opened = self.connector.open_line(method.service, deadline, wait=method.waits)
        return self.lines.keep(method.service, opened)

    def close(self) -> None:
        """Close this thread's lines; other threads' close when they end."""
        self.lines.close()


def _wait_for_room(line: Line, method: Method, deadline: float) -> None:
    """Wait until a call under way is over: as all waits, and the oldest one is likely the first."""
    try:
        until = min(deadline, _give_up_late(line))
        while len(line.pending) >= CREDITS:
            with suppress(TimeoutError):
                attend(line, next(iter(line.pending)), until, lambda: len(line.pending) < CREDITS)
            if monotonic() >= deadline:
                raise TimeoutError
            until = min(deadline, _give_up_late(line))
    except Cancelled:
        raise Cancelled(str(method)) from None
    except DeadlockError as error:
        raise ServiceUnavailable(str(method), f"it would wait for itself: {error}") from None


def _give_up_late(line: Line) -> float:
    """End the calls whose time is up, though nobody waits for them; say when the next one's is."""
    now = monotonic()
    for number, one in tuple(line.pending.items()):
        if one.made.deadline <= now:
            line.forget(number)
            one.lose(one.made.late())
    return min((one.made.deadline for one in line.pending.values()), default=now)


def _pause(until: float) -> None:
    """Wait for a moment; a thread that has a loop goes on with its other duties."""
    reactor = TURN.reactor
    if reactor is None:
        time.sleep(max(0.0, until - monotonic()))
        return
    TURN.waiting[0] = 0  # no call has this number: whatever comes is held
    try:
        while reactor.wait_for(-1, until):
            pass
    finally:
        del TURN.waiting[0]


class _Forked:
    """What is behind the stubs of a child that was forked: it shares its parent's sockets."""

    arena = None

    def own(self) -> int:
        return 0

    def cause_of_death(self, _: int, __: float) -> str:
        return "unknown"

    def tell_node(self, _: object) -> None:
        """There is no way."""

    def open_line(self, service: str, deadline: float, *, wait: bool) -> Line:
        del service, deadline, wait
        raise UsageError("this stub belongs to the process that forked this one; connect again")


_CALLERS: Final[weakref.WeakSet[Caller]] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for caller in _CALLERS:
        caller.connector = _Forked()
        caller.lines.leave()
        caller.lines = Lines()
        if caller._aio is not None:  # noqa: SLF001 - this module's own class
            caller._aio.leave()  # noqa: SLF001
            caller._aio = None  # noqa: SLF001


os.register_at_fork(after_in_child=_leave_to_parent)
