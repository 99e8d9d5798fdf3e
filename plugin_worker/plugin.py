"""The base class of every plugin."""

from plugin_worker.context import PluginContext
from protocol.events import PluginEvent
from protocol.plugin import PluginMetadata


class Plugin:
    """One plugin; made once in a worker of its own. Override what you need.

    Its hooks, handlers and callbacks never run at the same time.
    """

    __hidden__ = frozenset({"metadata", "on_event", "on_load", "on_unload"})
    """What is for the host alone, where a plugin offers itself as a service."""

    def metadata(self) -> PluginMetadata | None:
        """Say who the plugin is; None leaves it to `plugin.toml`, which it must not contradict."""
        return None

    def on_load(self, ctx: PluginContext) -> None:
        """Register services and subscribe; what the plugin depends on is ready already."""

    def on_unload(self, ctx: PluginContext) -> None:
        """Leave; services and subscriptions go by themselves."""

    def on_event(self, event: PluginEvent, ctx: PluginContext) -> None:
        """Take in an event. Only a plugin that overrides this is subscribed.

        To the manifest's `events`, or to everything.
        """
