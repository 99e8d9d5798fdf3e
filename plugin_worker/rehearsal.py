"""Go through what every worker does until its plugin is loaded, with nobody at the other end.

What counts is the memory that this writes to: it need not be copied again when a worker is wanted.
Nothing else is left of it, no descriptor above all: one that is closed late closes another's.
"""

import gc
import os
import socket
from contextlib import ExitStack

from plugin_worker.context import PluginContext
from plugin_worker.plugin import Plugin
from plugin_worker.runtime import Runtime
from protocol import failpoints
from protocol.flight import make_page
from protocol.interest import InterestWriter
from protocol.limits import DEFAULTS
from protocol.messages import LoadPlugin, PluginSource
from protocol.permissions import EVERYONE
from protocol.plugin import PluginMetadata


class _Service:
    def ping(self, count: int = 1) -> int:
        """Have a method for which something can be checked."""
        return count


class Understudy(Plugin):
    """A plugin that does what most do when they are loaded."""

    def metadata(self) -> PluginMetadata:
        return PluginMetadata("understudy", "1.0.0")

    def on_load(self, ctx: PluginContext) -> None:
        ctx.register_service("understudy", _Service())


_LOAD = LoadPlugin(
    source=PluginSource(root="", entry=f"{__name__}:{Understudy.__name__}"),
    metadata=Understudy().metadata().to_wire(),
    data_dir="/",
    events=(),
    concurrency=1,
    reentrant=True,
)
_SPEC = {
    "incarnation": 1,
    "plugin_id": "understudy",
    "layers": [],
    "site": [],
    "permissions": EVERYONE.to_wire(),
    "limits": DEFAULTS.to_wire(),
}


def rehearse() -> None:
    """Make a worker, have it say hello and load a plugin, and take it down again."""
    with ExitStack() as undone:
        # The points are a worker's, which this is not yet: nothing is counted, and nothing fails.
        undone.callback(failpoints.ARMED.extend, failpoints.ARMED.copy())
        failpoints.ARMED.clear()
        ours, nobody = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undone.enter_context(nobody)
        flight = make_page("rehearsal")
        undone.callback(os.close, flight)
        interest = InterestWriter()
        undone.callback(interest.close)
        runtime = Runtime(_SPEC, ours, flight, interest.fd)
        undone.callback(runtime.close)
        runtime.greet()
        runtime.load(_LOAD)
    del runtime, interest
    gc.collect()  # their memory maps hold descriptors of their own
