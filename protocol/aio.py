"""Calls from coroutines: each event loop has lines of its own, and reads what comes on them.

Nothing here blocks the loop: what has to wait elsewhere (for a lane, for a cause of death) waits
in a thread of the loop's own pool.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import ref

from protocol.callbacks import serve_callback
from protocol.calls import CREDITS, ITEM, STREAM, VALUE
from protocol.errors import (
    DeadlineExceeded,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
)
from protocol.exchange import CalleeGone, begin, release, take_exported
from protocol.future import Inbox, Made, What
from protocol.line import Line, Pending
from protocol.running import until_told
from protocol.turn import CURRENT, TURN

if TYPE_CHECKING:
    from protocol.caller import Caller
    from protocol.stub import Method


class Answer(Pending):
    """The outcome of one call, for the coroutine that awaits it."""

    __slots__ = ("_future", "deadline", "exported", "line", "number", "started", "what")

    def __init__(
        self,
        line: Line,
        number: int,
        what: What,
        deadline: float,
        future: "asyncio.Future[Any]",
        exported: Sequence[str],
    ) -> None:
        self.line = line
        self.number = number
        self.what = what
        self.deadline = deadline
        self.started = line.used
        self.exported = exported
        self._future = future

    @property
    def made(self) -> Made:
        """The call."""
        return Made(self.line, self.number, self.what, self.deadline, self.started)

    @property
    def is_over(self) -> bool:
        """Whether there is an outcome, which its coroutine has perhaps not seen yet."""
        return self._future.done()

    def feed(self, parts: list[Any]) -> bool:
        """Take in the outcome; of a stream, that it has begun.

        Raises:
            RemoteProtocolError: It is an item of what is no stream.
        """
        code = parts[1]
        if code == VALUE:
            self._answer(parts[2])
            return True
        if code == ITEM:
            raise RemoteProtocolError("an item of what is no stream")
        if code == STREAM:
            inbox = self.line.pending[self.number] = Inbox(self.made, self.exported)
            self.exported = ()  # they hold as long as the stream
            _set(self._future, AsyncStream(inbox))
            return False
        self.lose(self.made.error(parts))
        return True

    def _answer(self, value: object) -> None:
        if self.what[3] is None:
            _set(self._future, value)
            return
        try:
            _set(self._future, self.made.value(value))
        except Exception as error:  # noqa: BLE001 - what the constructor of a dataclass raises
            self.lose(error)

    def lose(self, error: Exception) -> None:
        """Take in that nothing will come."""
        if not self._future.done():
            self._future.set_exception(error)


def _set(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


async def exchange_async(
    line: Line,
    what: What,
    arguments: tuple[object, ...],
    keywords: dict[str, object],
    deadline: float,
) -> Any:  # noqa: ANN401 - whatever the other side gives
    """Make a call and await its value, as `exchange` does for a thread.

    Cancelling the coroutine cancels the call.
    """
    loop = asyncio.get_running_loop()
    chain = CURRENT.get().chain
    if line.lane.has_unsent:
        await _room(line, what[2], deadline)
    awaited = line.awaited
    if awaited is None:
        awaited = line.awaited = Awaited(loop)
    if line.pending and not line.lane.is_gathering:
        awaited.gather(line)
    try:
        number, has_left = begin(line, what, arguments, keywords, deadline, chain, monotonic())
    except CalleeGone:
        awaited.give_up(line)  # it had them leave: they had become many
        raise
    exported = take_exported(line) if line.exported else ()
    future: asyncio.Future[Any] = loop.create_future()
    answer = Answer(line, number, what, deadline, future, exported)
    line.pending[number] = answer
    if deadline < awaited.due:
        awaited.watch(line, deadline)
    try:
        if not has_left:
            line.blocked(line)
        return await future
    except BaseException:
        if line.pending.pop(number, None) is not None:
            line.forget(number)
        raise
    finally:
        if answer.exported:
            release(line, answer.exported)


class Awaited:
    """What the calls on one line have in common that coroutines await; lives as long as it."""

    __slots__ = ("_loop", "_sent", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._sent = 0
        """The last call that was sent by itself, before others were gathered."""
        self.due = inf
        """When the first of them is given up, as far as the timer knows."""

    def gather(self, line: Line) -> None:
        """Have the calls that tasks make before the loop turns again leave together."""
        self._sent = next(reversed(line.pending))
        line.lane.gather()
        self._loop.call_soon(self._release, line)
        if TURN.reactor is not None:
            TURN.reactor.unsent[self] = partial(self._release, line)

    def _release(self, line: Line) -> None:
        if TURN.reactor is not None:
            TURN.reactor.unsent.pop(self, None)
        if line.is_lost or not line.lane.is_gathering:
            return
        try:
            if not line.lane.release():
                line.blocked(line)
        except BrokenPipeError:
            self.give_up(line)
            line.lose()
        except (OSError, RemoteProtocolError):
            line.lose()

    def give_up(self, line: Line) -> None:
        """Say that the callee was gone before what is gathered could leave: nothing has run."""
        for number in [known for known in line.pending if known > self._sent]:
            line.pending.pop(number).lose(CalleeGone())

    def watch(self, line: Line, when: float) -> None:
        """Have calls given up in time: one timer for all, which looks for the next when it is due.

        Most calls have the same patience, so hardly any is due before one made earlier.
        """
        self.due = when
        self._loop.call_at(when, self._expire, ref(line), when)

    def _expire(self, known: "ref[Line]", when: float) -> None:
        line = known()
        if line is None or when != self.due:
            return  # another timer looks after them, which was due before
        now, following = self._loop.time(), inf
        for one in tuple(line.pending.values()):
            if isinstance(one, Answer) and not one.is_over:
                if one.deadline <= now:
                    one.lose(one.made.late())
                else:
                    following = min(following, one.deadline)
        self.due = inf
        if following < inf:
            self.watch(line, following)


async def _room(line: Line, name: str, deadline: float) -> None:
    """Wait until the peer has taken in what it was sent before; it may be large."""
    started = monotonic()
    try:
        async with asyncio.timeout_at(deadline):
            while line.lane.has_unsent and not line.is_lost:
                await until_told(line.when_flushed)
    except TimeoutError:
        raise DeadlineExceeded(name, round(deadline - started, 3)) from None


class AsyncStream(AsyncIterator[Any]):
    """What a generator in another process yields; closing or dropping it closes the generator."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def __anext__(self) -> Any:  # noqa: ANN401 - whatever the plugin yields
        """Give the next item; errors are those of `Stream`."""
        inbox = self._inbox
        while not inbox.items and not inbox.is_over:
            changed = asyncio.Event()
            inbox.changed = changed.set
            try:
                async with asyncio.timeout_at(inbox.made.deadline):
                    await changed.wait()
            except TimeoutError:
                inbox.abandon()
                raise inbox.made.late() from None
        if inbox.items:
            return inbox.pop()
        error, inbox.error = inbox.error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Want no more; harmless when it is over."""
        self._inbox.abandon()

    def __del__(self) -> None:
        self._inbox.abandon()


class AioCall:
    """One call that was not begun: `await` gives its value, `async for` the items of a stream.

    It is a coroutine to asyncio, which makes a task of it as of any other.
    """

    __slots__ = ("_arguments", "_keywords", "_method", "_steps")

    def __init__(
        self, method: "Method", arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> None:
        self._method = method
        self._arguments = arguments
        self._keywords = keywords
        self._steps: Coroutine[Any, Any, Any] | None = None

    def __repr__(self) -> str:
        return f"<call of {self._method}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self._begin().__await__()

    def _begin(self) -> Coroutine[Any, Any, Any]:
        method = self._method
        return method.caller.aio.call(method, self._arguments, self._keywords)

    def _begun(self) -> Coroutine[Any, Any, Any]:
        if self._steps is None:
            self._steps = self._begin()
        return self._steps

    def send(self, value: object) -> Any:  # noqa: ANN401 - what its loop has to wait for
        """Go on, as the loop says."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:  # noqa: ANN401 - as coroutines have it
        """Go on with an error, as the loop says when its task was cancelled."""
        return self._begun().throw(*error)

    def close(self) -> None:
        """Give it up; harmless when it was not begun."""
        if self._steps is not None:
            self._steps.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        stream = await self
        if not isinstance(stream, AsyncStream):
            raise UsageError(f"{self._method} gives a value, not a stream: await it")
        try:
            async for item in stream:
                yield item
        finally:
            await stream.aclose()


class AioCaller:
    """Carries out the calls of a process's stubs for all its event loops."""

    def __init__(self, caller: "Caller") -> None:
        self._caller = caller
        self._loops: dict[asyncio.AbstractEventLoop, LoopLines] = {}

    async def call(
        self, method: "Method", arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> Any:  # noqa: ANN401 - whatever the plugin returned
        """Make one call and await its one outcome; errors are those of `Caller.call`."""
        rate = self._caller.rate
        if rate is not None:
            rate.take(str(method))
        deadline = self._caller.deadline(method)
        lines = self._mine()
        attempts = 0
        while True:
            known = lines.known(method.service) or await lines.get(method, deadline)
            line, credit = known
            if credit.locked():
                await _place(credit, method, deadline)
            else:
                await credit.acquire()  # at once
            try:
                value = await exchange_async(line, method.what, arguments, keywords, deadline)
            except CalleeGone:
                line.lose()
                continue
            except ServiceUnavailable:
                lines.forget(method.service)  # the next call asks who offers it
                raise
            except WorkerLost:
                attempts += 1
                delay = self._caller.delay(line, method, attempts, deadline)
                if delay is None:
                    raise
            else:
                if line.idempotent:
                    self._caller.answered(line, method)
                return value
            finally:
                credit.release()
            await asyncio.sleep(delay)

    def leave(self) -> None:
        """Let go of them, in a child that was forked: they are its parent's, who goes on."""
        for lines in self._loops.values():
            lines.leave()

    def _mine(self) -> "LoopLines":
        loop = asyncio.get_running_loop()
        mine = self._loops.get(loop)
        if mine is None:
            for other in [known for known in tuple(self._loops) if known.is_closed()]:
                if (gone := self._loops.pop(other, None)) is not None:
                    gone.close()
            mine = self._loops[loop] = LoopLines(loop, self._caller)
        return mine


async def _place(credit: asyncio.Semaphore, method: "Method", deadline: float) -> None:
    """Wait until a call more may be under way on a line."""
    try:
        async with asyncio.timeout_at(deadline):
            await credit.acquire()
    except TimeoutError:
        raise DeadlineExceeded(str(method), method.timeout) from None


class LoopLines:
    """The lines of one event loop; they end with it, or a little later."""

    def __init__(self, loop: asyncio.AbstractEventLoop, caller: "Caller") -> None:
        self._loop = loop
        self._caller = caller
        self._by_service: dict[str, tuple[Line, asyncio.Semaphore]] = {}
        self._by_peer: dict[int, tuple[Line, asyncio.Semaphore]] = {}
        self._opening: dict[tuple[str, bool], asyncio.Task[Line]] = {}
        self._mourners: set[asyncio.Task[None]] = set()

    def known(self, service: str) -> tuple[Line, asyncio.Semaphore] | None:
        """Give the line for a service and the credit for calls on it, if there is one already."""
        return self._by_service.get(service)

    async def get(self, method: "Method", deadline: float) -> tuple[Line, asyncio.Semaphore]:
        """Give the line to whoever offers a service, with the credit for calls on it.

        Raises:
            ServiceUnavailable: Nobody does.
            DeadlineExceeded: The time is up.
        """
        key = (method.service, method.waits)
        while (known := self._by_service.get(method.service)) is None:
            task, is_mine = self._opening.get(key), False
            if task is None or task.done():  # one that is done is no longer waited for
                is_mine = True
                # Whoever else needs the service meanwhile waits for the same line.
                task = self._opening[key] = self._loop.create_task(self._open(method, deadline))
                task.add_done_callback(partial(self._opened, key))
            try:
                async with asyncio.timeout_at(deadline):
                    line = await asyncio.shield(task)
            except TimeoutError:
                raise DeadlineExceeded(str(method), method.timeout) from None
            except SpiralHostError:
                if is_mine:
                    raise
                continue  # whoever asked first may have had less time, or less patience
            if line.lane.fd >= 0:  # else it has come and gone, before this task had its turn
                self._keep(method.service, line)
        return known

    def _opened(self, key: tuple[str, bool], task: "asyncio.Task[Line]") -> None:
        if self._opening.get(key) is task:
            del self._opening[key]

    async def _open(self, method: "Method", deadline: float) -> Line:
        open_line = partial(
            self._caller.connector.open_line, method.service, deadline, wait=method.waits
        )
        return await self._loop.run_in_executor(None, open_line)

    def _keep(self, service: str, fresh: Line) -> tuple[Line, asyncio.Semaphore]:
        known = self._by_peer.get(fresh.peer)
        if known is None:
            known = self._by_peer[fresh.peer] = fresh, asyncio.Semaphore(CREDITS)
            fresh.belong()
            fresh.loop = self._loop
            fresh.serve = serve_callback
            fresh.lost = self._lost
            fresh.blocked = self._blocked
            self._loop.add_reader(fresh.lane.fd, fresh.came)
        elif known[0] is not fresh:
            known[0].learn(service, fresh.idempotent)
            fresh.lane.close()
        self._by_service[service] = known
        return known

    def forget(self, service: str) -> None:
        """Know no line for a service; harmless if there is none."""
        self._by_service.pop(service, None)

    def _blocked(self, line: Line) -> None:
        self._loop.add_writer(line.lane.fd, self._writable, line)

    def _writable(self, line: Line) -> None:
        try:
            if line.flush():
                self._loop.remove_writer(line.lane.fd)
        except OSError:
            line.lose()

    def _lost(self, line: Line) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(line.lane.fd)
            self._loop.remove_writer(line.lane.fd)
        self._by_peer.pop(line.peer, None)
        for service in [name for name, known in self._by_service.items() if known[0] is line]:
            del self._by_service[service]
        if not self._loop.is_closed():
            for go_on in line.when_flushed:
                go_on()
        pending, line.pending = line.pending, {}
        if pending and not self._loop.is_closed():
            self._mourners.add(task := self._loop.create_task(self._mourn(line, pending)))
            task.add_done_callback(self._mourners.discard)

    async def _mourn(self, line: Line, pending: dict[int, Pending]) -> None:
        """Tell those that wait how the callee has ended, once that is known."""
        deadline = min(one.made.deadline for one in pending.values())
        error = await self._loop.run_in_executor(None, line.death, deadline)
        for one in pending.values():
            one.lose(error)

    def leave(self) -> None:
        """Let go of them, in a child that was forked."""
        for line, _ in self._by_peer.values():
            line.leave()

    def close(self) -> None:
        """Close them all."""
        for line, _ in tuple(self._by_peer.values()):
            line.lose()
