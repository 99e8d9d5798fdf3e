"""Tell the operator what plugins are refused: an event, an audit line, the last ones kept.

The first refusal of a kind at once, then counts: what a plugin does a million times is news once.
"""

import time
from collections.abc import Iterable
from typing import Protocol

from protocol.events import PermissionRefused, PluginEvent
from protocol.messages import Denied
from protocol.reactor import Reactor, Timer
from protocol.tally import Counted, Tally
from spiral_host.registry import Registry


class Operators(Protocol):
    """Where it is told."""

    def publish(self, event: PluginEvent) -> None:
        """Put an event of the daemon's own on the bus."""

    def refused(self, plugin_id: str, counted: Counted) -> None:
        """Keep it for operators who look later."""


class Denials:
    """The refusals of every plugin; lives as long as the daemon."""

    def __init__(self, registry: Registry, reactor: Reactor, operators: Operators) -> None:
        self._registry = registry
        self._reactor = reactor
        self._operators = operators
        self._tallies: dict[str, Tally] = {}
        self._timer: Timer | None = None

    def told(self, denied: Denied) -> None:
        """Take in what a node tells of one of its workers."""
        plugin = self._registry.by_incarnation(denied.incarnation)
        if plugin is not None:
            self.note(plugin.id, denied.permission, denied.what, denied.count)

    def note(self, plugin_id: str, permission: str, what: str, count: int = 1) -> None:
        """Count refusals, and tell them if it is time."""
        tally = self._tallies.setdefault(plugin_id, Tally())
        self._tell(plugin_id, tally.note(permission, what, count, time.monotonic()))
        if self._timer is None:
            self._arm()

    def _tell(self, plugin_id: str, told: Iterable[Counted]) -> None:
        for counted in told:
            event = PermissionRefused(plugin_id, counted.permission, counted.what)
            self._operators.publish(event)
            self._operators.refused(plugin_id, counted)

    def _arm(self) -> None:
        due = [tally.deadline for tally in self._tallies.values()]
        soonest = min((when for when in due if when is not None), default=None)
        self._timer = None if soonest is None else self._reactor.call_at(soonest, self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        for plugin_id, tally in tuple(self._tallies.items()):
            self._tell(plugin_id, tally.expire(now))
            if tally.deadline is None:
                del self._tallies[plugin_id]
        self._arm()
