"""Calls `adder` from coroutines and says how long that took."""

import asyncio
import time
from typing import Any

from plugin_worker import Plugin, PluginContext


class Stopwatch:
    """Times calls of another plugin's service."""

    def __init__(self, adder: Any) -> None:  # noqa: ANN401 - a stub
        self._adder = adder

    async def time_gathers(self, count: int, depth: int) -> float:
        """Give the seconds for so many `add(1, 2)`, gathered by the `depth`."""
        add = self._adder.aio.add
        begin = time.perf_counter()
        for _ in range(count // depth):
            await asyncio.gather(*(add(1, 2) for _ in range(depth)))
        return time.perf_counter() - begin


class AsyncCaller(Plugin):
    """Offers `async_stopwatch`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Find the other plugin's service."""
        ctx.register_service("async_stopwatch", Stopwatch(ctx.get_service("adder")))
