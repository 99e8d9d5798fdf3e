"""A plugin that dies when it is told to, in the way it is told to."""

import ctypes
import os
import threading

from plugin_worker import Plugin, PluginContext, PluginEvent


class Service:
    """Ways to die."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def segfault(self) -> None:
        """Touch memory that is nobody's."""
        ctypes.string_at(0)

    def leave(self, status: int) -> None:
        """Exit without a word."""
        os._exit(status)

    def signal(self, number: int) -> None:
        """Signal itself."""
        os.kill(os.getpid(), number)

    def hold(self) -> None:
        """Say that a call is under way, and never answer it."""
        self._ctx.event_bus.publish(PluginEvent.custom("Holding", os.getpid()))
        threading.Event().wait()

    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()


class Crasher(Plugin):
    """Offers its death."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("crasher", Service(ctx))
