"""A plugin's declaration, read without importing it: `plugin.toml`, or a comment in a `.py` file.

[plugin]                        the same table in a single file, as inline script metadata:
id = "greeter"
version = "1.0.0"               # /// script
entry = "greeter:Greeter"       # [tool.spiral-host]
capabilities = ["Operators"]    # id = "greeter"
events = ["EpochEnd"]           # ...
[plugin.dependencies]           # ///
base = ">=1.0.0"
[supervision]                   # supervision.py has this table; in a single file it is
restart = "transient"           # [tool.spiral-host.supervision]
[permissions]                   # protocol/permissions.py
network = [443]
[limits]                        # protocol/limits.py
memory = "2 GiB"
"""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from protocol.errors import ManifestError, UsageError, travelling
from protocol.limits import DEFAULTS, Limits, parse_limits
from protocol.messages import PluginSource
from protocol.names import parse_pattern, shown
from protocol.permissions import Permissions, parse_permissions
from protocol.plugin import PluginMetadata
from spiral_host.supervision import Supervision, parse_supervision

MANIFEST: Final = "plugin.toml"
MAX_MANIFEST: Final = 256 * 1024
"""Bytes; a manifest is written by hand."""

MAX_CONCURRENCY: Final = 64
"""Threads of one plugin; Python's lock lets them share little more than waiting."""

SANDBOXES: Final = ("standard", "strict")
"""What a manifest may ask for: more than the operator's profile, never less."""

_ENTRY: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z", re.ASCII)
_INLINE: Final = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_TABLES: Final = ("supervision", "permissions", "limits")
_OWN_FIELDS: Final = frozenset({"concurrency", "entry", "events", "reentrant", "sandbox", *_TABLES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One plugin that can be started.

    Attributes:
        path: The folder or file it was read from, for people.
        events: The types that `on_event` is subscribed to when the plugin overrides it; None is all
            that it may be told of.
        concurrency: How many of its handlers may run at the same time, 1 to 64.
        reentrant: Whether calls that its own calls lead to are served while it waits for those.
        supervision: How it is started again, and with whom.
        permissions: All that it asks for; None where it says nothing, and gets what everyone gets.
        limits: How much it asks to use.
        sandbox: The least profile that it may run under.
    """

    metadata: PluginMetadata
    source: PluginSource
    path: str
    events: tuple[str, ...] | None = None
    concurrency: int = 1
    reentrant: bool = True
    supervision: Supervision = Supervision()
    permissions: Permissions | None = None
    limits: Limits = DEFAULTS
    sandbox: str = "standard"

    @property
    def id(self) -> str:
        """The plugin's id."""
        return self.metadata.id


def read_folder(folder: Path) -> Manifest:
    """Read the manifest of a plugin's folder.

    Raises:
        ManifestError: It cannot be read or declares something that cannot be meant.
    """
    path = folder / MANIFEST
    tables = _parse(path, _text(path))
    plugin = tables.get("plugin")
    if not isinstance(plugin, dict):
        raise ManifestError(str(path), "[plugin]", "the table is missing; it names id and version")
    entry = plugin.get("entry")
    if not isinstance(entry, str) or not _ENTRY.match(entry):
        wanted = 'write entry = "module:Class"'
        raise ManifestError(str(path), "entry", f"{shown(entry)} is no entry; {wanted}")
    table = plugin | {name: tables[name] for name in _TABLES if name in tables}
    return _manifest(path, table, PluginSource(root=str(folder), entry=entry))


def read_file(path: Path) -> Manifest | None:
    """Read the manifest in a `.py` file's comments; None when it has none and must be asked.

    Raises:
        ManifestError: There is one, and it declares something that cannot be meant.
    """
    blocks = list(_INLINE.finditer(_text(path)))
    if len(blocks) > 1:
        raise ManifestError(str(path), "# /// script", "there are two such blocks; keep one")
    if not blocks:
        return None
    lines = blocks[0]["content"].splitlines()
    text = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    tools = _parse(path, text).get("tool", {})
    table = tools.get("spiral-host") if isinstance(tools, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict) or "entry" in table:
        raise ManifestError(str(path), "[tool.spiral-host]", "must be a table without an entry")
    return _manifest(path, table, file_source(path))


def file_source(path: Path) -> PluginSource:
    """Say where the code of a single-file plugin lies."""
    return PluginSource(root=str(path.parent), entry=path.name)


def _text(path: Path) -> str:
    if not str(path).isprintable():
        raise ManifestError(travelling(str(path)), "path", "has characters that cannot be shown")
    if path.exists() and not path.is_file():
        # Reading a pipe would wait for ever.
        raise ManifestError(str(path), path.name, "is no file")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_MANIFEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), path.name, f"cannot be read: {error}") from None
    if path.name == MANIFEST and len(text) > MAX_MANIFEST:
        raise ManifestError(str(path), path.name, f"has more than {MAX_MANIFEST} bytes")
    return text


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(str(path), path.name, f"is no TOML: {error}; correct it") from None


def _manifest(path: Path, table: dict[str, Any], source: PluginSource) -> Manifest:
    place = path.parent if path.name == MANIFEST else path
    declared = {key: value for key, value in table.items() if key not in _OWN_FIELDS}
    try:
        metadata = PluginMetadata.from_wire(declared)
        events = _events(table.get("events"))
        concurrency = _concurrency(table.get("concurrency", 1))
        reentrant = _reentrant(table.get("reentrant", True))
    except UsageError as error:
        raise ManifestError(str(path), _field_named(str(error)), str(error)) from None
    asked = table.get("permissions")
    with _reading(path, "supervision"):
        supervision = parse_supervision(table.get("supervision"), metadata.dependencies)
    with _reading(path, "permissions"):
        permissions = None if asked is None else parse_permissions(asked)
    with _reading(path, "limits"):
        limits = parse_limits(table.get("limits", {}))
    with _reading(path, "sandbox"):
        sandbox = _sandbox(table.get("sandbox", "standard"))
    return Manifest(
        metadata=metadata,
        source=source,
        path=str(place),
        events=events,
        concurrency=concurrency,
        reentrant=reentrant,
        supervision=supervision,
        permissions=permissions,
        limits=limits,
        sandbox=sandbox,
    )


@contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """Say of which part of a manifest it is that something cannot be meant."""
    try:
        yield
    except UsageError as error:
        raise ManifestError(str(path), name, str(error)) from None


def _events(declared: object) -> tuple[str, ...] | None:
    if declared is None:
        return None
    if not isinstance(declared, list):
        raise UsageError(f"events: {shown(declared)} is no list of event types")
    return tuple(map(parse_pattern, declared))


def _concurrency(declared: object) -> int:
    if type(declared) is not int or not 1 <= declared <= MAX_CONCURRENCY:
        raise UsageError(f"concurrency: {shown(declared)} is no number from 1 to {MAX_CONCURRENCY}")
    return declared


def _reentrant(declared: object) -> bool:
    if type(declared) is not bool:
        raise UsageError(f"reentrant: {shown(declared)} is neither true nor false")
    return declared


def _sandbox(declared: object) -> str:
    if declared in SANDBOXES:
        return str(declared)
    raise UsageError(f"{shown(declared)}: a plugin may ask for more than standard, never for less")


def _field_named(text: str) -> str:
    words = (
        "plugin id",
        "version",
        "concurrency",
        "capability",
        "event type",
        "dependencies",
        "metadata",
    )
    return next((word for word in words if word in text), "plugin")
