"""Calls and hears `back`, and says what came of it."""

from plugin_worker import Plugin, PluginContext, PluginEvent, SpiralHostError

PATIENCE_S = 8.0
"""For one call: what is killed on its way is there again in less."""


class Service:
    """Whatever an attempt leads to is an outcome: `value` and it, or an error's name and text."""

    def __init__(self, ctx: PluginContext) -> None:
        self._back = ctx.wait_service("back", PATIENCE_S)
        self._heard: list[int] = []
        ctx.subscribe("Tried.*", self._hear)

    def ask(self, number: int) -> list[object]:
        """Have `back` do something that it may do once."""
        try:
            return ["value", self._back.do(number)]
        except SpiralHostError as error:
            return [type(error).__name__, str(error)]

    def count(self, last: int) -> list[object]:
        """Read a stream of `back`."""
        try:
            return ["value", list(self._back.count(last))]
        except SpiralHostError as error:
            return [type(error).__name__, str(error)]

    def heard(self) -> list[int]:
        """Give the numbers whose events came."""
        return self._heard

    def _hear(self, event: PluginEvent) -> None:
        if not isinstance(event, PluginEvent.EventGap):
            self._heard.append(event.data)  # type: ignore[attr-defined]


class Front(Plugin):
    """Offers `front`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("front", Service(ctx))
