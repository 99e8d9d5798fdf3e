"""Make one call on a line: send it, and wait for its one outcome."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import contains
from typing import TYPE_CHECKING, Any

from protocol import failpoints
from protocol.calls import BEGIN, ERROR, STREAM, VALUE, call_parts
from protocol.carrier import are_plain
from protocol.codec import default
from protocol.errors import LocalProtocolError, ServiceUnavailable
from protocol.failpoints import ARMED
from protocol.future import Inbox, Made, Stream, What
from protocol.lane import PeerGone
from protocol.listen import finish, next_word
from protocol.places import explain_arguments
from protocol.turn import MAX_CHAIN, NUMBERS, Link, spelled
from protocol.waits import PATIENCE_S, settle

if TYPE_CHECKING:
    from protocol.line import Line


class CalleeGone(Exception):
    """The callee was gone before a call could leave, so nothing of it has run."""


def begin(
    line: "Line",
    what: What,
    arguments: tuple[object, ...],
    keywords: dict[str, object],
    deadline: float,
    chain: tuple[Link, ...],
    now: float,
) -> tuple[int, bool]:
    """Send a call; give its number, and say whether all of it has left.

    Raises:
        LocalProtocolError: An argument cannot travel; nothing was sent.
        ServiceUnavailable: Too many calls have led to this one; nothing was sent.
        CalleeGone: The callee was gone before; nothing was sent.
        RemoteProtocolError: The callee reads nothing.
    """
    service, method, name, _ = what
    if len(chain) >= MAX_CHAIN:
        circle = spelled([*chain[:4], *chain[-2:]], "...")
        raise ServiceUnavailable(name, f"{MAX_CHAIN} calls led to this one: {circle}")
    if line.is_sending:
        raise LocalProtocolError(f"{name}: an argument calls while it is being sent itself")
    number = next(NUMBERS)
    line.used = now
    line.is_calling = True
    try:
        if ARMED:
            failpoints.hit("call.before")
        if not keywords and are_plain(arguments):
            has_left = line.send_plain(
                (number, service, method, arguments, None, deadline, chain or None)
            )
        else:
            has_left = line.send(
                call_parts(number, service, method, arguments, keywords, deadline, chain)
            )
        if ARMED:
            failpoints.hit("call.sent")
    except OSError:
        release(line, take_exported(line))
        raise CalleeGone from None
    except (LocalProtocolError, TypeError, ValueError, OverflowError, BufferError) as error:
        release(line, take_exported(line))
        why = _explained(line, arguments, keywords) or str(error)
        raise LocalProtocolError(f"{name}: {why}") from None
    except BaseException:  # an argument that was asked for its content may raise anything
        release(line, take_exported(line))
        raise
    else:
        return number, has_left
    finally:
        line.is_calling = False


def exchange(
    line: "Line",
    what: What,
    arguments: tuple[object, ...],
    keywords: dict[str, object],
    deadline: float,
    chain: tuple[Link, ...],
    now: float,
) -> Any:  # noqa: ANN401 - whatever the other side gives
    """Make a call and wait for its value; the value of a generator is a `Stream`.

    Args:
        deadline: When it is given up, `time.monotonic()` seconds.
        chain: The calls that have led to it.
        now: What `time.monotonic()` says.

    Raises:
        RemoteError: The other side's code raised.
        WorkerLost: The other side died; the call may have been carried out.
        DeadlineExceeded: No outcome in time; the call may have been carried out.
        Cancelled: Whoever waits for what this thread is doing waits no longer.
        CalleeGone, LocalProtocolError, ServiceUnavailable, RemoteProtocolError: As `begin`.
    """
    number, has_left = begin(line, what, arguments, keywords, deadline, chain, now)
    exported = take_exported(line) if line.exported else None
    waiting = line.waiting
    waiting[number] = line.peer
    try:
        if not has_left:
            _finish(line, number, what, deadline)
        # Nearly always the next thing that comes is the answer, and soon.
        soon = now + PATIENCE_S
        word = next_word(line, number, min(deadline, soon))
        if word is not None and word[1] == VALUE and what[3] is None:
            return word[2]
        made = Made(line, number, what, deadline)
        if word is None:
            made.attend(deadline, partial(contains, line.early, number))
            word = line.early.pop(number)
        if word[1] == STREAM:
            functions, exported = exported, None  # they hold as long as the stream
            return _stream(made, word, functions or ())
        return _value(made, word)
    except PeerGone:
        raise line.death(deadline) from None
    except Exception:
        raise
    except BaseException:  # what a signal's handler raises here, where nobody else's code runs
        line.forget(number)
        raise
    finally:
        waiting.pop(number, None)
        if line.told:
            settle(line, number)
        if exported:
            release(line, exported)


def _finish(line: "Line", number: int, what: What, deadline: float) -> None:
    """Wait until all of a call has left."""
    try:
        finish(line, deadline)
    except TimeoutError:  # caught here: what the other side's code raised may be one, too
        raise Made(line, number, what, deadline).late() from None


def _explained(
    line: "Line", arguments: Sequence[object], keywords: Mapping[str, object]
) -> str | None:
    """Say which argument cannot travel, and why; functions can."""
    from protocol.callbacks import needs_loop  # noqa: PLC0415 - which needs this module

    def turn(value: object) -> object:
        if callable(value) and not isinstance(value, type):
            needs_loop(line, value)
            return None
        return default(value)

    return explain_arguments(arguments, keywords, turn)


def _value(made: Made, word: list[Any]) -> Any:  # noqa: ANN401 - whatever the other side gives
    if word[1] == ERROR:
        raise made.error(word)
    return made.value(word[2])


def _stream(made: Made, word: list[Any], functions: Sequence[str]) -> Stream:
    pending = made.line.pending
    inbox = pending[made.number] = Inbox(made, functions)
    for later in word[BEGIN:]:
        if inbox.feed(later):
            del pending[made.number]
    return Stream(inbox)


def take_exported(line: "Line") -> list[str]:
    """Take the functions that have just gone out as arguments."""
    exported, line.exported = line.exported, []
    return exported


def release(line: "Line", exported: Sequence[str]) -> None:
    """Have functions called no more: the call is over that they went with."""
    for number in exported:
        line.functions.pop(number, None)
