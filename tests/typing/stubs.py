"""What type checkers say about stubs: each line with a mark is an error, and no other line is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, assert_type

from plugin_worker import PluginContext
from spiral_host import Host

T = TypeVar("T")


@dataclass
class Point:
    """A dataclass that travels."""

    x: float
    y: float


class Canvas(Protocol):
    """A service as its callers know it."""

    def move(self, point: Point, by: float = 1.0) -> Point:
        """Move a point."""
        ...

    def points(self) -> Iterator[Point]:
        """Give all points, one by one."""
        ...


class Keeper(Protocol[T]):
    """A service of any type."""

    def keep(self, value: T) -> T:
        """Keep a value."""
        ...


class RealCanvas:
    """A service by its own class, which its callers cannot make."""

    def __init__(self, width: int, *, color: str) -> None:
        self.width = width
        self.color = color

    def clear(self) -> int:
        """Forget all points."""
        return self.width


def typed_by_protocol(host: Host, ctx: PluginContext) -> None:
    """A stub is what the protocol says, or None while nobody offers the service."""
    assert_type(host.get_service("canvas", Canvas), Canvas | None)
    assert_type(ctx.get_service("canvas", Canvas), Canvas | None)
    assert_type(host.wait_service("canvas", 5.0, Canvas), Canvas)
    assert_type(ctx.wait_service("canvas", 5.0, kind=Canvas), Canvas)
    assert_type(ctx.wait_service("keeper", 5.0, Keeper[int]), Keeper[int])


def typed_by_class(host: Host, ctx: PluginContext) -> None:
    """A class serves as well, whatever its constructor takes."""
    assert_type(host.get_service("canvas", RealCanvas), RealCanvas | None)
    assert_type(ctx.wait_service("canvas", 5.0, RealCanvas).clear(), int)


def untyped(host: Host, ctx: PluginContext) -> None:
    """Without a kind, anything goes."""
    assert_type(host.get_service("canvas"), Any)
    assert_type(ctx.wait_service("canvas", timeout=5.0), Any)
    ctx.get_service("canvas").whatever(1, two=2)


def right_calls(canvas: Canvas | None, host: Host) -> None:
    """Arguments, results and streams have their types."""
    if canvas is not None:
        assert_type(canvas.move(Point(1, 2), by=3), Point)
        assert_type([point.x for point in canvas.points()], list[float])
    assert_type(host.wait_service("canvas", 1, Canvas).move(Point(1, 2)).x, float)


def wrong_calls(host: Host, ctx: PluginContext) -> None:
    """Mistakes are found before anything runs."""
    canvas = host.wait_service("canvas", 5.0, Canvas)
    canvas.move(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    canvas.move(Point(1, 2), by="far")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    canvas.move()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    canvas.mvoe(Point(1, 2))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ctx.wait_service("canvas", 5.0, Canvas).hide()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ctx.get_service("canvas", Canvas).points()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    host.get_service("canvas", "Canvas")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
