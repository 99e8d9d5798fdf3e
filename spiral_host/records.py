"""What an application is told, as frozen records: plugins, services, the outcome of a load."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from protocol.permissions import Permissions, parse_permissions


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """How one plugin is, at one moment.

    Attributes:
        state: `ready` is a usable plugin; docs/glossary.md has the others.
        reason: Why it is not ready, in one line, or empty; `traceback` is its author's.
        restarts: How often it was started again without anybody asking.
        services: What it offers now.
        calls: Calls of its services that were answered; `errors` those that raised, and callbacks
            for events that did.
        lag: Events that wait for its callbacks; `missed` those for which it was too far behind.
        memory: Resident bytes, None without a process; `cpu` is CPU time, seconds.
        descriptors: How many it has open, by its own word; None before it has been asked.
        uptime_s: Since it became ready.
        sandbox: The layers that confine it; empty is NOT SANDBOXED.
        limits: Those in force: each one's `limit`, None for none, and what it is held `by`.
    """

    id: str
    version: str
    name: str
    description: str
    author: str
    state: str
    reason: str
    traceback: str
    pid: int | None
    incarnation: int
    restarts: int
    capabilities: tuple[str, ...]
    dependencies: Mapping[str, str]
    path: str
    services: tuple[str, ...]
    calls: int
    errors: int
    lag: int
    missed: int
    memory: int | None
    cpu: float | None
    threads: int | None
    descriptors: int | None
    uptime_s: float | None
    sandbox: tuple[str, ...]
    limits: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Give plain values, fit for JSON."""
        return {**asdict(self), "capabilities": list(self.capabilities)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginPermissions:
    """What one plugin asks for, was granted and may do, at one moment.

    Attributes:
        declares: Whether its manifest says what it asks for; if not it gets what everyone gets.
        granted: What everyone gets, and what was granted to this plugin beside that.
        in_force: What it may do; nothing while it may not start.
        lacking: What keeps it from starting until it is granted.
        impossible: What it asks for and no plugin gets, each with the reason.
        leads: Where paths that it asks for lead, when that is somewhere else.
        digest: Of its manifest and of where its paths lead, for `grant`.
        consented: The `version` that the operator granted something to, and `when`; or None.
        refused: What it tried and was not granted, the last first: `permission`, `what`,
            `count`, and `ago_s`, seconds.
    """

    id: str
    version: str
    state: str
    reason: str
    declares: bool
    asked: Permissions
    granted: Permissions
    in_force: Permissions
    lacking: Permissions
    impossible: tuple[str, ...]
    leads: Mapping[str, str]
    digest: str
    consented: Mapping[str, str] | None
    refused: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, object]:
        """Give plain values, fit for JSON."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {
            name: value.to_wire() if isinstance(value, Permissions) else value
            for name, value in values
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInfo:
    """A service that can be called."""

    name: str
    plugin_id: str
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What became of one plugin that was to be loaded.

    Attributes:
        id: None when what lies at `path` is no plugin.
        reason: Why it is not ready, in one line.
    """

    path: str
    id: str | None
    state: str
    reason: str
    traceback: str

    @property
    def ok(self) -> bool:
        """Whether the plugin is usable."""
        return self.state == "ready"


def plugin_info(row: Mapping[str, Any]) -> PluginInfo:
    """Build the record from what the daemon says."""
    values = {one.name: row[one.name] for one in fields(PluginInfo)}
    for name in ("capabilities", "services", "sandbox"):
        values[name] = tuple(values[name])
    return PluginInfo(**values)


def plugin_permissions(row: Mapping[str, Any]) -> PluginPermissions:
    """Build the record from what the daemon says."""
    values = dict(row)
    for name in ("asked", "granted", "in_force", "lacking"):
        values[name] = parse_permissions(values[name])
    for name in ("impossible", "refused"):
        values[name] = tuple(values[name])
    return PluginPermissions(**values)


def load_result(row: Mapping[str, Any]) -> LoadResult:
    """Build the record from what the daemon says."""
    return LoadResult(**row)
