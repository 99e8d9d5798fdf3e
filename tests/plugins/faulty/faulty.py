"""A plugin in which calls fail in every way, and whose results cannot travel."""

import asyncio
import builtins
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plugin_worker import Plugin, PluginContext


class OwnError(KeyError):
    """An exception that only this plugin knows."""


def _cyclic() -> list[Any]:
    circle: list[Any] = [1]
    circle.append([circle])
    return circle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    return deep


WONT_TRAVEL: dict[str, Callable[[], object]] = {
    "a set": lambda: {1},
    "an object": object,
    "a tuple as a key": lambda: {(1, 2): 3},
    "an integer of 70 bits": lambda: 1 << 70,
    "a circle": _cyclic,
    "too deep": _deep,
    "too large": lambda: "x" * (1 << 20),
    "half a character": lambda: "\ud800",
    "a path": lambda: Path("x"),
    "a class": lambda: OwnError,
}


class Service:
    """Fails."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._echoed = 0

    def echo(self, value: object) -> object:
        """Give back what came."""
        self._echoed += 1
        return value

    def echoed(self) -> int:
        """Say how often `echo` has run."""
        return self._echoed

    def fail(self, kind: str, text: str) -> None:
        """Raise a builtin exception."""
        raise getattr(builtins, kind)(text)

    async def fail_soon(self, kind: str, text: str) -> None:
        """Raise it in a coroutine."""
        await asyncio.sleep(0)
        raise getattr(builtins, kind)(text)

    def fail_on_its_own(self) -> None:
        """Raise what no caller knows."""
        raise OwnError("unheard of")

    def fail_for_a_reason(self) -> None:
        """Raise one exception because of another."""
        try:
            Path("/nonexistent/secret").read_text()
        except OSError as error:
            raise RuntimeError("no secret") from error

    def leave(self, status: int) -> None:
        """End this process."""
        os._exit(status)

    def signal(self, number: int) -> None:
        """Signal this process."""
        os.kill(os.getpid(), number)

    def kill_itself(self) -> None:
        """End it in the hardest way."""
        self.signal(signal.SIGKILL)

    def raise_in_the_end(self, kind: str) -> None:
        """Raise what ends programs, and loops."""
        raise getattr(builtins, kind)

    def give(self, what: str) -> object:
        """Give what cannot travel, deep inside."""
        return {"x": [0, WONT_TRAVEL[what]()]}

    async def give_soon(self, what: str) -> object:
        """Give it from a coroutine."""
        return {"x": [0, WONT_TRAVEL[what]()]}

    def give_array_of_objects(self) -> object:
        """Give an array whose elements are Python's."""
        import numpy as np

        return {"x": [0, np.array([object()])]}

    def stream(self, what: str) -> Iterator[object]:
        """Give something, and then what cannot travel."""
        yield 1
        yield [WONT_TRAVEL[what]()]

    def call(self, service: str, method: str, *arguments: object) -> object:
        """Call another service, and let its errors go on."""
        found: object = getattr(self._ctx.wait_service(service, 10), method)(*arguments)
        return found

    def _private(self) -> None:
        """Not for callers."""


class Faulty(Plugin):
    """Offers it."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("faulty", Service(ctx))
