"""How things are, in plain values: what `plugins`, `health` and `status` show."""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Final

from protocol.messages import NodeDetails
from protocol.version import VERSION
from spiral_host.config import GRANTS, DaemonConfig
from spiral_host.registry import Plugin, Registry
from spiral_host.rundir import AUDIT, LOGS, REFUSALS

Row = dict[str, object]

PROFILES: Final = {"standard": "standard", "strict": "strict", "off": "NOT SANDBOXED"}
"""What is in force, for what the operator asked."""

IMPOSSIBLE: Final = "cannot be made (seccomp)"
ENDED: Final = "end with their worker (the node is a subreaper)"
"""What becomes of processes that a plugin starts."""

_FORBIDS_FORKS: Final = frozenset({"seccomp", "no-new-privs"})
"""Layers without which a worker can start processes."""


TRACEBACKS: Final = 256 * 1024
"""Bytes of all tracebacks in one answer, so that no plugin's keeps others from being shown."""


def shortened(rows: list[Row]) -> list[Row]:
    """Leave of each traceback its end, where all of them are too long for one answer."""
    failed = [row for row in rows if row["traceback"]]
    share = TRACEBACKS // max(1, len(failed))
    for row in failed:
        text = str(row["traceback"]).encode(errors="replace")
        if len(text) > share:
            row["traceback"] = "...\n" + text[-share:].decode(errors="ignore")
    return rows


def plugin_row(plugin: Plugin, registry: Registry) -> Row:
    """Say how one plugin is."""
    metadata, figures = plugin.manifest.metadata, plugin.figures
    services = registry.services_of(plugin.incarnation) if plugin.incarnation else []
    ready_for = time.monotonic() - plugin.ready_at if plugin.ready_at and plugin.pid else None
    return {
        "id": metadata.id,
        "version": metadata.version,
        "name": metadata.name,
        "description": metadata.description,
        "author": metadata.author,
        "state": plugin.state.value,
        "reason": plugin.lifecycle.reason,
        "traceback": plugin.lifecycle.traceback,
        "pid": plugin.pid or None,
        "incarnation": plugin.incarnation,
        "restarts": plugin.lifecycle.restarts,
        "capabilities": [str(capability) for capability in metadata.capabilities],
        "dependencies": dict(metadata.dependencies),
        "path": plugin.manifest.path,
        "services": services,
        "calls": figures.calls if figures else 0,
        "errors": figures.errors if figures else 0,
        "lag": figures.lag if figures else 0,
        "missed": figures.missed if figures else 0,
        "memory": figures.memory if figures else None,
        "cpu": figures.cpu_s if figures else None,
        "threads": figures.threads if figures else None,
        "descriptors": figures.descriptors if figures else None,
        "uptime_s": ready_for,
        "sandbox": list(plugin.layers),
        "limits": {name: _limit(said) for name, said in plugin.limits.items()},
    }


def _limit(said: object) -> Row:
    """Give a limit's value, None for none, and what holds it."""
    value, by = said if isinstance(said, list | tuple) and len(said) == 2 else (None, "")
    return {"limit": value, "by": by}


def status_row(
    config: DaemonConfig,
    registry: Registry,
    node: NodeDetails | None,
    started: float,
    alarms: list[str],
) -> Row:
    """Say how the daemon is."""
    states = Counter(plugin.state.value for plugin in registry.plugins.values())
    return {
        "run_dir": str(config.run_dir),
        "data_dir": str(config.data),
        "pid": os.getpid(),
        "node_pid": node.pid if node else None,
        "uptime_s": time.monotonic() - started,
        "protocol": VERSION,
        "plugins": dict(states),
        "sandbox": sandbox_row(config, node),
        "limits_by": node.limits_by if node else "",
        "logs": str(Path(config.run_dir) / LOGS),
        "grants": str(config.operator_dir / GRANTS),
        "audit": str(Path(config.run_dir) / AUDIT),
        "refusals": str(Path(config.run_dir) / REFUSALS),
        "alarms": alarms,
    }


def sandbox_words(asked: str, node: NodeDetails | None) -> str:
    """Say in a few words what confinement is in force."""
    missing = sorted(node.missing) if node and asked != "off" else []
    return PROFILES[asked] + (f", degraded: no {', no '.join(missing)}" if missing else "")


def sandbox_hindrance(config: DaemonConfig, node: NodeDetails) -> str:
    """Say why a node cannot serve under what the operator asks for, or nothing."""
    asked = config.sandbox
    if asked != node.sandbox:
        return (
            f"{asked} was asked for, but the plugins that live were started with {node.sandbox}; "
            f"say --sandbox {node.sandbox}, or stop them first"
        )
    if asked != "off" and not config.best_effort and node.missing:
        missing = "; ".join(f"{layer}: {why}" for layer, why in sorted(node.missing.items()))
        cure = "or say --best-effort to run with what there is"
        return f"layers are missing: {missing}; {cure}"
    return ""


def sandbox_row(config: DaemonConfig, node: NodeDetails | None) -> Row:
    """Say what confinement was asked for and what this machine lacks of it."""
    asked = config.sandbox
    missing = dict(node.missing) if node else {}
    can_fork = asked == "off" or not missing.keys().isdisjoint(_FORBIDS_FORKS)
    return {
        "best_effort": bool(config.best_effort),
        "profile": PROFILES[asked],
        "degraded": sorted(missing) if asked != "off" else [],
        "missing": [f"{layer}: {why}" for layer, why in sorted(missing.items())],
        "grandchildren": ENDED if can_fork else IMPOSSIBLE,
    }
