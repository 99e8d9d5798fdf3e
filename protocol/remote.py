"""Write what a plugin's code raised as text that may travel. Runs in the callee.

Written as Python does, without our own frames and without the host's paths (sources.py). An
exception may lie in every way: it is plugin code that is asked for its message, its notes and
what led to it, so here each is bounded, and what raises in turn is left out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from protocol import sources
from protocol.errors import RemoteError, SpiralHostError, builtin_of, travelling
from protocol.reached import limits_reached

if TYPE_CHECKING:
    from types import TracebackType

MAX_TRACEBACK: Final = 32 * 1024
"""Bytes of a traceback that travel; the end is kept, it says most."""

MAX_TEXT: Final = 4096
"""Characters of a message that travel."""

_FRAMES: Final = 48
"""Frames that are shown of one exception, the first 8 and the last ones; an endless recursion has
a thousand of them."""

_ERRORS: Final = 16
"""Exceptions that are shown of a chain and of a group, and notes of one; all may be endless."""

_LINE: Final = 200
"""Characters of a name or a line of source; generated code has lines of megabytes."""

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"
_CALLED: Final = "\nThe above exception was raised by the call of {}, made here:\n\n"

set_root = sources.set_root


def report(call: str, error: BaseException) -> RemoteError:
    """Give what travels to the caller of `call`, `service.method`, whose handler has raised.

    What a call further in has raised keeps its type and message. Never raises.
    """
    type_name = _guarded(lambda: _type_name(error), "Exception")
    text = _guarded(lambda: _text(error), _UNREADABLE)
    if reached := _guarded(lambda: limits_reached(error), ""):
        text = f"{text}; {reached}" if text else reached
    traceback = _guarded(lambda: _ending("".join(_chain(error))), f"{type_name}: {text}\n")
    return RemoteError(call, type_name, text, traceback, _guarded(lambda: _builtin(error), ""))


_UNREADABLE: Final = "(its message cannot be read)"


def _guarded(read: Callable[[], str], otherwise: str) -> str:
    try:
        return read()
    except BaseException:  # noqa: BLE001 - a plugin's own __str__ may do anything
        return otherwise


def _type_name(error: BaseException) -> str:
    name = error.type_name if isinstance(error, RemoteError) else type(error).__name__
    return travelling(str(name)[:_LINE])


def _text(error: BaseException) -> str:
    text = error.text if isinstance(error, RemoteError) else str(error)
    return sources.without_folders(travelling(str(text)[:MAX_TEXT]))[:MAX_TEXT]


def _builtin(error: BaseException) -> str:
    return str(error.builtin) if isinstance(error, RemoteError) else builtin_of(type(error))


def _ending(text: str) -> str:
    """Keep the last lines, as many as may travel."""
    body = sources.without_folders(travelling(text)).encode()
    if len(body) <= MAX_TRACEBACK:
        return body.decode()
    kept = body[len("...\n") - MAX_TRACEBACK :].decode(errors="ignore")
    return "...\n" + (kept.partition("\n")[2] or kept)


def _chain(error: BaseException) -> Iterator[str]:
    """Write an exception below what led to it."""
    links, seen = [(error, "")], {id(error)}
    while len(links) < _ERRORS:
        later = links[-1][0]
        earlier, said = later.__cause__, _CAUSE
        if earlier is None and not later.__suppress_context__:
            earlier, said = later.__context__, _CONTEXT
        if earlier is None or id(earlier) in seen:
            break
        seen.add(id(earlier))
        links.append((earlier, said))
    for link, said in reversed(links):
        yield from _with_parts(link)
        yield said


def _with_parts(error: BaseException) -> Iterator[str]:
    if isinstance(error, RemoteError) and error.traceback:
        yield f"{str(error.traceback).rstrip()}\n{_CALLED.format(error.call)}"
    yield from _single(error)
    if isinstance(error, BaseExceptionGroup):
        yield from _parts(error.exceptions)


def _parts(errors: Iterable[BaseException]) -> Iterator[str]:
    """Write the exceptions of a group; a group among them is named only, for it may be endless."""
    for number, part in enumerate(tuple(errors)[:_ERRORS], start=1):
        yield f"  +---------------- {number} ----------------\n"
        yield from (f"  | {line}\n" for line in "".join(_single(part)).splitlines())


def _single(error: BaseException) -> Iterator[str]:
    frames = _frames(error.__traceback__)
    if frames:
        yield "Traceback (most recent call last):\n"
        yield from frames
    name = _guarded(lambda: _full_name(error), "Exception")
    text = _guarded(lambda: str(error)[:MAX_TEXT], _UNREADABLE)
    yield f"{name}: {text}\n" if text else f"{name}\n"
    yield _guarded(lambda: "".join(_notes(error)), "")


def _full_name(error: BaseException) -> str:
    kind = type(error)
    if isinstance(error, RemoteError):
        return RemoteError.__name__
    if isinstance(error, SpiralHostError) or kind.__module__ in {"builtins", "__main__"}:
        return kind.__qualname__[:_LINE]
    return f"{kind.__module__}.{kind.__qualname__}"[:_LINE]


def _notes(error: BaseException) -> Iterator[str]:
    notes = getattr(error, "__notes__", None)
    if type(notes) is list:
        yield from (f"{str(note)[:MAX_TEXT]}\n" for note in notes[:_ERRORS])


def _frames(place: "TracebackType | None") -> list[str]:
    found: list[tuple[str, TracebackType]] = []
    while place is not None:
        name = sources.shown_file(place.tb_frame.f_code.co_filename)
        if name:
            found.append((name, place))
        place = place.tb_next
    if len(found) <= _FRAMES:
        return [_frame(*one) for one in found]
    first, last = found[:8], found[8 - _FRAMES :]
    left_out = f"  [{len(found) - _FRAMES} more frames]\n"
    return [*(_frame(*one) for one in first), left_out, *(_frame(*one) for one in last)]


def _frame(name: str, place: "TracebackType") -> str:
    import linecache  # noqa: PLC0415 - only when something is raised

    code, number = place.tb_frame.f_code, place.tb_lineno or 0
    source = linecache.getline(code.co_filename, number, place.tb_frame.f_globals).strip()
    below = f"    {source[:_LINE]}\n" if source else ""
    return f'  File "{name}", line {number}, in {code.co_name[:_LINE]}\n{below}'
