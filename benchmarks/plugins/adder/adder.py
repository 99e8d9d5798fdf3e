"""Takes part in every row of the comparison, as the smallest service that can."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from plugin_worker import Plugin, PluginContext


class Arithmetic:
    """Takes plain values, functions or arrays."""

    def __init__(self) -> None:
        self._seen: list[weakref.ref[Any]] = []

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def echo(self, value: Any) -> Any:  # noqa: ANN401 - an array, usually
        """Give back what came."""
        return value

    def ends(self, array: Any) -> float:  # noqa: ANN401
        """Look at both ends of an array, which sends nothing back that costs time."""
        return float(array[0] + array[-1])

    def call_back(self, function: Callable[[int], int]) -> int:
        """Call what was passed."""
        return function(1)

    def count_up(self, count: int) -> Iterator[int]:
        """Give the first integers."""
        yield from range(count)

    def see(self, array: Any) -> None:  # noqa: ANN401
        """Remember an array without keeping it."""
        self._seen.append(weakref.ref(array))

    def count_alive(self) -> int:
        """Say how many of the arrays that were seen are still there."""
        return sum(array() is not None for array in self._seen)


class Adder(Plugin):
    """Offers `adder`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("adder", Arithmetic())
