"""The smallest service there is."""

from typing import Any

from plugin_worker import Plugin, PluginContext


class Arithmetic:
    """Takes plain values or arrays."""

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def echo(self, value: Any) -> Any:  # noqa: ANN401 - an array, usually
        """Give back what came."""
        return value


class Adder(Plugin):
    """Offers `adder`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("adder", Arithmetic())
