"""A plugin that takes a call and never comes back."""

import threading

from plugin_worker import Plugin, PluginContext


class Service:
    """Hangs."""

    def hang(self) -> None:
        """Wait for ever."""
        threading.Event().wait()


class Hanger(Plugin):
    """Offers to hang."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("hanger", Service())
