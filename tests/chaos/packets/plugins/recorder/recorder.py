"""A plugin that does one of everything and keeps what its process says meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from plugin_worker import Plugin, PluginCapability, PluginContext, PluginEvent, SpiralHostError
from tap import Frames, tap

FRAMES: Frames = {}
tap(FRAMES)


class Service:
    """Answers in every way."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def echo(self, value: object) -> object:
        """Give back what came."""
        return value

    def add(self, first: int, second: int) -> int:
        """Add."""
        return first + second

    async def soon(self, value: object) -> object:
        """Give it back a little later."""
        await asyncio.sleep(0.01)
        return value

    def count(self, upto: int) -> Iterator[int]:
        """Count."""
        yield from range(upto)

    def apply(self, function: Callable[..., Any], value: object) -> object:
        """Call a function that came."""
        return function(value)

    def fail(self) -> None:
        """Raise."""
        raise ValueError("on purpose")

    def everything(self) -> None:
        """Say everything that a worker can say to its node and the daemon."""
        ctx, bus = self._ctx, self._ctx.event_bus
        ctx.list_services()
        ctx.find_by_capability(PluginCapability.Operators)
        ctx.set_config("recorded", "yes")
        ctx.get_config("recorded")
        subscription = bus.subscribe("Recorded.*", lambda _: None, replay=2)
        bus.make_sticky("Recorded.last")
        for number in range(5):
            bus.publish(PluginEvent.custom("Recorded.last", {"number": number}))
        bus.publish_report(PluginEvent.custom("Recorded.one", [1.5, b"x", None]), timeout=2.0)
        bus.unsubscribe(subscription)
        polite = ctx.wait_service("polite", 5.0)
        polite.echo(bytes(100_000))
        polite.add(1, 2)
        try:
            polite.fail("asked for")
        except SpiralHostError:
            ctx.register_service("more", Service(ctx))
        ctx.unregister_service("more")

    def recorded(self) -> Frames:
        """Give what was kept."""
        return FRAMES


class Recorder(Plugin):
    """Offers it."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("recorder", Service(ctx))
