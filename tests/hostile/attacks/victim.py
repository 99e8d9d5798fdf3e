"""A plugin that everybody attacks: it keeps a secret, works, and fails when it is asked to."""

import ctypes

from plugin_worker import Plugin, PluginContext


class Service:
    """Serves whoever calls."""

    def add(self, left: int, right: int) -> int:
        """Work."""
        return left + right

    def fail(self) -> None:
        """Fail, and say so as plugins do."""
        raise ValueError("fail")

    def layout(self) -> int:
        """Say where this process has its C library."""
        return ctypes.cast(ctypes.CDLL(None).system, ctypes.c_void_p).value or 0


class Victim(Plugin):
    """Offers to work."""

    def on_load(self, ctx: PluginContext) -> None:
        """Write down the secret, and offer the service."""
        ctx.register_service("victim", Service())
