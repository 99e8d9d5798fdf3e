"""A plugin that takes as much as it is told to and no more, whatever it is allowed."""

import os
import sys
import threading
import time
from pathlib import Path

from plugin_worker import Plugin, PluginContext

_CHUNK = 1 << 20


class Service:
    """Takes; every appetite has an end of its own."""

    def __init__(self, ctx: PluginContext) -> None:
        self._folder = ctx.data_dir
        self._kept: list[object] = []
        self._release = threading.Event()

    def eat(self, size: int) -> int:
        """Take memory, and keep it."""
        self._kept.append(b"x" * min(size, 1 << 30))
        return len(self._kept)

    def open(self, number: int) -> int:
        """Open descriptors, and keep them."""
        for _ in range(min(number, 5000)):
            self._kept.append(os.open("/dev/null", os.O_RDONLY))
        return len(self._kept)

    def start(self, number: int) -> int:
        """Start threads that wait."""
        threading.stack_size(64 * 1024)
        for _ in range(min(number, 1000)):
            threading.Thread(target=self._release.wait, daemon=True).start()
        return threading.active_count()

    def fill(self, size: int) -> int:
        """Write one file."""
        left = min(size, 64 << 20)
        with (self._folder / "file").open("wb", buffering=0) as file:
            while left > 0:
                left -= file.write(b"x" * min(left, _CHUNK))
        return size

    def scatter(self, size: int, folder: str) -> int:
        """Write many files, in one of the places where it may; where it was told to hide them."""
        into = Path(folder) if folder else self._folder
        for number in range(min(size, 64 << 20) // _CHUNK):
            (into / f"part.{number}").write_bytes(b"x" * _CHUNK)
        return size

    def hide(self) -> str:
        """Make a folder that its owner cannot list, and give its name."""
        hidden = self._folder / "hidden"
        hidden.mkdir(0o300)
        return str(hidden)

    def tmp(self) -> str:
        """Name the private folder."""
        return os.environ["TMPDIR"]

    def spin(self, seconds: float) -> int:
        """Keep a core busy."""
        until, turns = time.monotonic() + min(seconds, 60.0), 0
        while time.monotonic() < until:
            turns += 1
        return turns

    def say(self, size: int) -> None:
        """Print."""
        sys.stdout.write("x" * min(size, 16 << 20))


class Glutton(Plugin):
    """Offers to take."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("glutton", Service(ctx))
