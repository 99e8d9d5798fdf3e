"""Adds in a coroutine, so that its worker runs an event loop."""

from plugin_worker import Plugin, PluginContext


class Arithmetic:
    """Takes plain values."""

    async def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b


class AsyncAdder(Plugin):
    """Offers `async_adder`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("async_adder", Arithmetic())
