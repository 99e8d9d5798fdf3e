"""Calls others from the moment it is loaded."""

from typing import TYPE_CHECKING

from plugin_worker import Plugin, PluginContext

if TYPE_CHECKING:
    from tests.chaos.calls.load import Load, Plan
    from tests.chaos.calls.records import Log
else:
    from load import Load, Plan  # the test puts them beside this file
    from records import Log


class Caller(Plugin):
    """Offers its load as `load.ID`: `made` and `stop`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Begin."""
        self._log = Log(ctx.data_dir, ctx.plugin_id)
        self._load = Load(ctx, self._log, Plan.beside(__file__))
        ctx.register_service(f"load.{ctx.plugin_id}", self._load)

    def on_unload(self, ctx: PluginContext) -> None:
        """End with every outcome in the log."""
        self._load.stop()
        self._log.left()
