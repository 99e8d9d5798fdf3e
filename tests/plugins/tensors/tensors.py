"""A plugin that takes, keeps, gives and passes on arrays, and says how much it has mapped."""

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plugin_worker import Plugin, PluginContext


class Service:
    """Arrays in, arrays out."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._kept: list[Any] = []
        self._own: NDArray[np.float64] | None = None

    def take(self, value: object) -> None:
        """Take anything, and do nothing with it."""

    def total(self, array: NDArray[np.float64]) -> float:
        """Add it up."""
        return float(array.sum())

    def kind(self, value: object) -> list[object]:
        """Say what arrived."""
        if isinstance(value, np.ndarray):
            return ["array", value.dtype.str, list(value.shape), bool(value.flags.writeable)]
        return [type(value).__name__, len(value)]  # type: ignore[arg-type]

    def keep(self, value: object) -> int:
        """Keep it; say how many are kept."""
        self._kept.append(value)
        return len(self._kept)

    def look(self) -> list[float]:
        """Give the first number of each that is kept."""
        return [float(array.flat[0]) for array in self._kept]

    def drop(self) -> None:
        """Keep nothing any more."""
        self._kept.clear()

    def give(self, number: float, count: int) -> NDArray[np.float64]:
        """Give so many of a number."""
        return np.full(count, number)

    def own(self, number: float, count: int) -> NDArray[np.float64]:
        """Give the same array each time, from shared memory, after writing to it."""
        if self._own is None:
            self._own = self._ctx.empty(count, np.float64)
        self._own[:] = number
        return self._own

    def forget_own(self) -> None:
        """Let go of it."""
        self._own = None

    def mapped(self) -> list[int]:
        """Say how many segments are mapped here, and their bytes."""
        return list(self._ctx._host.arena.mapped)

    def pass_on(self, service: str, method: str, *arguments: object) -> object:
        """Call another plugin with what came."""
        return getattr(self._ctx.wait_service(service, 10.0), method)(*arguments)

    def call_with(self, service: str, method: str, count: int, times: int) -> list[object]:
        """Call another plugin again and again, with an array of its own."""
        call = getattr(self._ctx.wait_service(service, 10.0), method)
        return [call(np.full(count, float(number))) for number in range(times)]

    def try_to_write(self, array: NDArray[np.float64]) -> list[str]:
        """Try every way to write to what another process sent; say what came of each."""
        said = []
        for attempt in (self._by_flag, self._by_protection):
            try:
                attempt(array)
                said.append("written")
            except (ValueError, OSError) as error:
                said.append(type(error).__name__)
        return said

    def _by_flag(self, array: NDArray[np.float64]) -> None:
        array.flags.writeable = True

    def _by_protection(self, array: NDArray[np.float64]) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        address = array.ctypes.data & -mmap.PAGESIZE
        if libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, 3):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def end(self) -> None:
        """Die, with whatever is kept."""
        os._exit(3)


class Tensors(Plugin):
    """Offers the service."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer it under the plugin's name."""
        ctx.register_service(ctx.plugin_id, Service(ctx))
