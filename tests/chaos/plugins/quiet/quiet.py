"""Answers, and leaves when it is asked to."""

import os

from plugin_worker import Plugin, PluginContext


class Service:
    """Says which process it is."""

    def pid(self) -> int:
        """Give it."""
        return os.getpid()


class Quiet(Plugin):
    """Offers `quiet.ID`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(f"quiet.{ctx.plugin_id}", Service())
