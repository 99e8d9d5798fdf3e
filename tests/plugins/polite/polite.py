"""A plugin that answers what it is asked and leaves when it is told."""

import os
import time

from plugin_worker import Plugin, PluginContext


class Service:
    """Values in, values out."""

    def echo(self, value: object) -> object:
        """Give back what came."""
        return value

    def add(self, first: int, second: int) -> int:
        """Add."""
        return first + second

    def fail(self, text: str) -> None:
        """Raise what a plugin may raise."""
        raise ValueError(text)

    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()


class Polite(Plugin):
    """Leaves a note of when it left."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("polite", Service())

    def on_unload(self, ctx: PluginContext) -> None:
        """Leave a note; the folder outlives the worker."""
        (ctx.data_dir / "left").write_text(str(time.monotonic_ns()))
