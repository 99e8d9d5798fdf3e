"""Calls `adder` from its own worker and says how long that took."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from plugin_worker import Plugin, PluginContext


class Stopwatch:
    """Times calls of other plugins' services; what is made once is made before the time counts."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._adder = ctx.get_service("adder")
        self._arrays: dict[int, Any] = {}
        self._shared: dict[int, Any] = {}

    def time_adds(self, count: int) -> float:
        """Give the seconds for so many `add(1, 2)`, one after the other."""
        add = self._adder.add
        begin = time.perf_counter()
        for _ in range(count):
            add(1, 2)
        return time.perf_counter() - begin

    def time_submits(self, count: int, depth: int) -> float:
        """Give the seconds for as many, `depth` at a time in flight."""
        submit = self._adder.add.submit
        begin = time.perf_counter()
        for _ in range(count // depth):
            for future in [submit(1, 2) for _ in range(depth)]:
                future.result()
        return time.perf_counter() - begin

    def time_async_adds(self, count: int) -> float:
        """Give the seconds for as many of an `async def`, one after the other."""
        return _timed(3, count, self._ctx.get_service("async_adder").add, 1, 2)

    def time_callbacks(self, count: int) -> float:
        """Give the seconds for so many calls with a function that is called once in each."""
        return _timed(1, count, self._adder.call_back, lambda value: value)

    def time_items(self, count: int) -> float:
        """Give the seconds for so many items of one stream."""
        begin = time.perf_counter()
        deque(self._adder.count_up(count), maxlen=0)
        return time.perf_counter() - begin

    def time_arrays(self, count: int, elements: int) -> float:
        """Give the seconds for sending an array of float64 so often."""
        return _timed(elements - 1, count, self._adder.ends, self._array(elements))

    def time_shared(self, count: int, elements: int) -> float:
        """Give the seconds for the same with an array that lies in shared memory already."""
        if elements not in self._shared:
            self._shared[elements] = self._ctx.empty((elements,), "f8")
            self._shared[elements][:] = 1.0
        return _timed(2, count, self._adder.ends, self._shared[elements])

    def time_echoes(self, count: int, elements: int) -> float:
        """Give the seconds for sending an array and getting it back."""
        array, echo = self._array(elements), self._adder.echo
        return _timed(elements, count, lambda: len(echo(array)))

    def show(self, count: int, elements: int) -> None:
        """Have arrays looked at, as many as were never there before, and keep none of them."""
        for _ in range(count):
            self._adder.see(self._array(elements))

    def _array(self, elements: int) -> Any:  # noqa: ANN401
        if elements not in self._arrays:
            import numpy as np  # noqa: PLC0415 - a worker starts without it

            self._arrays[elements] = np.arange(elements, dtype=np.float64)
        return self._arrays[elements]


def _timed(gives: object, count: int, function: Callable[..., object], *arguments: object) -> float:
    if (result := function(*arguments)) != gives:
        raise ValueError(f"{result!r} instead of {gives!r}")
    begin = time.perf_counter()
    for _ in range(count):
        function(*arguments)
    return time.perf_counter() - begin


class Caller(Plugin):
    """Offers `stopwatch`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Find the other plugin's service."""
        ctx.register_service("stopwatch", Stopwatch(ctx))
