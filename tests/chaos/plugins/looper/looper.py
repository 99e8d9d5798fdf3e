"""Dies in each of its lives, and leaves a file of each."""

import os
from uuid import uuid4

from plugin_worker import Plugin, PluginContext


class Looper(Plugin):
    """Never gets ready."""

    def on_load(self, ctx: PluginContext) -> None:
        """Count, and exit."""
        (ctx.data_dir / f"life-{uuid4()}").touch()
        os._exit(7)
