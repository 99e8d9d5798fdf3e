"""A plugin that dies in every way there is, while it is loaded or while it is called."""

import faulthandler
import os
import socket
import threading
import time

from plugin_worker import Plugin, PluginContext, PluginEvent

HOW = "how"
"""A file in the data folder; its word says how to die while loading."""


def umbilical() -> int:
    """Find the socket that ties this process to its node."""
    for fd in range(3, 256):
        try:
            end = socket.socket(fileno=fd)
        except OSError:
            continue
        kind = end.type
        end.detach()
        if kind == socket.SOCK_SEQPACKET:
            return fd
    raise FileNotFoundError


class Service:
    """Ways to die."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()

    def say(self, text: str) -> None:
        """Log something."""
        self._ctx.log.info(text)

    def leave(self, status: int) -> None:
        """Exit without a word."""
        os._exit(status)

    def signal(self, number: int) -> None:
        """Signal itself."""
        os.kill(os.getpid(), number)

    def segfault(self) -> None:
        """Touch memory that is nobody's."""
        faulthandler._sigsegv()  # type: ignore[attr-defined]

    def abort(self) -> None:
        """Give up, as C code does when an assertion fails."""
        os.abort()

    def hold(self) -> None:
        """Say that a call is under way, and never answer it."""
        self._ctx.event_bus.publish(PluginEvent.custom("Holding", os.getpid()))
        threading.Event().wait()

    def violate(self) -> None:
        """Say something up the umbilical that is no message."""
        os.write(umbilical(), b"\xff" * 16)
        threading.Event().wait()

    def hang_up(self) -> None:
        """Close the umbilical and stay."""
        end = socket.socket(fileno=umbilical())
        end.shutdown(socket.SHUT_RDWR)
        time.sleep(60)


class Doomed(Plugin):
    """Offers its death."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service, unless a file says how to die instead."""
        file = ctx.data_dir / HOW
        how = file.read_text() if file.exists() else ""
        if how == "raise":
            raise ValueError("no\x1b[2J today")
        if how == "exit":
            os._exit(5)
        if how == "sleep":
            time.sleep(60)
        ctx.subscribe("Tick", lambda _event: None)
        ctx.register_service("doomed", Service(ctx))
