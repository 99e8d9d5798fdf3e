"""A plugin whose loop is kept from turning in every way, inside a call and outside any."""

import ctypes
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from plugin_worker import Plugin, PluginContext
from protocol.turn import CURRENT, NOBODY

SOON_S = 0.05


class Service:
    """Is busy, or stuck."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def sleep(self, seconds: float) -> None:
        """Sleep inside a call, also beyond its deadline."""
        time.sleep(seconds)

    def sleep_until(self, sign: str) -> None:
        """Sleep inside a call until a file is there."""
        while not Path(sign).exists():
            time.sleep(0.01)

    async def sleep_badly(self, seconds: float) -> None:
        """Sleep where only `await` belongs."""
        time.sleep(seconds)  # noqa: ASYNC251 - that is what is wrong with it

    def busy(self, seconds: float) -> None:
        """Say from another thread that it is busy from now on."""
        thread = threading.Thread(target=self._ctx.busy, args=(seconds,))
        thread.start()
        thread.join()

    def leave(self, status: int) -> None:
        """End with this exit status."""
        os._exit(status)

    def crash(self, last_words: str) -> None:
        """End as broken C code ends a process."""
        sys.stdout.write(f"{last_words}\n")
        ctypes.string_at(1)

    def deafen(self) -> None:
        """Throw the host's own handler out."""
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)

    def soon(self, how: str) -> None:
        """Be stuck as soon as this has returned, in the loop's own thread and outside any call."""

        def ring(_: int, __: object) -> None:
            if CURRENT.get() is NOBODY:
                self.be_stuck(how)
            else:  # it has not returned yet
                signal.setitimer(signal.ITIMER_REAL, SOON_S)

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, SOON_S)

    def ask_in_a_thread(self) -> None:
        """Have another thread wait at the umbilical for what never comes, and read it meanwhile."""
        waits = threading.Thread(target=self.be_stuck, args=("wait",), daemon=True)
        waits.start()

    def be_stuck(self, how: str) -> None:
        """Keep a thread for as long as a test may take."""
        match how:
            case "sleep":
                time.sleep(120)
            case "power":
                pow(3, 1 << 40)
            case "expression":
                re.match(r"(a+)+$", "a" * 64 + "b")
            case "wait":
                self._ctx.wait_service("nobody", 120.0)


class Sleeper(Plugin):
    """Offers to be stuck; takes as long to load as a file in its folder says."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        wait = ctx.data_dir / "load_s"
        if wait.exists():
            time.sleep(float(wait.read_text()))
        ctx.log.info("loaded")
        ctx.register_service("sleeper", Service(ctx))
