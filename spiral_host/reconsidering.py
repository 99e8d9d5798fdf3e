"""Decide whose worker has to leave since other permissions hold for its plugin. Stops nothing.

After a grant or a revocation, under a daemon that takes over, or when a disk answers at last.
"""

from typing import Final

from protocol.permissions import missing
from spiral_host.lifecycle import State
from spiral_host.permits import Permits
from spiral_host.registry import Plugin, Registry

DECIDE_AGAIN_S: Final = 1.0
"""Seconds: a disk that spins up takes some, and one that never answers costs each time."""


class Reconsidering:
    """What is in force and what should be; lives as long as the supervisor."""

    def __init__(self, registry: Registry, permits: Permits) -> None:
        self._registry = registry
        self._permits = permits
        self._next: float | None = None
        """When to look again at whom nothing could be decided of."""

    def granted(self, plugin_id: str) -> bool:
        """Take in that another grant holds for a plugin; say whether it has to start anew."""
        before = self._permits.in_force(plugin_id)  # what it was started with last
        self._permits.look_again(plugin_id)
        plugin = self._registry.plugins.get(plugin_id)
        if plugin is None or plugin.leaving:
            return False
        if not (plugin.lifecycle.has_worker or plugin.state is State.QUARANTINED):
            return False  # it is looked at when it is to start
        hindrance = self._permits.decide(plugin.manifest)
        before = plugin.permissions if plugin.lifecycle.has_worker else before
        return bool(hindrance) or before != self._permits.in_force(plugin_id)

    def objects(self, plugin: Plugin) -> bool:
        """Say whether a living worker has to leave: it has more than it would be started with now.

        Not for a disk that does not answer yet, unless it has not loaded: nobody knows then what
        to tell it.
        """
        objection = self._permits.objection(plugin.manifest)
        if plugin.id in self._permits.undecided:
            return plugin.state is State.STARTING
        now = self._permits.in_force(plugin.id)
        return bool(objection) or bool(missing(plugin.permissions, now))

    def deadline(self, now: float) -> float | None:
        """Say when to call `expire`; None while everything is decided."""
        if not self._permits.undecided:
            self._next = None
        elif self._next is None:
            self._next = now + DECIDE_AGAIN_S
        return self._next

    def expire(self, now: float) -> list[str]:
        """Look again at those of whom nothing could be decided; give who has to start anew."""
        if self._next is None or now < self._next:
            return []
        self._next = None
        return [plugin_id for plugin_id in tuple(self._permits.undecided) if self._again(plugin_id)]

    def _again(self, plugin_id: str) -> bool:
        self._permits.look_again(plugin_id)
        plugin = self._registry.plugins.get(plugin_id)
        if plugin is None or plugin.leaving or not plugin.lifecycle.has_worker:
            return False  # others are looked at when they are to start
        return self.objects(plugin)
