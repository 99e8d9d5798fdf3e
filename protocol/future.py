"""What a call gives that nobody waits for at once: a future, and a stream of items.

Both belong to the thread that made the call. They are fed by its line whenever that thread waits
for any of its calls; there is no reader behind its back.
"""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from protocol.calls import CREDIT, ERROR, ITEM, STREAM, VALUE, WINDOW, error_of
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    ProtocolError,
    RemoteError,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
)
from protocol.lane import PeerGone
from protocol.line import Pending
from protocol.waits import DeadlockError, attend

if TYPE_CHECKING:
    from protocol.line import Line
    from protocol.typed import Signature

What: TypeAlias = "tuple[str, str, str, Signature | None]"
"""What is called: service, method, both as people read them, and what its results are held to."""

_UNKNOWN: Final = object()
"""The value of a call that has no outcome yet."""

_AGAIN: Final = WINDOW // 2
"""Items taken before new credit is given: one word for many, and the writer never runs dry."""


class Made:
    """A call that was made: where, as which number, what it is called, until when it is awaited."""

    __slots__ = ("deadline", "line", "name", "number", "signature", "started")

    def __init__(
        self, line: "Line", number: int, what: What, deadline: float, started: float | None = None
    ) -> None:
        self.line = line
        self.number = number
        self.name = what[2]
        self.signature = what[3]
        self.started = line.used if started is None else started
        self.deadline = deadline

    def value(self, value: Any) -> Any:  # noqa: ANN401 - whatever the plugin returned
        """Give a value as the caller's own annotations have it.

        Raises:
            RemoteProtocolError: It is not what they say.
        """
        if self.signature is None:
            return value
        try:
            return self.signature.result(value)
        except TypeError as error:
            raise RemoteProtocolError(f"{self.name} gave something else: {error}") from None

    def item(self, item: Any) -> Any:  # noqa: ANN401 - whatever the plugin yielded
        """Give an item of a stream as the caller's own annotations have it."""
        if self.signature is None:
            return item
        try:
            return self.signature.item(item)
        except TypeError as error:
            raise RemoteProtocolError(f"{self.name} gave something else: {error}") from None

    def error(self, parts: list[Any]) -> SpiralHostError:
        """Build the error that came of it."""
        error = error_of(parts)
        if isinstance(error, RemoteError):
            error.plugin = self.line.peer_name
            error.call_id = f"{self.line.home.own()}:{self.number}"
        elif isinstance(error, ProtocolError):
            error.args = (f"{self.name}: {error}",)  # what could not be read knew its place only
        return error

    def late(self) -> DeadlineExceeded:
        """Say that its time is up."""
        return DeadlineExceeded(self.name, round(self.deadline - self.started, 3))

    def check_thread(self) -> None:
        """Refuse any thread but the one that made the call.

        Raises:
            UsageError: This is another.
        """
        if threading.get_ident() != self.line.owner:
            raise UsageError(f"{self.name}: use it in the thread that made the call")

    def attend(self, until: float, is_over: Callable[[], bool]) -> None:
        """Have the line read until something is so; the thread waits for this call meanwhile.

        Raises:
            TimeoutError: It is not so by `until`.
            DeadlineExceeded: Nor by the call's deadline; the callee has been told to stop.
            Cancelled: The call on whose behalf this one was made is not wanted any more.
            ServiceUnavailable: The call waits, over others, for itself.
            UsageError: Another thread made it.
            PeerGone: The callee is gone.
        """
        line = self.line
        self.check_thread()
        try:
            attend(line, self.number, min(until, self.deadline), is_over)
        except TimeoutError:
            if monotonic() < self.deadline:
                raise
            line.forget(self.number)
            raise self.late() from None
        except Cancelled:
            line.forget(self.number)
            raise Cancelled(self.name) from None
        except DeadlockError as error:
            line.forget(self.number)
            raise ServiceUnavailable(self.name, f"it would wait for itself: {error}") from None

    def wait(self, until: float, is_over: Callable[[], bool]) -> None:
        """Do as `attend`, for who is fed by the line: nothing is kept of what comes twice."""
        try:
            self.attend(until, is_over)
        finally:
            self.line.early.pop(self.number, None)


class Inbox(Pending):
    """The items of one stream that have come and were not taken yet.

    Args:
        functions: What went out as arguments of its call; it holds until the stream is over.
    """

    def __init__(self, made: Made, functions: Sequence[str]) -> None:
        self._made = made
        self._functions = functions
        self.items: deque[object] = deque()
        self.error: SpiralHostError | None = None
        self.is_over = False
        self._taken = 0
        self.changed: Callable[[], object] = _nobody
        """Called when something has come; for who does not wait in this thread."""

    @property
    def made(self) -> Made:
        """The call that they come of."""
        return self._made

    def feed(self, parts: list[Any]) -> bool:
        """Take in an item, or the end.

        Raises:
            RemoteProtocolError: It is more than was asked for.
        """
        if parts[1] == ITEM:
            if len(self.items) >= WINDOW:
                raise RemoteProtocolError("a stream with more items than were asked for")
            self.items.append(parts[2])
        else:
            self.end()
            self.error = self._made.error(parts) if parts[1] == ERROR else None
        self.changed()
        return self.is_over

    def lose(self, error: SpiralHostError) -> None:
        """Take in that no more will come."""
        self.end()
        self.error = error
        self.changed()

    def end(self) -> None:
        """Note that no more will come."""
        self.is_over = True
        for function in self._functions:
            self._made.line.functions.pop(function, None)

    def pop(self) -> object:
        """Give the oldest item, and the writer new credit now and then."""
        self._taken += 1
        if self._taken >= _AGAIN and not self.is_over:
            taken, self._taken = self._taken, 0
            self._made.line.say(self._made.number, CREDIT, taken)
        self._made.line.give_back()  # a writer of large items waits for that
        return self._made.item(self.items.popleft())

    def abandon(self) -> None:
        """Want no more; the generator is closed, and its `finally` runs."""
        self.items.clear()
        if self.is_over:
            return
        self.end()
        line, number = self._made.line, self._made.number
        if threading.get_ident() == line.owner and not line.is_sending:
            line.forget(number)
        else:
            line.abandoned.append(number)


class Stream(Iterator[Any]):
    """What a generator in another process yields; once, and in the thread that asked for it.

    Closing it, or dropping it, closes the generator.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __next__(self) -> Any:  # noqa: ANN401 - whatever the plugin yields
        """Give the next item, waiting for it until the call's deadline.

        Raises:
            RemoteError: The generator raised; what it had yielded before was given.
            WorkerLost, DeadlineExceeded, Cancelled: As for any call.
            UsageError: Another thread made the call.
        """
        inbox = self._inbox
        inbox.made.check_thread()
        if not inbox.items and not inbox.is_over:
            try:
                inbox.made.wait(inbox.made.deadline, lambda: bool(inbox.items or inbox.is_over))
            except SpiralHostError:
                inbox.end()
                raise
            except PeerGone:
                if not inbox.is_over:  # else `lose` has said how
                    inbox.lose(inbox.made.line.death(inbox.made.deadline))
        if inbox.items:
            return inbox.pop()
        error, inbox.error = inbox.error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Want no more; harmless when it is over."""
        self._inbox.abandon()

    def __del__(self) -> None:
        self._inbox.abandon()


class Future(Pending):
    """A call under way. Wait for it, and add callbacks to it, in the thread that made it."""

    __slots__ = (
        "_callbacks",
        "_deadline",
        "_error",
        "_exported",
        "_line",
        "_number",
        "_started",
        "_value",
        "_what",
    )

    def __init__(
        self, line: "Line", number: int, what: What, deadline: float, exported: Sequence[str]
    ) -> None:
        # A hundred of them are made before the first is waited for: what most never need is not
        # made yet.
        self._line = line
        self._number = number
        self._what = what
        self._deadline = deadline
        self._started = line.used
        self._exported = exported
        self._value: Any = _UNKNOWN
        self._error: Exception | None = None
        self._callbacks: list[Callable[[Future], object]] | None = None

    @property
    def made(self) -> Made:
        """The call."""
        return Made(self._line, self._number, self._what, self._deadline, self._started)

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401
        """Give the call's value, waiting for it.

        Args:
            timeout: Seconds; None is until the call's own deadline.

        Raises:
            TimeoutError: It is not there within `timeout`; the call goes on.
            SpiralHostError: As for a call that is waited for.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Give the call's error, or None; waits as `result` does."""
        if self._value is _UNKNOWN:
            until = self._deadline if timeout is None else monotonic() + timeout
            try:
                self.made.wait(until, self.done)
            except UsageError:
                raise
            except SpiralHostError as error:
                self._finish(None, error)
            except PeerGone:
                if self._value is _UNKNOWN:  # else `lose` has said how
                    self._finish(None, self._line.death(self._deadline))
        return self._error

    def done(self) -> bool:
        """Say whether there is an outcome; looks at nothing new."""
        return self._value is not _UNKNOWN

    def cancel(self) -> bool:
        """Want the answer no more, and have the callee told; False when it is there already."""
        if self._value is not _UNKNOWN:
            return False
        self.made.check_thread()
        self._line.forget(self._number)
        self._finish(None, Cancelled(self._what[2]))
        return True

    def cancelled(self) -> bool:
        """Say whether it was cancelled."""
        return isinstance(self._error, Cancelled)

    def add_done_callback(self, callback: "Callable[[Future], object]") -> None:
        """Call back once there is an outcome: now, or while this thread waits for a call."""
        if self._value is not _UNKNOWN:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def feed(self, parts: list[Any]) -> bool:
        """Take in the outcome; of a stream, that it has begun.

        Raises:
            RemoteProtocolError: It is an item of what is no stream.
        """
        code = parts[1]
        if code == VALUE:
            if self._what[3] is None:
                self._finish(parts[2], None)
            else:
                self._answer(parts[2])
            return True
        if code == ITEM:
            raise RemoteProtocolError("an item of what is no stream")
        if code == STREAM:
            inbox = self._line.pending[self._number] = Inbox(self.made, self._exported)
            self._exported = ()
            self._finish(Stream(inbox), None)
            return False
        self._finish(None, self.made.error(parts))
        return True

    def _answer(self, value: object) -> None:
        try:
            value = self.made.value(value)
        except Exception as error:  # noqa: BLE001 - what the constructor of a dataclass raises
            self._finish(None, error)
        else:
            self._finish(value, None)

    def lose(self, error: SpiralHostError) -> None:
        """Take in that nothing will come."""
        self._finish(None, error)

    def _finish(self, value: object, error: Exception | None) -> None:
        self._value, self._error = value, error
        self._line.in_flight.discard(self._number)
        for function in self._exported:
            self._line.functions.pop(function, None)
        if self._callbacks is not None:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                try:
                    callback(self)
                except Exception:  # noqa: BLE001 - its own trouble, and not that of who waits here
                    traceback.print_exc()


def _nobody() -> None:
    """Nobody waits elsewhere."""
