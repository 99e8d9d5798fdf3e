"""Decide what is still to be done of what an earlier daemon knew: its orders, and ends that nobody
may have counted. No I/O, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from spiral_host.registry import Plugin


@dataclass(frozen=True, slots=True)
class Restarting:
    """An order to an earlier daemon: end a plugin's life, and have it begin anew.

    Attributes:
        incarnation: That life, or 0 when the plugin had no worker.
        counted: The last life whose end had been counted then.
    """

    plugin_id: str
    incarnation: int
    counted: int

    def is_due(self, plugin: Plugin) -> bool:
        """Say whether it is about this plugin, and has not been carried out yet."""
        if plugin.id != self.plugin_id:
            return False
        if self.incarnation:
            return plugin.incarnation == self.incarnation
        return not plugin.lifecycle.has_worker and plugin.lifecycle.counted == self.counted


def is_uncounted(plugin: Plugin, life: int, epoch: int, orders: Iterable[Restarting]) -> bool:
    """Say whether a life of a plugin that is over ended by itself while no daemon was there.

    Args:
        epoch: Our own; lives of it have their end counted as it is told.
        orders: What earlier daemons were told to restart.
    """
    is_early = life >> 32 < epoch
    was_asked = life in (plugin.lifecycle.asked, *(order.incarnation for order in orders))
    is_counted = life <= plugin.lifecycle.counted
    return is_early and not (plugin.leaving or was_asked or is_counted)
