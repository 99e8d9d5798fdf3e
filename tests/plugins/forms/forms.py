"""A plugin that has every kind of method: plain, `async def`, generators, with functions."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from plugin_worker import Plugin, PluginContext, SpiralHostError


class Service:
    """Answers at once, later, or bit by bit."""

    def __init__(self) -> None:
        self._written = 0
        self._closed: list[int] = []
        self._kept: Callable[..., Any] | None = None

    def add(self, first: int, second: int) -> int:
        """Add."""
        return first + second

    async def add_soon(self, first: int, second: int) -> int:
        """Add, after others have had their turn."""
        await asyncio.sleep(0)
        return first + second

    def text(self, size: int) -> str:
        """Give so many characters."""
        return "x" * size

    async def text_soon(self, size: int) -> str:
        """Give them from a coroutine."""
        return "x" * size

    def echo(self, value: object) -> object:
        """Give back what came."""
        return value

    # --- streams ----------------------------------------------------------------------------------

    def count(self, upto: int) -> Iterator[int]:
        """Count from 0."""
        self._written = 0
        try:
            for number in range(upto):
                self._written += 1
                yield number
        finally:
            self._closed.append(upto)

    async def count_soon(self, upto: int) -> AsyncIterator[int]:
        """Count from 0, with others in between."""
        self._written = 0
        try:
            for number in range(upto):
                await asyncio.sleep(0)
                self._written += 1
                yield number
        finally:
            self._closed.append(upto)

    def texts(self, count: int, size: int) -> Iterator[str]:
        """Give so many texts of so many characters."""
        for number in range(count):
            yield str(number % 10) * size

    async def texts_soon(self, count: int, size: int) -> AsyncIterator[str]:
        """Give the same from a coroutine."""
        for number in range(count):
            yield str(number % 10) * size

    def fail_after(self, count: int) -> Iterator[int]:
        """Count, then raise."""
        yield from range(count)
        raise LookupError(f"after {count}")

    async def fail_soon_after(self, count: int) -> AsyncIterator[int]:
        """Count and raise in a coroutine."""
        for number in range(count):
            yield number
        raise LookupError(f"after {count}")

    def written(self) -> int:
        """Say how many items the latest stream has asked for."""
        return self._written

    def closed(self) -> list[int]:
        """Name the streams whose `finally` has run, by how far they would have counted."""
        return self._closed

    # --- functions --------------------------------------------------------------------------------

    def apply(self, function: Callable[..., Any], values: list[Any]) -> list[Any]:
        """Call a function of the caller's for each value."""
        return [function(value) for value in values]

    async def apply_soon(self, function: Any, values: list[Any]) -> list[Any]:  # noqa: ANN401
        """Call it from a coroutine, for all values at the same time."""
        return await asyncio.gather(*(function.aio(value) for value in values))

    def caught(self, function: Callable[[], Any]) -> str:
        """Call a function that raises, and say what was caught."""
        try:
            function()
        except ValueError as error:
            return f"ValueError: {error}"
        return "nothing"

    def apply_elsewhere(self, function: Callable[..., Any]) -> str:
        """Call a function in another thread, and say what came of it."""
        told: list[str] = []

        def work() -> None:
            try:
                function(1)
            except SpiralHostError as error:
                told.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        return told[0]

    def keep(self, function: Callable[..., Any]) -> None:
        """Keep a function beyond the call that it came with."""
        self._kept = function

    def call_kept(self) -> object:
        """Call the function that was kept."""
        assert self._kept is not None
        return self._kept()


class Forms(Plugin):
    """Offers them."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("forms", Service())
