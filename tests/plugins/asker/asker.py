"""A plugin that calls other services in every form, from its worker to theirs."""

import asyncio
from collections.abc import Iterator
from typing import Any

from plugin_worker import Plugin, PluginContext


class Service:
    """Asks, and gives what it was given."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def call(self, service: str, method: str, *arguments: object) -> object:
        """Call and wait."""
        found: object = self._method(service, method)(*arguments)
        return found

    def submit(self, service: str, method: str, count: int) -> list[object]:
        """Make many calls before waiting for the first."""
        submit = self._method(service, method).submit
        futures = [submit(number, number) for number in range(count)]
        return [future.result() for future in futures]

    async def gather(self, service: str, method: str, count: int) -> list[object]:
        """Await many calls at the same time."""
        call = getattr(self._ctx.wait_service(service, 10).aio, method)
        return list(await asyncio.gather(*(call(number, number) for number in range(count))))

    def read(self, service: str, method: str, *arguments: object) -> list[object]:
        """Read a stream to its end."""
        return list(self._method(service, method)(*arguments))

    async def read_soon(self, service: str, method: str, *arguments: object) -> list[object]:
        """Read it in a coroutine."""
        stream = getattr(self._ctx.wait_service(service, 10).aio, method)(*arguments)
        return [item async for item in stream]

    def pass_on(self, service: str, method: str, *arguments: object) -> Iterator[object]:
        """Give the items of another's stream as they come."""
        yield from self._method(service, method)(*arguments)

    def apply(self, service: str, factor: int, values: list[int]) -> object:
        """Have another plugin call a function of this one."""
        return self._method(service, "apply")(lambda value: value * factor, values)

    def call_back(self, service: str, method: str, *called: str) -> object:
        """Have another plugin call a function that passes what it is given on to a third."""
        return self._method(service, method)(lambda value: self.call(*called, value))

    def _method(self, service: str, method: str) -> Any:  # noqa: ANN401 - a method of a stub
        return getattr(self._ctx.wait_service(service, 10), method)


class Asker(Plugin):
    """Offers to ask."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("asker", Service(ctx))
