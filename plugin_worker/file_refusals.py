"""See, from Python's own events, which use of a file the kernel is about to refuse.

What lies under a path that the worker was given is let through by its text alone, in under 1 us.
Anything else is tried: a link may lead back, and the file may not be there at all.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final

_CHANGES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TRIED: Final = os.O_ACCMODE | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH
_UNKNOWN: Final = 0
_HARMLESS: Final = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class _Trial(str):
    """The path of an attempt of ours, which raises the same event."""

    __slots__ = ()


class FileRefusals:
    """What this worker may read and write, as far as the text of a path tells.

    Args:
        read: Folders and files that may be read.
        write: Those that may also be written to.
        deny: Called with `read` or `write` and the path as it would be granted; raises.
    """

    def __init__(
        self, read: Iterable[str], write: Iterable[str], deny: Callable[[str, str], None]
    ) -> None:
        self._writable = _Places(write)
        self._readable = _Places((*read, *write))
        self._deny = deny
        self._is_away = False
        """Whether the working directory may be outside of what can be written to."""

    def handlers(self) -> Mapping[str, Callable[..., None]]:
        """Give what sees to each event, by its name."""
        return {
            "open": self._opened,
            "os.chdir": self._moved,
            "os.listdir": self._listed,
            "os.scandir": self._listed,
            "os.truncate": lambda path, _: self._used(path, -1, os.O_WRONLY),
            "os.mkdir": lambda path, _, at: self._changed(path, at, is_there=False),
            "os.remove": lambda path, at: self._changed(path, at, is_there=True),
            "os.rmdir": lambda path, at: self._changed(path, at, is_there=True),
            "os.symlink": lambda _, path, at: self._changed(path, at, is_there=False),
            "os.link": lambda _, path, __, at: self._changed(path, at, is_there=False),
            "os.rename": self._renamed,
        }

    def _opened(self, path: object, mode: str | None, flags: int) -> None:
        # `os.open` has no mode, and does not tell which folder its path is relative to.
        self._used(path, _UNKNOWN if mode is None else -1, flags)

    def _used(self, path: object, at: int, flags: int) -> None:
        places = self._writable if flags & _CHANGES else self._readable
        if type(path) is str and path.startswith(places.folders) and ".." not in path:
            return
        text = self._absolute(path, at)
        if text and not places.have(text) and self._is_refused(text, flags):
            self._deny("write" if flags & _CHANGES else "read", os.path.realpath(text))

    def _listed(self, path: object) -> None:
        if path in sys.path:
            return  # an import takes a folder that it may not list for an empty one
        self._used("." if path is None else path, -1, os.O_DIRECTORY)

    def _renamed(self, old: object, new: object, old_at: int, new_at: int) -> None:
        self._changed(old, old_at, is_there=True)
        if old_at == -1 and isinstance(old, str | bytes) and os.path.lexists(old):
            self._changed(new, new_at, is_there=None)

    def _changed(self, path: object, at: int, *, is_there: bool | None) -> None:
        """See to what changes a folder; it fails otherwise where the name is (not) there."""
        text = self._absolute(path, at)
        if not text or self._writable.have(text):
            return
        if is_there in {None, os.path.lexists(text)} and self._cannot_change(text):
            self._deny("write", os.path.realpath(text))

    def _is_refused(self, path: str, flags: int) -> bool:
        """Open it in the same way, but make and cut short nothing."""
        try:
            os.close(os.open(_Trial(path), flags & _TRIED | _HARMLESS))
        except FileNotFoundError:
            return bool(flags & os.O_CREAT) and self._cannot_change(path)
        except OSError as error:
            return error.errno == errno.EACCES
        return False

    def _moved(self, path: object) -> None:
        if not isinstance(path, str) or ".." in path or path.startswith("/"):
            self._is_away = not isinstance(path, str) or not self._writable.have(path)

    def _absolute(self, path: object, at: int) -> str:
        """Give a whole path as text; nothing for what the kernel may judge alone.

        That is a descriptor, what is relative to one, and what is below a working directory that
        can be written to: it costs much to ask where that is, when it is deep.

        Args:
            path: As the event has it.
            at: The descriptor that a relative path begins at; -1 for the working directory.
        """
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str) or type(path) is _Trial or "\0" in path:
            return ""
        if path.startswith("/"):
            return path
        if at >= 0 or not (self._is_away or ".." in path):
            return ""
        try:
            return f"{os.getcwd()}/{path}"  # noqa: PTH109
        except OSError:
            return ""  # the folder is gone: whatever is tried fails by itself

    def _cannot_change(self, path: str) -> bool:
        folder = os.path.dirname(path.rstrip("/"))  # noqa: PTH120 - texts all the way
        is_folder = os.path.isdir(folder)  # noqa: PTH112
        return is_folder and not self._writable.have(os.path.realpath(folder))


class _Places:
    """Folders and files, to be compared with texts."""

    def __init__(self, paths: Iterable[str]) -> None:
        plain = {path.rstrip("/") for path in paths}
        self._exactly = frozenset(plain)
        self.folders = tuple(f"{path}/" for path in plain)

    def have(self, path: str) -> bool:
        """Say whether it is one of them, or lies in one, whatever links are in it."""
        return ".." not in path and (path in self._exactly or path.startswith(self.folders))
