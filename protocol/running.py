"""Carry out one call that has come on a line: run it, answer it, stop it when nobody wants it.

a plain method    runs at once, in the thread that took the call in
`async def`       runs as a task of the thread's event loop
a generator       runs as far as its reader's credit reaches, and again with the next
"""

import types
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from protocol import failpoints
from protocol.calls import CALL_PARTS, CREDITS, ITEM, STREAM, VALUE, WINDOW, Call, error_parts
from protocol.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    Overloaded,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
)
from protocol.failpoints import ARMED
from protocol.flight import Counter, label_of
from protocol.outgoing import PLAIN
from protocol.places import explain_result
from protocol.pool import NoRoom
from protocol.remote import report
from protocol.turn import CURRENT, MAX_CHAIN, Current
from protocol.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from protocol.line import Line
    from protocol.typed import Signature


DOUBT: Final = 16
"""Runs of a method in a row that have to be quick before ready answers wait for one more of them.
Now and then one only seems slow, because another process had the core: it must not be too many."""


class Target:
    """Something that may be called from elsewhere.

    Attributes:
        name: For people, `service.method`; `label` is the same as the flight page shows it.
        counter: Where its calls are noted and counted.
        signature: Checks the arguments; None if nothing is said of them.
        is_async: Whether it needs an event loop: `async def`, with `yield` or without.
        doubt: Runs that have to be quick before ready answers wait for one more of them.
    """

    __slots__ = ("counter", "doubt", "function", "is_async", "label", "name", "signature")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        counter: Counter,
        signature: "Signature | None" = None,
        *,
        is_async: bool = False,
    ) -> None:
        self.name = name
        self.label = label_of(name)
        self.function = function
        self.counter = counter
        self.signature = signature
        self.is_async = is_async
        self.doubt = DOUBT


_CANNOT_TRAVEL: Final = LocalProtocolError, TypeError, ValueError, OverflowError, BufferError

_LONGER: Final = {types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType}
"""What a method may return that is not its value yet."""


def run(line: "Line", call: Call, target: Target, now: float) -> None:
    """Carry out a call, or begin to; whatever it raises goes to its caller.

    Args:
        now: What `time.monotonic()` says, or said when the last call of this thread was over.
    """
    number, arguments, keywords, deadline = call[0], call[3], call[4], call[5]
    running = line.running
    objection = _objection(line, number, target, deadline, now)
    if objection is not None:
        _refuse(line, number, target, objection)
        return
    running[number] = current = Current(call[6], deadline, line, number)
    if len(call) > CALL_PARTS:
        current.callbacks = call[CALL_PARTS]
    current.slot = target.counter.enter(line.peer, number, deadline, target.label)
    token = CURRENT.set(current)
    try:
        if ARMED:
            failpoints.hit("call.taken")
        signature = target.signature
        if signature is not None and (keywords or not signature.fits(arguments)):
            arguments, keywords = signature.prepare(arguments, keywords)
        value = target.function(*arguments, **keywords) if keywords else target.function(*arguments)
        # What came by shared memory goes back with the answer, unless the plugin has kept it.
        call[3].clear()
        if call[4]:
            call[4].clear()
        del arguments, keywords
        if type(value) in _LONGER:
            _go_on(line, current, target, value)
        else:
            finish(line, current, target, value)
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
        fail(line, current, target, error)
    finally:
        CURRENT.reset(token)


def _objection(
    line: "Line", number: int, target: Target, deadline: float, now: float
) -> SpiralHostError | None:
    """Say why a call does not run at all; for an honest caller only its time may be up."""
    running = line.running
    if deadline < now:
        return DeadlineExceeded(target.name, 0.0)
    if number in running:  # what was begun would be forgotten, and never end
        return RemoteProtocolError("a call of the number of another that is under way")
    if len(running) >= CREDITS:
        return Overloaded(target.name, 0.1)
    if len(line.waiting) > MAX_CHAIN:  # each of them lies on the stack
        why = f"its thread waits for more than {MAX_CHAIN} calls, each within the one before"
        return ServiceUnavailable(target.name, why)
    return None


def is_cancelled() -> bool:
    """Say whether nobody waits any more for what this thread or task is doing."""
    current = CURRENT.get()
    if current.line is not None and not current.is_cancelled:
        current.line.look()
    if monotonic() >= current.deadline:
        current.cancel()  # who was told so gives half a result, which must not pass for a whole one
    return current.is_cancelled


def finish(line: "Line", current: Current, target: Target, value: object) -> None:
    """Say the value of a call that is over; of a stream, that it has ended.

    Raises:
        LocalProtocolError: The value cannot travel.
    """
    if ARMED:
        failpoints.hit("reply.before")
    # First: who has its answer and asks for the figures finds the call among them.
    target.counter.succeeded()
    try:
        # As `Line.say`, without the way there: a small answer is all of this and no more.
        if not (current.is_cancelled or line.is_lost):
            word = current.number, VALUE, value
            if not (line.send_plain(word) if type(value) in PLAIN else line.send(word)):
                line.blocked(line)
    except (OSError, RemoteProtocolError):
        line.lose()
    except BaseException as error:
        target.counter.retract()
        if isinstance(error, _CANNOT_TRAVEL):
            raise LocalProtocolError(explain_result(value) or f"the result: {error}") from None
        raise
    if ARMED:
        failpoints.hit("reply.after")
    _over(line, current, target)


def fail(line: "Line", current: Current, target: Target, error: BaseException) -> None:
    """Say what a call has raised. Who has cancelled it is told nothing, and counts none."""
    # What a nested call raises at the deadline that both share is not what came of this one.
    wanted = not current.is_cancelled and monotonic() < current.deadline
    if wanted:
        target.counter.failed()  # first, as above
    else:
        target.counter.succeeded()
    _over(line, current, target)
    if wanted:
        line.say(*error_parts(current.number, report(target.name, error)))


def try_item(line: "Line", current: Current, item: object) -> bool:
    """Send an item of a stream; False while the reader has too much of our shared memory.

    Raises:
        LocalProtocolError: It cannot travel.
    """
    if ARMED:
        failpoints.hit("item.before")
    try:
        if not current.is_cancelled:
            line.say(current.number, ITEM, item)
    except NoRoom:
        return False
    except _CANNOT_TRAVEL as error:
        raise LocalProtocolError(explain_result(item) or f"the item: {error}") from None
    return True


def _over(line: "Line", current: Current, target: Target) -> None:
    """Give up the call's place, and what held as long as it ran."""
    target.counter.leave(current.slot)
    line.running.pop(current.number, None)  # a peer that lies may use a number twice
    if target.is_async:
        line.ended()
    for callback in current.callbacks:
        callback.is_over = True


def _refuse(line: "Line", number: int, target: Target, error: SpiralHostError) -> None:
    """Say that a call does not run at all."""
    line.say(*error_parts(number, error))
    if target.is_async:
        line.ended()


def _go_on(line: "Line", current: Current, target: Target, work: Any) -> None:  # noqa: ANN401
    if type(work) is types.GeneratorType:
        target.counter.streams(current.slot)
        Writer(
            line,
            current,
            work,
            write=partial(try_item, line, current),
            finish=partial(finish, line, current, target),
            fail=partial(fail, line, current, target),
        ).begin()
        return
    if line.loop is None:
        work.close()
        raise TypeError(f"{target.name} is asynchronous, and this thread has no event loop")
    target.counter.awaits(current.slot)
    loop = line.loop
    if type(work) is types.AsyncGeneratorType:
        work = _items(line, current, work)
    task = loop.create_task(_await(line, current, target, work), context=copy_context())
    current.stop = task.cancel
    timer = loop.call_at(current.deadline, current.cancel)

    def over(_: object) -> None:
        timer.cancel()
        if work.cr_frame is not None:  # cancelled before its first step: nothing of it has run
            work.close()
            fail(line, current, target, GeneratorExit())

    task.add_done_callback(over)


async def _await(
    line: "Line", current: Current, target: Target, work: Coroutine[Any, Any, object]
) -> None:
    try:
        value = await work
        while line.lane.has_unsent:
            await until_told(line.when_flushed)
        finish(line, current, target, value)
    except BaseException as error:  # noqa: BLE001 - as above; CancelledError is among them
        fail(line, current, target, error)


async def until_told(waiting: list[Callable[[], object]]) -> None:
    """Wait until those that are in a list are called, this one among them."""
    import asyncio  # noqa: PLC0415 - who runs in its loop has it

    event = asyncio.Event()
    waiting.append(event.set)
    await event.wait()


async def _items(line: "Line", current: Current, items: "AsyncGenerator[object, None]") -> None:
    """Write an asynchronous stream, as fast as its reader reads."""
    import asyncio  # noqa: PLC0415 - who runs in its loop has it

    credit = asyncio.Semaphore(WINDOW)

    def more(count: int) -> None:
        for _ in range(min(count, WINDOW)):
            credit.release()

    current.more = more
    line.say(current.number, STREAM)
    try:
        async for item in items:
            await credit.acquire()
            while line.lane.has_unsent:
                await until_told(line.when_flushed)
            while not try_item(line, current, item):
                await until_told(line.when_room)
    finally:
        await items.aclose()
