"""A plugin that can be killed at any step of a call, and counts in a file what it has begun."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plugin_worker import Plugin, PluginContext, service

GATE: Final = "gate"
"""While this file is in the plugin's folder it does not become ready."""


def die() -> None:
    """End at once, in a way that nothing can catch."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Deadly:
    """An argument that kills whoever builds it."""

    number: int

    def __post_init__(self) -> None:
        """Kill."""
        die()


@dataclass
class Poison:
    """A result that kills whoever packs it."""

    number: int

    def __getattribute__(self, name: str) -> object:
        """Kill who looks inside."""
        if name == "number":
            die()
        return super().__getattribute__(name)


class Service:
    """Dies at the step that its caller names."""

    def __init__(self, folder: Path) -> None:
        self._begun = folder / "begun"
        self._folder = folder

    def _begin(self) -> int:
        with self._begun.open("a") as file:
            file.write("x")
        return self._begun.stat().st_size

    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()

    def folder(self) -> str:
        """Say where it counts."""
        return str(self._folder)

    def begun(self) -> int:
        """Say how many calls have begun, in all lives, since it was last asked."""
        count = self._begun.stat().st_size if self._begun.exists() else 0
        self._begun.unlink(missing_ok=True)
        return count

    # --- steps of a call --------------------------------------------------------------------------

    def in_its_arguments(self, value: Deadly) -> None:
        """Die before the plugin's own code runs."""
        self._begin()

    def at_its_start(self) -> None:
        """Die at once."""
        self._begin()
        die()

    def before_its_answer(self) -> Poison:
        """Die when all is done, but for the answer."""
        self._begin()
        poison = Poison.__new__(Poison)
        poison.__dict__["number"] = 1
        return poison

    def half_way(self, count: int) -> Iterator[int]:
        """Die in the middle of a stream."""
        self._begin()
        yield from range(count)
        die()

    async def half_way_soon(self, count: int) -> AsyncIterator[int]:
        """Die in the middle of a stream that a coroutine writes."""
        self._begin()
        for number in range(count):
            yield number
        die()

    def in_a_callback(self, kill: Callable[[int], None]) -> None:
        """Have the caller's own function kill this process."""
        self._begin()
        kill(os.getpid())
        time.sleep(10)

    async def in_a_coroutine(self) -> None:
        """Die between two steps of a coroutine."""
        self._begin()
        await asyncio.sleep(0)
        die()

    def while_busy(self) -> None:
        """Be killed by others, while calls wait."""
        self._begin()
        time.sleep(20)

    # --- calls that may be made again -------------------------------------------------------------

    @service(idempotent=True)
    def again(self, deaths: int) -> int:
        """Die as often as said, then say how many have begun."""
        begun = self._begin()
        if begun <= deaths:
            die()
        return begun

    @service(idempotent=True)
    async def again_soon(self, deaths: int) -> int:
        """Do the same in a coroutine."""
        await asyncio.sleep(0)
        return self.again(deaths)

    @service(idempotent=True)
    def refuse(self) -> None:
        """Raise: an answer too."""
        self._begin()
        raise ValueError("an answer")

    def once(self, deaths: int) -> int:
        """Do what `again` does, but may not be made again."""
        return self.again(deaths)

    def add(self, first: int, second: int) -> int:
        """Add."""
        self._begin()
        return first + second


class Mortal(Plugin):
    """Offers to die."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service, once the gate is open."""
        until = time.monotonic() + 50
        while (ctx.data_dir / GATE).exists() and time.monotonic() < until:
            time.sleep(0.005)
        ctx.register_service("mortal", Service(ctx.data_dir))
