"""Publishes as fast as it can, or once."""

import time

from plugin_worker import Plugin, PluginContext, PluginEvent


class Press:
    """Publishes on request."""

    def __init__(self, ctx: PluginContext) -> None:
        self._publish = ctx.event_bus.publish

    def print_many(self, count: int) -> float:
        """Publish so many events; give the machine's monotonic time before the first."""
        publish, began = self._publish, time.monotonic()
        for number in range(count):
            publish(PluginEvent.EpochEnd(epoch=number, loss=0.5))
        return began


class Publisher(Plugin):
    """Offers `press`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("press", Press(ctx))
