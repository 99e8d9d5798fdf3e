"""A plugin whose services have types: by a protocol, and by their own annotations."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from plugin_worker import Plugin, PluginContext


class Size(Enum):
    """Of a thing."""

    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Item:
    """Something to be bought."""

    name: str
    price: float
    size: Size = Size.SMALL
    tags: list[str] = field(default_factory=list)


class Till(Protocol):
    """What may be called."""

    def total(self, items: list[Item], discount: float = 0.0) -> float:
        """Add up."""

    def largest(self, items: list[Item]) -> Item | None:
        """Find the dearest."""

    async def resize(self, item: Item, size: Size) -> Item:
        """Give the same in another size."""

    def parts(self, item: Item) -> Iterator[Item]:
        """Give it in parts, one for each tag."""


class Counter:
    """Does what `Till` says, and more."""

    def __init__(self) -> None:
        self.runs = 0

    def total(self, items: list[Item], discount: float = 0.0) -> float:
        """Add up."""
        self.runs += 1
        assert all(isinstance(item, Item) and isinstance(item.size, Size) for item in items)
        return sum(item.price for item in items) * (1 - discount)

    def largest(self, items: list[Item]) -> Item | None:
        """Find the dearest."""
        self.runs += 1
        return max(items, key=lambda item: item.price, default=None)

    async def resize(self, item: Item, size: Size) -> Item:
        """Give the same in another size."""
        self.runs += 1
        return Item(item.name, item.price, size, item.tags)

    def parts(self, item: Item) -> Iterator[Item]:
        """Give it in parts, one for each tag."""
        self.runs += 1
        for tag in item.tags:
            yield Item(tag, item.price / len(item.tags))

    def open_drawer(self) -> str:
        """Not for customers: no part of `Till`."""
        return "open"

    def counted(self) -> int:
        """Say how often a customer's call has run."""
        return self.runs


class Untyped:
    """The same object, for who may do all."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def counted(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - so it is
        """Say how often a customer's call has run."""
        return self._counter.counted()

    def echo(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Give back what came."""
        return value

    def wrong(self) -> dict[str, object]:
        """Give what is no `Item`."""
        return {"name": 1, "price": "dear"}


class Shop(Plugin):
    """Offers them."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer one object under two names."""
        counter = Counter()
        ctx.register_service("till", counter, Till)
        ctx.register_service("back", counter)
        ctx.register_service("untyped", Untyped(counter))
