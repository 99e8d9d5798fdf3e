"""Decide in which order plugins start, and what keeps one from starting. No I/O.

Edges run from a plugin to what it depends on; versions are checked here, chosen nowhere.
"""

from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter

from protocol.errors import UsageError
from protocol.plugin import PluginMetadata
from spiral_host.versions import parse_requirement, parse_version


def problem(
    plugin: PluginMetadata, known: Mapping[str, PluginMetadata], free: Container[str] = ()
) -> str:
    """Say in one line why a plugin cannot start among those that are known, or nothing.

    Args:
        known: Every plugin that is installed, by id; `plugin` may be among them.
        free: What `free_of_circles` gave for these.
    """
    for dependency, requirement in plugin.dependencies.items():
        if dependency not in known:
            return (
                f"depends on {dependency} {requirement}, which is not there; "
                f"load {dependency} first or together with it"
            )
        wrong = _unmet(known[dependency], requirement)
        if wrong:
            return wrong
    cycle = [] if plugin.id in free else cycle_through(plugin.id, known)
    if cycle:
        return f"depends on itself: {' -> '.join(cycle)}; remove one of these dependencies"
    return ""


def _unmet(dependency: PluginMetadata, requirement: str) -> str:
    try:
        if dependency_version_fits(dependency.version, requirement):
            return ""
    except UsageError as error:
        return f"dependency {dependency.id}: {error}"
    return (
        f"needs {dependency.id} {requirement}, but {dependency.version} is there; "
        f"load a version of {dependency.id} that fits"
    )


@lru_cache(maxsize=1024)  # asked again whenever something moves
def dependency_version_fits(version: str, requirement: str) -> bool:
    """Say whether a version meets a requirement.

    Raises:
        UsageError: Either of them cannot be read.
    """
    return parse_version(version) in parse_requirement(requirement)


def cycle_through(plugin_id: str, known: Mapping[str, PluginMetadata]) -> list[str]:
    """Give a way from a plugin back to itself along its dependencies, or nothing."""
    came_from: dict[str, str] = {}
    waiting = [plugin_id]
    while waiting:
        here = waiting.pop()
        for dependency in known[here].dependencies if here in known else ():
            if dependency == plugin_id:
                return _way(plugin_id, here, came_from)
            if dependency not in came_from:
                came_from[dependency] = here
                waiting.append(dependency)
    return []


def free_of_circles(known: Mapping[str, PluginMetadata]) -> set[str]:
    """Give those from which no way along dependencies leads into a circle; linear in their number.

    To look for each of a thousand alone would take a thousand times as long.
    """
    edges = {
        plugin_id: [name for name in metadata.dependencies if name in known]
        for plugin_id, metadata in known.items()
    }
    sorter = TopologicalSorter(edges)
    with suppress(CycleError):  # it goes as far as it can
        sorter.prepare()
    free: set[str] = set()
    while ready := sorter.get_ready():
        free.update(ready)
        sorter.done(*ready)
    return free


def _way(plugin_id: str, last: str, came_from: Mapping[str, str]) -> list[str]:
    way = [plugin_id]
    while last != plugin_id:
        way.insert(1, last)
        last = came_from[last]
    return [plugin_id, *way[1:], plugin_id]


def dependents(plugin_id: str, known: Iterable[PluginMetadata]) -> list[str]:
    """Name the plugins that depend on one directly, in their order."""
    return [plugin.id for plugin in known if plugin_id in plugin.dependencies]
