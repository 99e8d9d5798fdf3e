"""Never leaves: `on_unload` does not return, and SIGTERM is ignored."""

import signal
import time

from plugin_worker import Plugin, PluginContext


class Stubborn(Plugin):
    """Has to be killed."""

    def on_load(self, ctx: PluginContext) -> None:
        """Turn a deaf ear."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def on_unload(self, ctx: PluginContext) -> None:
        """Stay."""
        while True:
            time.sleep(60.0)
