"""Publishes as fast as it can, or now and then."""

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

    def tick(self, count: int, pause_s: float) -> None:
        """Publish so many with silence before each; they say when they were published."""
        for _ in range(count):
            time.sleep(pause_s)
            self._publish(PluginEvent.custom("Tick", time.monotonic()))


class Publisher(Plugin):
    """Offers `press.ID`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(f"press.{ctx.plugin_id}", Press(ctx))
