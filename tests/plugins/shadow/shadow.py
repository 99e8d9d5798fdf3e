"""A plugin whose folder holds modules by the names of others, as an attacker's would."""

import json
import os
import sys
from pathlib import Path

import msgpack

from plugin_worker import Plugin, PluginContext

try:
    os.close(os.open("/etc/passwd", os.O_RDONLY))
except OSError as error:
    AT_IMPORT = type(error).__name__
else:
    AT_IMPORT = "it could be opened"


class Service:
    """Tells what it has seen."""

    def seen(self) -> tuple[str, list[str], list[str]]:
        """Say what became of a file of the host's, which modules are ours, and which ran."""
        here = str(Path(__file__).parent)
        modules = (json, msgpack, sys.modules.get("sitecustomize"))
        ours = [str(module) for module in modules if here in str(module)]
        return AT_IMPORT, ours, sorted(path.name for path in Path.home().glob("ran.*"))


class Shadow(Plugin):
    """Offers what it has seen."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("shadow", Service())
