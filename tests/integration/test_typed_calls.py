"""Types hold between processes: what is annotated is checked, and arrives as what it is."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, cast

import pytest

from protocol.errors import LocalProtocolError, RemoteProtocolError, UsageError
from spiral_host import Host, RemoteError
from tests.hosts import all_ready, plugin


class Size(Enum):
    """The caller's own."""

    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Item:
    """The caller's own: neither side knows the other's classes."""

    name: str
    price: float
    size: Size = Size.SMALL
    tags: list[str] = field(default_factory=list)


class Till(Protocol):
    """What the caller knows of the service."""

    def total(self, items: list[Item], discount: float = 0.0) -> float:
        """Add up."""

    def largest(self, items: list[Item]) -> Item | None:
        """Find the dearest."""

    async def resize(self, item: Item, size: Size) -> Item:
        """Give the same in another size."""

    def parts(self, item: Item) -> Iterator[Item]:
        """Give it in parts, one for each tag."""


@pytest.fixture(scope="module")
def host(shared: Host) -> Host:
    """The shared host with a shop, and a plugin that calls it."""
    assert all_ready(shared.load([plugin("shop"), plugin("asker")]))
    return shared


@pytest.fixture
def till(host: Host) -> Till:
    """The service as a type checker sees it."""
    found = host.get_service("till", Till)
    assert found is not None
    return found


@pytest.fixture
def untyped(host: Host) -> Any:  # noqa: ANN401 - a stub that knows nothing of types
    return host.get_service("till")


@pytest.fixture
def unchanged(host: Host) -> Iterator[None]:
    """The test's calls have run nothing of the plugin's."""
    back = host.get_service("back")
    before = back.counted()
    yield
    assert back.counted() == before


class TestWhatTravels:
    def test_dataclasses_and_enums(self, till: Till) -> None:
        """In lists, in unions and alone; what comes back is of the caller's own classes."""
        items = [Item("a", 1.5), Item("b", 2, Size.LARGE, ["x"])]
        assert till.total(items, discount=0.5) == 1.75
        assert till.largest(items) == items[1]
        assert till.largest([]) is None

    def test_in_every_form(self, till: Till, untyped: Any) -> None:  # noqa: ANN401
        """From coroutines, as the items of a stream, and from futures."""
        item, stub = Item("a", 3, tags=["x", "y", "z"]), cast("Any", till)
        parts = [Item(tag, 1.0) for tag in "xyz"]
        assert list(till.parts(item)) == parts

        async def main() -> list[object]:
            small = await stub.aio.resize(item, Size.LARGE)
            return [small, [part async for part in stub.aio.parts(item)]]

        large = Item("a", 3, Size.LARGE, ["x", "y", "z"])
        assert asyncio.run(main()) == [large, parts]
        assert untyped.resize({"name": "a", "price": 3, "tags": ["x", "y", "z"]}, "l") == {
            "name": "a",
            "price": 3.0,
            "size": "l",
            "tags": ["x", "y", "z"],
        }

    def test_between_workers(self, host: Host) -> None:
        """A plugin that knows nothing of the types sends and gets plain values."""
        item = {"name": "a", "price": 1.0, "size": "l", "tags": []}
        assert host.get_service("asker").call("till", "largest", [item]) == item

    def test_to_an_application(self, host: Host) -> None:
        """Its own services are checked in the same way."""

        class Own:
            def names(self, items: list[Item]) -> list[str]:
                assert all(isinstance(item, Item) for item in items)
                return [item.name for item in items]

        host.register_service("own", Own())
        asker = host.get_service("asker")
        try:
            assert asker.call("own", "names", [{"name": "a", "price": 1.0}]) == ["a"]
            with pytest.raises(TypeError, match=r"argument 'items\[0\]\.price' must be float"):
                asker.call("own", "names", [{"name": "a", "price": "1"}])
        finally:
            host.unregister_service("own")


WRONG: list[tuple[str, tuple[object, ...], str]] = [
    ("total", (1,), r"argument 'items' must be list\[Item\], not int \(1\)"),
    ("total", ([1],), r"argument 'items\[0\]' must be Item, not int \(1\)"),
    ("total", ([{"name": 1, "price": 1.0}],), r"argument 'items\[0\]\.name' must be str"),
    ("total", ([{"name": "a"}],), r"argument 'items\[0\]\.price' is missing"),
    ("total", ([{"name": "a", "price": 1.0, "x": 1}],), r"'items\[0\]' has no field 'x'"),
    ("total", ([], "much"), r"argument 'discount' must be float, not str \('much'\)"),
    ("resize", ({"name": "a", "price": 1.0}, "m"), r"argument 'size' must be Size \('s', 'l'\)"),
    ("resize", ({"name": "a", "price": 1.0},), "missing a required argument: 'size'"),
    ("total", ([], 0.0, 1), "too many positional arguments"),
]


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(("method", "arguments", "why"), WRONG)
    def test_is_refused_before_plugin_code_runs(
        self,
        untyped: Any,  # noqa: ANN401
        unchanged: None,
        method: str,
        arguments: tuple[object, ...],
        why: str,
    ) -> None:
        """The error is a `TypeError` that names the argument, what it must be and what came."""
        call = getattr(untyped, method)
        for form in (call, lambda *arguments: call.submit(*arguments).result()):
            with pytest.raises(TypeError, match=why) as caught:
                form(*arguments)
            assert isinstance(caught.value, RemoteError)
            assert (caught.value.service, caught.value.method) == ("till", method)

    def test_by_name(self, untyped: Any, unchanged: None) -> None:  # noqa: ANN401
        """Arguments by name are checked too."""
        with pytest.raises(TypeError, match="argument 'discount' must be float"):
            untyped.total(items=[], discount=None)
        with pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
            untyped.total([], unknown=1)

    def test_by_a_service_s_own_annotations(self, host: Host, unchanged: None) -> None:
        """Without a protocol the class's annotations hold."""
        with pytest.raises(TypeError, match="argument 'discount' must be float"):
            host.get_service("back").total([], "much")

    def test_what_a_service_gives(self, host: Host) -> None:
        """A result that is not what the caller's own types say is the callee's fault."""

        class Wrong(Protocol):
            def wrong(self) -> Item:
                """Give an item, it is said."""

        found = host.get_service("untyped", Wrong)
        assert found is not None
        with pytest.raises(RemoteProtocolError, match="untyped.wrong.*name"):
            found.wrong()
        assert host.get_service("untyped").echo(1) == 1


class TestWhatIsNotOffered:
    def test_outside_the_protocol(self, host: Host, untyped: Any) -> None:  # noqa: ANN401
        """A method that the protocol does not name cannot be reached, though the object has it."""
        with pytest.raises(UsageError, match="no method 'open_drawer'"):
            untyped.open_drawer()
        assert host.get_service("back").open_drawer() == "open"

    def test_outside_the_caller_s_own(self, till: Till, host: Host) -> None:
        """Nor does a typed stub have what its own protocol does not name."""
        with pytest.raises(AttributeError, match="open_drawer"):
            cast("Any", till).open_drawer()
        back = host.get_service("back", Till)
        with pytest.raises(AttributeError, match="open_drawer"):
            back.open_drawer()  # type: ignore[union-attr]

    def test_a_service_that_is_not_what_it_says(self, host: Host) -> None:
        """It is refused where it is offered, by the method that is missing."""

        class Half:
            def total(self, items: list[Item], discount: float = 0.0) -> float:
                return 0.0

        with pytest.raises(UsageError, match="largest"):
            host.register_service("half", Half(), Till)

    def test_an_annotation_that_cannot_travel(self, host: Host) -> None:
        """It is named where the service is offered."""

        class Odd:
            def take(self, value: complex) -> None:
                """Nobody can send one."""

        with pytest.raises(UsageError, match="value"):
            host.register_service("odd", Odd())

    def test_a_plain_set_without_types(self, host: Host) -> None:
        """What no annotation promises to turn back does not travel."""
        with pytest.raises(LocalProtocolError, match="a set"):
            host.get_service("untyped").echo({1})
