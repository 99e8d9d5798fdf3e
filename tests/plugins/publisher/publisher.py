"""A plugin that publishes what it is told to."""

from plugin_worker import Plugin, PluginContext, PluginEvent, SpiralHostError


class Service:
    """Puts events on the bus."""

    def __init__(self, ctx: PluginContext) -> None:
        self._bus = ctx.event_bus

    def say(self, event_type: str, value: object) -> None:
        """Publish one event."""
        self._bus.publish(PluginEvent.custom(event_type, value))

    def count(self, event_type: str, first: int, last: int) -> None:
        """Publish the numbers from first to last."""
        for number in range(first, last + 1):
            self._bus.publish(PluginEvent.custom(event_type, number))

    def pretend(self) -> list[str]:
        """Try to publish what only the daemon may; give the kinds of error."""
        kinds = []
        for event in (
            PluginEvent.SystemInit(),
            PluginEvent.SystemShutdown(),
            PluginEvent.PluginLoaded("publisher"),
            PluginEvent.PluginUnloaded("publisher"),
            PluginEvent.EventGap("Telemetry", 1, 2),
        ):
            try:
                self._bus.publish(event)
            except SpiralHostError as error:
                kinds.append(type(error).__name__)
        return kinds


class Publisher(Plugin):
    """Offers its voice."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("publisher", Service(ctx))
