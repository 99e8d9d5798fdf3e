"""Say which of its own limits a plugin has reached, where the kernel only gives an errno.

Runs in the worker, when its code has raised. It is a guess from the error's kind: a plugin may
raise MemoryError for reasons of its own.
"""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from protocol.limits import DEFAULTS, Limits, size_text

if TYPE_CHECKING:
    from types import TracebackType

_BY_ERRNO: Final[Mapping[int, str]] = {
    errno.EMFILE: "files",
    errno.EFBIG: "file_size",
    errno.ENOMEM: "memory",
}
_NO_THREAD: Final = "can't start new thread"
_FORKS: Final = frozenset({"fork", "forkpty", "fork_exec", "_fork_exec", "posix_spawn"})
_SIZES: Final = frozenset({"memory", "file_size"})

_limits = DEFAULTS


def set_limits(limits: Limits) -> None:
    """Say what this process may use."""
    global _limits  # noqa: PLW0603 - what a process may use, all of it may
    _limits = limits


def limits_reached(error: BaseException) -> str:
    """Name the limits that an error comes of, with their values; empty if it is none of them."""
    words = _words(error)
    if not words:
        return ""
    named = ", ".join(f"{word} = {_value(word)}" for word in words)
    return f"limit {named} ([limits] of the manifest, capped by the operator)"


def _words(error: BaseException) -> tuple[str, ...]:
    if isinstance(error, MemoryError):
        return ("memory",)
    if isinstance(error, RuntimeError) and error.args[:1] == (_NO_THREAD,):
        return ("threads", "memory")  # the kernel says the same where its stack finds no room
    if not isinstance(error, OSError):
        return ()
    if error.errno == errno.EAGAIN and _has_forked(error.__traceback__):
        return ("processes", "threads")
    word = _BY_ERRNO.get(error.errno or 0)
    return (word,) if word else ()


def _has_forked(place: "TracebackType | None") -> bool:
    """Say whether the code that raised is some that forks: EAGAIN means much else."""
    if place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    return not _FORKS.isdisjoint(place.tb_frame.f_code.co_names)


def _value(word: str) -> str:
    value = getattr(_limits, word)
    return size_text(value) if word in _SIZES else str(value)
