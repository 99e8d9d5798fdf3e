"""Calls `adder` from its own worker and says how long that took."""

import time
from typing import Any

from plugin_worker import Plugin, PluginContext


class Stopwatch:
    """Times calls of another plugin's service."""

    def __init__(self, adder: Any) -> None:  # noqa: ANN401 - a stub
        self._adder = adder

    def time_adds(self, count: int) -> float:
        """Give the mean time of `add(1, 2)`, microseconds."""
        add = self._adder.add
        begin = time.perf_counter()
        for _ in range(count):
            add(1, 2)
        return (time.perf_counter() - begin) / count * 1e6

    def time_echoes(self, array: Any, count: int) -> float:  # noqa: ANN401
        """Give the mean time of sending an array and getting it back, microseconds."""
        echo = self._adder.echo
        begin = time.perf_counter()
        for _ in range(count):
            echo(array)
        return (time.perf_counter() - begin) / count * 1e6


class Caller(Plugin):
    """Offers `stopwatch`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Find the other plugin's service."""
        ctx.register_service("stopwatch", Stopwatch(ctx.get_service("adder")))
