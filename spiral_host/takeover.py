"""Decide what is still to be done of what an earlier daemon knew: its orders, and ends that nobody
may have counted. No I/O, no clock.
"""

from dataclasses import dataclass

from spiral_host.registry import Plugin


@dataclass(frozen=True, slots=True)
class Restarting:
    """A plugin's life that an earlier daemon was told to end and begin anew.

    Attributes:
        incarnation: That life, or 0 when the plugin had no worker.
        counted: The last life whose end had been counted then.
    """

    incarnation: int
    counted: int

    def is_due(self, plugin: Plugin) -> bool:
        """Say whether that has not been done yet."""
        if self.incarnation:
            return plugin.incarnation == self.incarnation
        return not plugin.lifecycle.has_worker and plugin.lifecycle.counted == self.counted


def is_uncounted(plugin: Plugin, life: int, epoch: int, order: Restarting | None) -> bool:
    """Say whether a life of a plugin that is over ended by itself while no daemon was there.

    Args:
        epoch: Our own; lives of it have their end counted as it is told.
        order: What earlier daemons were told to restart of it.
    """
    is_early = life >> 32 < epoch
    was_asked = life == plugin.lifecycle.asked or (order is not None and order.incarnation == life)
    is_counted = life <= plugin.lifecycle.counted
    return is_early and not (plugin.leaving or was_asked or is_counted)
