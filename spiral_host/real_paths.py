"""Find out where the paths of permissions lead, and refuse those that no plugin gets.

A path is followed each time it is compared: what was a folder yesterday may be a link today.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from protocol.errors import UsageError
from protocol.messages import PluginSource
from protocol.names import shown
from protocol.permissions import NOTHING, Permissions, is_within, join
from spiral_host.config import OPERATOR_FILES, DaemonConfig, ways
from spiral_host.patience import Patience

MAX_PATHS: Final = 64 << 10
"""Characters of all paths of one manifest or grant, as they are written and as they lead."""

_SYSTEM: Final = ("/proc", "/sys", "/dev")
"""What shows or changes other processes and the machine. What a plugin needs of it, its
confinement gives to everybody."""


OPEN: Final = ("/usr", "/lib", "/lib32", "/lib64", "/sys/devices")
"""Folders that every plugin may read, besides those of the interpreter and its libraries."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Permissions whose paths have been followed.

    Attributes:
        permissions: Without the paths that were refused; as they are written while that is unknown.
        refused: Those, each with the reason.
        leads: Where paths lead that are not what they seem, by what was asked for.
        unknown: The paths of which nobody knows yet where they lead, each with the reason.
    """

    permissions: Permissions
    refused: tuple[str, ...] = ()
    leads: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grounds:
    """The host's own folders, in which no plugin has any business but in its own.

    Attributes:
        data: Holds one folder for each plugin's data.
        others: All other folders of the host.
        files: The operator's, which may be links to elsewhere.
    """

    data: Path
    others: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    _patience: Patience[Followed] = field(default_factory=Patience)

    @classmethod
    def of(cls, config: DaemonConfig) -> "Grounds":
        """Say which they are for one daemon."""
        files = tuple(config.operator_dir / name for name in OPERATOR_FILES)
        return cls(config.data, (config.run_dir, config.operator_dir), files)

    def check(self) -> None:
        """Make sure that not every plugin can read them.

        Raises:
            UsageError: One of them lies where every plugin may read; the text says which.
        """
        libraries = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
        open_ = {os.path.realpath(path) for path in (*OPEN, sys.base_prefix, *libraries)}
        for folder in (*self.others, self.data):
            for path in sorted(open_):
                if is_within(os.path.realpath(folder), path):
                    why = f"every plugin may read what lies in {path}"
                    raise UsageError(f"{folder} cannot be a folder of the host's: {why}")

    def objection(self, source: PluginSource) -> str:
        """Say why a plugin may not read its own code where that lies, or nothing."""
        if not source.root:
            return ""
        is_file = source.entry.endswith(".py")
        code = os.path.join(source.root, source.entry) if is_file else source.root  # noqa: PTH118
        why = _nearness(code, map(os.path.realpath, (self.data, *self.others)))
        return why and f"code {code}: {why}"

    def follow(self, permissions: Permissions, plugin_id: str = "") -> Followed:
        """Follow the paths of what is asked for, or granted; they may lead to a disk of somebody's.

        Whoever wrote them, nothing is raised: what cannot be followed is refused.

        Args:
            plugin_id: Whose own data folder is no secret to it.
        """
        if not permissions.read and not permissions.write:
            return Followed(join(NOTHING, permissions))
        if _length(permissions) > MAX_PATHS:
            return _refused(permissions, _TOO_LONG)
        try:
            found = self._patience.do(
                plugin_id, permissions, lambda: self._follow(permissions, plugin_id)
            )
        except TimeoutError:
            return Followed(permissions, unknown=_each(permissions, "its disk does not answer"))
        except Exception as error:  # noqa: BLE001 - a manifest must not end its host
            return _refused(permissions, f"it cannot be followed: {type(error).__name__}")
        if _length(found.permissions) > MAX_PATHS:
            return _refused(permissions, _TOO_LONG)
        return found

    def _follow(self, permissions: Permissions, plugin_id: str) -> Followed:
        own = _inside(str(self.data), plugin_id) if plugin_id else ""
        forbidden = [os.path.realpath(path) for path in (self.data, *self.others)]
        forbidden += [str(name) for file in self.files for name in ways(file)]
        refused: list[str] = []
        leads: dict[str, str] = {}

        def followed(word: str, paths: Iterable[str]) -> tuple[str, ...]:
            real = []
            for path in paths:
                found, why = _follow(path)
                why = why or _unfit(found, forbidden, own)
                if why:
                    refused.append(f"{word} {path}: {why}")
                    continue
                real.append(found)
                if found != path:
                    leads[path] = found
            return tuple(real)

        plain = replace(
            permissions,
            read=followed("read", permissions.read),
            write=followed("write", permissions.write),
        )
        # Joining sorts them, and drops those that lie in others.
        return Followed(join(NOTHING, plain), tuple(refused), leads)


_TOO_LONG: Final = f"all paths together have more than {MAX_PATHS} characters"


def _length(permissions: Permissions) -> int:
    return sum(map(len, (*permissions.read, *permissions.write)))


def _refused(permissions: Permissions, why: str) -> Followed:
    """Refuse every path: nobody knows which of them it is."""
    return Followed(replace(permissions, read=(), write=()), _each(permissions, why))


def _each(permissions: Permissions, why: str) -> tuple[str, ...]:
    lists = (("read", permissions.read), ("write", permissions.write))
    return tuple(f"{word} {path}: {why}" for word, paths in lists for path in paths)


def _follow(path: str) -> tuple[str, str]:
    """Give where a path leads, and why it cannot be granted, or nothing."""
    whole = os.path.expanduser(path)  # noqa: PTH111 - text
    if not whole.startswith("/"):
        return "", "nobody knows our home folder"
    try:
        found = _asked_of_kernel(whole)
    except FileNotFoundError:
        return "", "it does not exist"
    except (OSError, ValueError) as error:
        return "", getattr(error, "strerror", None) or "it is no path"
    if not found.startswith("/"):
        return "", "it is no path"
    if not found.isprintable():
        return "", f"it leads to {shown(found)}, which cannot be shown"
    return found, ""


def _asked_of_kernel(path: str) -> str:
    """Give where a path leads: in one go, and behind 40 links at most."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - text
        if not os.path.samestat(os.fstat(fd), os.stat(found)):  # noqa: PTH116 - text
            raise FileNotFoundError  # removed, or renamed, just now
    finally:
        os.close(fd)
    return found


def _unfit(path: str, forbidden: Sequence[str], own: str) -> str:
    """Say why a folder is never granted, or nothing."""
    if path == "/":
        return "it is everything"
    if any(is_within(path, system) for system in _SYSTEM):
        return "it is the machine's own"
    if own and is_within(path, own):
        return ""
    return _nearness(path, forbidden)


def _nearness(path: str, forbidden: Iterable[str]) -> str:
    """Say in which of the host's own folders a path lies, or which lies in it, or nothing."""
    for folder in forbidden:
        if is_within(path, folder):
            return f"it lies in a folder of the host's own, {folder}"
        if is_within(folder, path):
            return f"a folder of the host's own lies in it, {folder}"
    return ""


def _inside(folder: str, name: str) -> str:
    return os.path.realpath(os.path.join(folder, name))  # noqa: PTH118 - text
