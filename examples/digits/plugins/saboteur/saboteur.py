"""Die on request, as a plugin with a bug in its native code would. Pretends nothing."""

import ctypes
import os

from plugin_worker import Plugin, PluginContext


class SaboteurService:
    """Behaves until told otherwise."""

    def pid(self) -> int:
        """Return the process that answers; a restart changes it."""
        return os.getpid()

    def read_null(self) -> bytes:
        """Read from address zero. The kernel answers with SIGSEGV; nobody gets the bytes."""
        return ctypes.string_at(0)


class SaboteurPlugin(Plugin):
    """Offers the service `saboteur`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Look harmless."""
        ctx.register_service("saboteur", SaboteurService())
