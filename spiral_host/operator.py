"""Read `spiral.toml`, in which the operator decides for every plugin. Nobody writes it for them.

[sandbox]
profile = "strict"              # standard, strict, off; a command's --sandbox goes first
best_effort = true              # start where a layer is missing, and say what is
[everyone]                      # granted to every plugin, without a grant of its own
services = ["*"]                # as protocol/permissions.py has the words
[limits]                        # the most that any plugin gets, whatever it asks for
memory = "2 GiB"                # as protocol/limits.py has the words
"""

import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from protocol.errors import UsageError
from protocol.limits import NO_CAPS, Limits, parse_limits
from protocol.names import shown
from protocol.permissions import EVERYONE, Permissions, parse_permissions
from spiral_host.config import CHOICES, SANDBOXES, DaemonConfig, ways
from spiral_host.grants import check_folder, check_rights

MAX_FILE: Final = 1 << 20
"""Bytes; people write it."""

_ROOT: Final = 0
_TABLES: Final = ("sandbox", "everyone", "limits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What the operator decided.

    Attributes:
        everyone: What every plugin is granted.
        caps: The most that any plugin gets.
    """

    sandbox: str = "standard"
    best_effort: bool = False
    everyone: Permissions = EVERYONE
    caps: Limits = NO_CAPS

    def fill(self, config: DaemonConfig) -> DaemonConfig:
        """Give what a daemon is told, with the file's choices where it was told nothing.

        Raises:
            UsageError: They cannot be meant together.
        """
        given = config.best_effort
        return replace(
            config,
            sandbox=config.sandbox or self.sandbox,
            best_effort=self.best_effort if given is None else given,
        )


def read_operator(folder: Path) -> Operator:
    """Read the file in a configuration folder; the shipped choices where there is none.

    Raises:
        UsageError: It cannot be read, or says something that cannot be meant; the text names it.
    """
    path = folder / CHOICES
    try:
        return _operator(_tables(path))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            _check(file.fileno(), path)
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise UsageError(f"has more than {MAX_FILE} bytes")
        tables = tomllib.loads(text.decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"is no TOML: {error}") from None
    if unknown := sorted(map(shown, set(tables) - set(_TABLES))):
        raise UsageError(f"unknown table {unknown[0]}; known: {', '.join(_TABLES)}")
    return tables


def _check(fd: int, path: Path) -> None:
    """Make sure that nobody else decides in the operator's name, there or where a link leads to.

    The machine's administrator may.
    """
    check_rights(fd, path, stat.S_ISREG, "file", [_ROOT])
    for name in ways(path):
        check_folder(name.parent, [_ROOT])


def _operator(tables: dict[str, Any]) -> Operator:
    sandbox = tables.get("sandbox", {})
    if not isinstance(sandbox, dict) or set(sandbox) - {"profile", "best_effort"}:
        raise UsageError("[sandbox] holds profile and best_effort, nothing else")
    profile, best_effort = sandbox.get("profile", "standard"), sandbox.get("best_effort", False)
    if profile not in SANDBOXES:
        raise UsageError(f"[sandbox]: no profile {shown(profile)}; choose one of {SANDBOXES}")
    if not isinstance(best_effort, bool):
        raise UsageError("[sandbox]: best_effort is true or false")
    with _reading("everyone"):
        everyone = parse_permissions(tables["everyone"]) if "everyone" in tables else EVERYONE
    with _reading("limits"):
        caps = parse_limits(tables.get("limits", {}), otherwise=NO_CAPS)
    return Operator(sandbox=profile, best_effort=best_effort, everyone=everyone, caps=caps)


@contextmanager
def _reading(table: str) -> Iterator[None]:
    """Say of which table it is that something cannot be meant."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"[{table}]: {error}") from None
