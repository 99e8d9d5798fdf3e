"""A plugin that leaves its node what no author would: words, a name, folders, files."""

import ctypes
import os
import select
import time
from pathlib import Path

from plugin_worker import Plugin, PluginContext

PR_SET_NAME = 15
PATIENCE_MS = 20_000
"""How long nothing may come, before nothing more is expected."""


class Service:
    """Does harm."""

    def __init__(self, ctx: PluginContext) -> None:
        self._umbilical: int = ctx._host._desk.fd  # type: ignore[attr-defined]
        self._talks = ctx.data_dir / "talks"

    def talk(self, packet: bytes, seconds: float, last: bytes) -> bool:
        """Say the same up the umbilical again and again; only then read, until this comes.

        It begins when it is asked for a sign of life, behind which the node asks for no other.
        """
        poll = select.poll()
        poll.register(self._umbilical, select.POLLIN)
        poll.poll(PATIENCE_MS)
        self._talks.touch()
        os.set_blocking(self._umbilical, True)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.write(self._umbilical, packet)
        os.set_blocking(self._umbilical, False)
        time.sleep(1.0)  # the node takes in what was said
        while poll.poll(PATIENCE_MS):
            if os.read(self._umbilical, 1 << 17) == last:
                return True
        return False

    def rename(self, name: bytes) -> None:
        """Have the kernel know this process by another name."""
        ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)

    def nest(self, depth: int) -> None:
        """Put folders into each other in the temporary one, with a file at the bottom, and end."""
        os.chdir(os.environ["TMPDIR"])
        for _ in range(depth):
            Path("folder").mkdir()
            os.chdir("folder")
        os.close(os.open("file", os.O_CREAT, 0o600))
        os._exit(3)

    def litter(self, files: int) -> None:
        """Fill the temporary folder, and end."""
        os.chdir(os.environ["TMPDIR"])
        for number in range(files):
            os.close(os.open(str(number), os.O_CREAT, 0o600))
        os._exit(3)


class Vandal(Plugin):
    """Offers to do harm."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("vandal", Service(ctx))
