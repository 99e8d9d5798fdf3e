"""A plugin that can be held in a call until its process is killed; copied under many ids."""

import time
from pathlib import Path

from plugin_worker import Plugin, PluginContext


class Hold:
    """Keeps its caller waiting."""

    def hold(self) -> None:
        """Return long after anybody is interested."""
        time.sleep(60)

    def ping(self) -> int:
        """Answer."""
        return 1


class Victim(Plugin):
    """Offers `hold.ID`; its folder is named by its id."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(f"hold.{Path(__file__).parent.name}", Hold())
