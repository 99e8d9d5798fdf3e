"""A plugin that tries what it is told to try, as an attacker would who can run any code."""

from typing import Any

from plugin_worker import Plugin, PluginContext


class Service:
    """Runs code."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def attempt(self, code: str) -> Any:  # noqa: ANN401 - whatever the code answers
        """Run code; give the value of `answer`, or how it raised."""
        scope: dict[str, Any] = {"ctx": self._ctx, "answer": None}
        try:
            exec(code, scope)
        except Exception as error:  # noqa: BLE001 - that is what the test asks for
            return {"raised": type(error).__name__, "errno": getattr(error, "errno", None)}
        return scope["answer"]


class Snoop(Plugin):
    """Offers to run code."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("snoop", Service(ctx))
