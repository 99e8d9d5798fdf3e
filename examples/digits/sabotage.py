"""Crash one plugin on purpose and watch what becomes of it. Judges, prints and repairs nothing."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from services import PATIENCE, Saboteur

from spiral_host import Host, PluginInfo, WorkerLost

CULPRIT = "saboteur"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What the caller of a crashing plugin saw."""

    error: str
    pid_before: int
    pid_after: int
    answering_after: float
    """From the call that crashed to the next one that was answered, seconds."""


def crash_saboteur(host: Host) -> Crash:
    """Make the saboteur die of SIGSEGV, then call it again once the host has restarted it.

    Raises:
        RuntimeError: It survived.
        SpiralHostError: It died, but not as `WorkerLost`, or it did not come back in time.
    """
    saboteur: Saboteur = host.wait_service("saboteur", PATIENCE)
    before = saboteur.pid()
    started = time.monotonic()
    try:
        saboteur.read_null()
    except WorkerLost as lost:
        error = str(lost)
    else:
        message = "the saboteur read from address zero and lived"
        raise RuntimeError(message)
    saboteur = host.wait_service("saboteur", PATIENCE)
    after = saboteur.pid()
    return Crash(
        error=error,
        pid_before=before,
        pid_after=after,
        answering_after=time.monotonic() - started,
    )


def find_damage(before: Iterable[PluginInfo], after: Iterable[PluginInfo]) -> list[str]:
    """Say what is not as it should be after the crash, one line each; empty when all is well."""
    pids = {plugin.id: plugin.pid for plugin in before}
    complaints = []
    for plugin in after:
        restarts = 1 if plugin.id == CULPRIT else 0
        if plugin.restarts != restarts:
            complaints.append(f"{plugin.id} was restarted {plugin.restarts} times, not {restarts}")
        elif plugin.id != CULPRIT and plugin.pid != pids[plugin.id]:
            complaints.append(f"{plugin.id} has another process than before the crash")
    return complaints
