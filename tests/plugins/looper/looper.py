"""A plugin that dies as soon as it lives, again and again."""

import os

from plugin_worker import Plugin, PluginContext


class Looper(Plugin):
    """Never gets ready, unless its folder says that it may."""

    def on_load(self, ctx: PluginContext) -> None:
        """Exit, unless told otherwise."""
        if not (ctx.data_dir / "behave").exists():
            os._exit(7)
