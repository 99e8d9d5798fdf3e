"""Keep what the operator has granted: `grants.toml`, beside `spiral.toml`. Decides nothing.

    ["greeter"]
    manifest = "sha256:..."
    version = "1.0.0"
    when = "2026-01-31T12:00:00Z"
    ["greeter".permissions]
    network = [443]

The daemon writes it, whole or not at all; people may edit it, and several daemons share it. From a
file that cannot be read, that is somebody else's or that others may write, nothing is granted.
"""

import fcntl
import json
import os
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

from protocol.errors import UsageError
from protocol.names import parse_plugin_id, shown
from protocol.permissions import parse_permissions
from spiral_host.config import GRANTS
from spiral_host.consent import Grant

MAX_FILE: Final = 4 << 20
"""Bytes: some thousand grants."""

MAX_GRANT: Final = 256 << 10
"""Bytes of one grant: no plugin's may keep the others' from the file."""

MAX_TEXT: Final = 200
"""Characters of a version, a digest, a time."""

_NEW: Final = f".{GRANTS}.new"
_TEXTS: Final = ("manifest", "version", "when")
_HEAD: Final = """\
# What each plugin was granted beside what [everyone] gets. `spiral-host grant` and `revoke` write
# this file anew, so comments are lost. Whoever edits it may take away; what a plugin does not ask
# for it does not get.
"""

Kind: TypeAlias = Callable[[int], bool]
_Stamp = tuple[int, ...]


class Grants:
    """The grants as they lay in the file when it was last looked at.

    Args:
        folder: Holds the file.
    """

    def __init__(self, folder: Path) -> None:
        self.failure = ""
        """Why nothing is granted from the file, and the cure; empty when all is well."""
        self.folder = folder
        self._stamp: _Stamp | None = None
        self._grants: Mapping[str, Grant] = {}

    @property
    def path(self) -> Path:
        """Where they lie."""
        return self.folder / GRANTS

    def of(self, plugin_id: str) -> Grant | None:
        """Give what was granted to a plugin."""
        return self._grants.get(plugin_id)

    def ids(self) -> list[str]:
        """Name the plugins that were granted something."""
        return sorted(self._grants)

    def look(self) -> None:
        """Read the file again if it or its folder is another than it was, or has other rights."""
        try:
            stamp = _stamp(self.path.lstat(), self.folder.stat())
        except OSError:
            stamp = ()  # reading says why
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._grants, self.failure = read(self.folder), ""
        except UsageError as error:
            self._grants, self.failure = {}, str(error)


def _stamp(file: os.stat_result, folder: os.stat_result) -> _Stamp:
    """Give what is another when reading may end otherwise: the folder's rights are judged, too."""
    rights = (file.st_mode, file.st_uid, folder.st_ino, folder.st_mode, folder.st_uid)
    return (file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns, *rights)


# --- reading --------------------------------------------------------------------------------------


def read(folder: Path) -> dict[str, Grant]:
    """Read every grant; none where there is no file.

    Raises:
        UsageError: The file is not to be trusted or cannot be read; the text names the cure.
    """
    path = folder / GRANTS
    try:
        text = _text(folder, path)
        tables = {} if text is None else tomllib.loads(text.decode())
        return {parse_plugin_id(name): _grant(name, table) for name, table in tables.items()}
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        why = f"is no TOML: {error}"
    except UsageError as error:
        why = str(error)
    raise UsageError(f"{path}: {why}; nothing is granted from it until that is mended")


def _text(folder: Path, path: Path) -> bytes | None:
    # NONBLOCK: a fifo must not make us wait for somebody to write to it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        check_rights(file.fileno(), path, stat.S_ISREG, "file")
        check_folder(folder)
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise UsageError(f"has more than {MAX_FILE} bytes")
    return text


def check_folder(folder: Path, owners: Collection[int] = ()) -> None:
    """Make sure that nobody else could put another file in its place."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        check_rights(fd, folder, stat.S_ISDIR, "folder", owners)
    finally:
        os.close(fd)


def check_rights(
    fd: int, path: Path, is_right: Kind, what: str, owners: Collection[int] = ()
) -> None:
    """Make sure that nobody else decides what lies there.

    Args:
        owners: Who may own it besides us.

    Raises:
        UsageError: It is somebody else's, or others may write to it; the text names the cure.
    """
    found = os.fstat(fd)
    if not is_right(found.st_mode):
        raise UsageError(f"is no plain {what}")
    if found.st_uid not in (os.geteuid(), *owners):
        raise UsageError(f"{path} belongs to user {found.st_uid}, not to us ({os.geteuid()})")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"others may write to {path}; say: chmod go-w {path}")


def _grant(name: str, table: object) -> Grant:
    if not isinstance(table, dict) or set(table) != {*_TEXTS, "permissions"}:
        wanted = f"a grant has {', '.join(_TEXTS)} and permissions, nothing else"
        raise UsageError(f"[{shown(name)}]: {wanted}")
    for key in _TEXTS:
        text = table[key]
        if not isinstance(text, str) or not text.isprintable() or len(text) > MAX_TEXT:
            raise UsageError(f"[{shown(name)}]: {key} = {shown(text)} is no short text")
    try:
        permissions = parse_permissions(table["permissions"])
    except UsageError as error:
        raise UsageError(f"[{shown(name)}.permissions]: {error}") from None
    texts = {key: table[key] for key in _TEXTS}
    return Grant(permissions=permissions, **texts)


# --- writing --------------------------------------------------------------------------------------


def change(folder: Path, plugin_id: str, grant: Grant | None) -> None:
    """Write a plugin's grant, or take it away; the others stay as they lie there now.

    It waits for the disk, and for another daemon that is at it.

    Raises:
        UsageError: What lies there is not to be trusted, or cannot be read or written, or the
            grant is too large to be read again.
    """
    path = folder / GRANTS
    if grant is not None:
        _check_size(f"the grant of {plugin_id}", written({plugin_id: grant}), MAX_GRANT)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone_in(folder):
            check_folder(folder)
            grants = read(folder)
            grants.pop(plugin_id, None)
            if grant is not None:
                grants[plugin_id] = grant
            text = written(grants)
            if grant is not None:  # taking away is never refused
                _check_size(str(path), text, MAX_FILE)
            _replace(folder, text.encode())
    except OSError as error:
        where = error.filename or path
        why = f"{where}: {error.strerror or error}"
        raise UsageError(f"{path} cannot be written: {why}; nothing has changed") from None


def _check_size(what: str, text: str, most: int) -> None:
    """Write nothing that could not be read again: everybody would lose what they were granted."""
    if len(text.encode()) > most:
        raise UsageError(f"{what} would have more than {most} bytes; nothing has changed")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        os.fsync(fd)  # the new name, too
    finally:
        os.close(fd)


def _replace(folder: Path, text: bytes) -> None:
    new = folder / _NEW
    new.unlink(missing_ok=True)  # of a daemon that was killed at it
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(new, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / GRANTS)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def written(grants: Mapping[str, Grant]) -> str:
    """Give the file's text."""
    lines = [_HEAD]
    for plugin_id, grant in sorted(grants.items()):
        lines.append(f"[{_value(plugin_id)}]")
        lines += [f"{key} = {_value(getattr(grant, key))}" for key in _TEXTS]
        lines.append(f"[{_value(plugin_id)}.permissions]")
        permissions = grant.permissions.to_wire()
        lines += [f"{word} = {_value(value)}" for word, value in permissions.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: object) -> str:
    """Write what a grant holds: printable text, numbers, flags, lists of these.

    All of that TOML writes as JSON does.
    """
    return json.dumps(value, ensure_ascii=False)
