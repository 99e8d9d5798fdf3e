"""Functions as arguments: what goes out is a number, and a call of it comes back on the same lane.

They hold as long as the call they went with: then the callee's `Callback` refuses, and so does
the caller, whatever the callee believes.
"""

import inspect
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from protocol.calls import Call, error_parts
from protocol.errors import LocalProtocolError, UsageError
from protocol.exchange import CalleeGone, exchange
from protocol.flight import UNCOUNTED
from protocol.running import Target, run
from protocol.turn import CURRENT, NUMBERS

if TYPE_CHECKING:
    from protocol.line import Line


class Callback:
    """A function of the caller's, in the callee; calls it there and gives its value."""

    def __init__(self, line: "Line", number: int) -> None:
        self.is_over = False
        """Whether the call that it came with is over."""
        self._line = line
        self._number = number

    def __call__(self, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401
        """Call it, in the thread that the call was served by.

        Raises:
            UsageError: The call that it came with is over, or this is another thread.
            SpiralHostError: As for any call.
        """
        self._check()
        line, current, now = self._line, CURRENT.get(), monotonic()
        what = "", str(self._number), "a callback", None
        try:
            return exchange(line, what, arguments, keywords, current.deadline, current.chain, now)
        except CalleeGone:
            raise line.death(current.deadline) from None
        finally:
            if line.lane.rest:  # what came with the answer: a call, perhaps
                line.unread(line)

    async def aio(self, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401
        """Call it from an `async def` handler."""
        from protocol.aio import exchange_async  # noqa: PLC0415 - asyncio is there already

        self._check()
        deadline = CURRENT.get().deadline
        what = "", str(self._number), "a callback", None
        try:
            return await exchange_async(self._line, what, arguments, keywords, deadline)
        except CalleeGone:
            raise self._line.death(deadline) from None

    def _check(self) -> None:
        if self.is_over:
            raise UsageError("this function came with a call that is over; it held until then")
        if threading.get_ident() != self._line.owner:
            raise UsageError("call it in the thread that serves the call it came with")


class LineFunctions:
    """The functions of one line, as its carrier meets them."""

    def __init__(self, line: "Line") -> None:
        self._line = weakref.ref(line)  # which holds its carrier, and that holds us

    def export(self, function: Callable[..., object]) -> int:
        """Have a function called from the other end, as long as the call lasts that is being sent.

        Raises:
            LocalProtocolError: It is no argument of a call, or nothing here can run it.
        """
        line = self._line()
        if line is None or not line.is_calling:
            raise LocalProtocolError("cannot send a function; only arguments of calls may be some")
        is_async = needs_loop(line, function)
        number = next(NUMBERS)
        name = getattr(function, "__name__", type(function).__name__)
        line.functions[str(number)] = Target(
            f"callback {name}", function, UNCOUNTED, is_async=is_async
        )
        line.exported.append(str(number))
        return number

    def adopt(self, number: int) -> Callback:
        """Give what calls a function of the other end's."""
        line = self._line()
        assert line is not None
        callback = Callback(line, number)
        line.adopted.append(callback)
        return callback


def needs_loop(line: "Line", function: Callable[..., object]) -> bool:
    """Say whether a function is `async def`.

    Raises:
        LocalProtocolError: It is, and the thread of this line cannot run it.
    """
    is_async = inspect.iscoroutinefunction(function)
    if is_async and line.loop is None:
        raise LocalProtocolError("cannot send an `async def` from here; use stub.aio")
    return is_async


def serve_callback(line: "Line", call: Call) -> None:
    """Take in a call at the caller's end of a lane: nothing but functions can be called there."""
    number, service, method, *_ = call
    target = None if service else line.functions.get(method)
    if target is None:
        error = UsageError("this function came with a call that is over; it held until then")
        line.say(*error_parts(number, error))
        return
    run(line, call, target, monotonic())
