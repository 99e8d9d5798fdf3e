"""A plugin that does one of everything and keeps what its process says meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from plugin_worker import Plugin, PluginCapability, PluginContext, PluginEvent, SpiralHostError
from protocol import carrier, line
from protocol.kernel import head_of
from protocol.packets import Kind, cut
from protocol.umbilical import Umbilical

MOST = 4000
LONGEST = 8192
"""Frames that are kept of one conversation, and the bytes of each."""

Frames = dict[str, list[bytes]]


def keep(frames: Frames, where: str, frame: bytes) -> None:
    """Keep a frame, if it has room."""
    kept = frames.setdefault(where, [])
    if len(kept) < MOST and len(frame) <= LONGEST:
        kept.append(frame)


def listen(frames: Frames) -> None:
    """Listen from now on."""
    send, unpack, new_packer = Umbilical.send, vars(line)["unpack"], vars(carrier)["new_packer"]

    @wraps(send)
    def heard_send(self: Umbilical, kind: Kind, body: bytes, *rest: Any) -> bool:  # noqa: ANN401
        keep(frames, "umbilical", cut(kind, body)[0])
        return send(self, kind, body, *rest)

    def heard_unpack(frame: bytes, **how: Any) -> Any:  # noqa: ANN401 - as msgpack has them
        keep(frames, "lane", head_of(frame) + frame)
        return unpack(frame, **how)

    def heard_packer(turn: Callable[[object], object]) -> Callable[[object], bytes]:
        pack = new_packer(turn)

        def heard_pack(value: object) -> bytes:
            frame: bytes = pack(value)
            keep(frames, "lane", head_of(frame) + frame)
            return frame

        return heard_pack

    Umbilical.send = heard_send  # type: ignore[method-assign, assignment]
    # Names in modules, which compiled ones look up as well; their classes cannot be changed.
    vars(line)["unpack"], vars(carrier)["new_packer"] = heard_unpack, heard_packer


FRAMES: Frames = {}
listen(FRAMES)


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
