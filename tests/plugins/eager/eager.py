"""A plugin that uses the host before it is ready itself."""

from plugin_worker import Plugin, PluginContext, PluginEvent


class Service:
    """Remembers what `on_load` found, and which events came after it."""

    def __init__(self, found: dict[str, object]) -> None:
        self._found = found
        self.events: list[str] = []

    def found(self) -> dict[str, object]:
        """Give what `on_load` found."""
        return self._found

    def seen(self) -> list[str]:
        """Name the types of the events that came."""
        return self.events


class Eager(Plugin):
    """Calls, publishes, asks and configures while it is being loaded."""

    def on_load(self, ctx: PluginContext) -> None:
        """Use everything."""
        ctx.event_bus.publish(PluginEvent.custom("Early", "from on_load"))
        ctx.set_config("eager.colour", "blue")
        self.service = Service(
            {
                "sum": ctx.get_service("polite").add(20, 22),
                "nobody": ctx.get_service("no_such_service"),
                "services": ctx.list_services(),
                "operators": ctx.find_by_capability("Operators"),
                "colour": ctx.get_config("eager.colour"),
            }
        )
        ctx.register_service("eager", self.service)

    def on_event(self, event: PluginEvent, ctx: PluginContext) -> None:
        """Take note."""
        self.service.events.append(event.type)
