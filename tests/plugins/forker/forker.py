"""A plugin that starts processes, in every way in which they might outlive it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

from plugin_worker import Plugin, PluginContext

MARK = "SPIRAL_HOST_TEST_MARK"


class Service:
    """Starts processes that carry a mark in their environment and sleep for ever."""

    def child(self, mark: str) -> None:
        """Start one."""
        subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark})

    def daemon(self, mark: str) -> None:
        """Start one that has left: its parent has ended, and its session is its own."""
        _forked(lambda told: _forked(lambda _: _stay(mark, told), new_session=True))

    def chain(self, mark: str, length: int) -> None:
        """Start one that has started one, and so on."""
        _forked(lambda told: _link(mark, length, told))

    def runaway(self, fifo: str) -> None:
        """Start one that forks and ends, as does its child, for ever; each holds the fifo."""
        _forked(lambda told: _run_away(fifo, told), new_session=True)

    def hang_up(self) -> None:
        """Close every descriptor, the umbilical too, and go on."""
        os.closerange(3, 1024)
        signal.pause()


def _forked(do: Callable[[int], object], *, new_session: bool = False) -> None:
    """Fork; return once the child, or one of its own, has said that it is there."""
    hear, told = os.pipe()
    if os.fork() == 0:
        os.close(hear)
        if new_session:
            os.setsid()
        do(told)
        os._exit(0)
    os.close(told)
    os.read(hear, 1)
    os.close(hear)


def _stay(mark: str, told: int) -> None:
    """Sleep, and say so when the mark is there to be seen: what is executed brings it along."""
    os.dup2(told, 1)
    os.execve("/bin/sh", ["sh", "-c", "echo; exec sleep 600"], {MARK: mark})


def _link(mark: str, length: int, told: int) -> None:
    if length > 1 and os.fork() == 0:
        _link(mark, length - 1, told)
    if length == 1:
        _stay(mark, told)
    os.execve("/bin/sleep", ["sleep", "600"], {MARK: mark})


def _run_away(fifo: str, told: int) -> None:
    os.open(fifo, os.O_WRONLY)
    os.write(told, b"x")
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.002)


class Forker(Plugin):
    """Offers to start processes."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("forker", Service())
