"""Does what may be done once, and writes down that it did."""

from collections.abc import Iterator

from plugin_worker import Plugin, PluginContext, PluginEvent


class Service:
    """Its deeds outlive it: they stand in a file."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def do(self, number: int) -> int:
        """Do it, and tell everybody."""
        with (self._ctx.data_dir / "done").open("a") as file:
            file.write(f"{number}\n")
        self._ctx.event_bus.publish(PluginEvent.custom("Tried.done", number))
        return number

    def count(self, last: int) -> Iterator[int]:
        """Give the numbers up to one."""
        yield from range(1, last + 1)


class Back(Plugin):
    """Offers `back`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("back", Service(ctx))

    def on_unload(self, ctx: PluginContext) -> None:
        """Leave a trace."""
        (ctx.data_dir / "left").touch()
