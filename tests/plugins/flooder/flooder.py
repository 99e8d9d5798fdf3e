"""A plugin that does too much of everything."""

import sys
import threading

from plugin_worker import Plugin, PluginContext, PluginEvent


class Service:
    """Floods."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._over = threading.Event()

    def start(self, size: int) -> None:
        """Publish and print without end, from a thread of its own."""
        threading.Thread(target=self._flood, args=(size,), daemon=True).start()

    def stop(self) -> None:
        """Flood no more."""
        self._over.set()

    def say(self, size: int) -> None:
        """Print so many bytes, all on one line, and return when they are out."""
        sys.stdout.write("x" * size)
        sys.stdout.flush()

    def _flood(self, size: int) -> None:
        payload = "x" * size
        while not self._over.is_set():
            self._ctx.event_bus.publish(PluginEvent.custom("Flood", payload))
            sys.stdout.write(payload)


class Flooder(Plugin):
    """Floods on demand."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("flooder", Service(ctx))
