from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.interface import interface_of, interface_of_kind
from protocol.typed import MAX_PLANS, Signature


class Color(Enum):
    """An enum to convert."""

    RED = "red"


@dataclass(frozen=True)
class Point:
    """A dataclass to convert."""

    x: float
    y: float = 0.0


@dataclass
class Tree:
    """A dataclass that contains itself."""

    children: "list[Tree]" = field(default_factory=list)


class OutOfRange(ValueError):
    """An author's own error."""


@dataclass
class Picky:
    """A dataclass whose constructor refuses in several ways."""

    n: int

    def __post_init__(self) -> None:
        if self.n == 1:
            raise ValueError("n is one")
        if self.n == 2:
            raise OutOfRange("n is two")
        if self.n == 3:
            raise KeyError(self.n)


class Service:
    """Methods with every kind of parameter."""

    def add(self, a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    def move(self, point: Point, *, color: Color | None = None) -> None:
        """Move."""

    def many(self, *points: Point, **sizes: float) -> None:
        """Take any number."""

    def place(self, a: int, /, b: int) -> None:
        """Take the first by its place only."""

    def both(self, a: int, /, **rest: int) -> None:
        """Take the same name twice."""

    def pick(self, picky: Picky) -> None:
        """Take what refuses."""

    def plant(self, tree: Tree) -> None:
        """Take what is nested."""

    def free(self, a, b: Any = None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ANN401
        """Take anything."""

    def nothing(self) -> None:
        """Take nothing."""


class Results(Protocol):
    """What methods may return."""

    def point(self) -> Point:
        """Give a dataclass."""

    def colors(self) -> tuple[Color, ...]:
        """Give enums."""

    def plain(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """Give anything."""

    def picky(self) -> Picky:
        """Give what refuses."""

    def tree(self) -> Tree:
        """Give what is nested."""

    async def later(self) -> Color:
        """Give an enum, later."""

    def stream(self) -> Iterator[Point]:
        """Give one after the other."""

    def astream(self) -> AsyncIterator[Color]:
        """Give one after the other, later."""


METHODS = interface_of(Service(), None)
RESULTS = interface_of_kind(Results)


def prepared(method: str, *arguments: object, **keywords: object) -> tuple[Any, Any]:
    """Hold a call to its annotations."""
    return METHODS[method].prepare(list(arguments), keywords or None)


def test_arguments_that_fit_go_through_as_they_are() -> None:
    """The common call makes no new list."""
    arguments = [1, 2]
    assert METHODS["add"].prepare(arguments, None)[0] is arguments
    assert prepared("add", 1) == ([1], None)
    assert prepared("add", 1, b=2) == ([1], {"b": 2})
    assert METHODS["nothing"].prepare([], {}) == ([], {})


def test_arguments_are_converted_by_place_and_by_name() -> None:
    """Wherever an argument stands, it is held to its own annotation."""
    assert prepared("move", {"x": 1}) == ([Point(1.0)], None)
    assert prepared("move", {"x": 1}, color="red") == ([Point(1.0)], {"color": Color.RED})
    assert prepared("move", point={"x": 1}, color=None) == (
        [],
        {"point": Point(1.0), "color": None},
    )
    assert prepared("many", {"x": 1}, {"x": 2}, a=1) == ([Point(1.0), Point(2.0)], {"a": 1.0})
    assert prepared("free", 5, b=object) == ([5], {"b": object})


@pytest.mark.parametrize(
    ("method", "arguments", "keywords", "text"),
    [
        ("add", [1, "x"], {}, "add(): argument 'b' must be int, not str ('x')"),
        ("add", [1], {"b": "x"}, "add(): argument 'b' must be int, not str ('x')"),
        ("add", [], {}, "add(): missing a required argument: 'a'"),
        ("add", [1, 2, 3], {}, "add(): too many positional arguments"),
        ("add", [1], {"a": 1}, "add(): multiple values for argument 'a'"),
        ("add", [1], {"c": 1}, "add(): got an unexpected keyword argument 'c'"),
        ("add", [], {5: 1}, "add(): keywords must be strings"),
        ("add", [1], {"c" * 10**6: 1}, "add(): got an unexpected keyword argument 'ccc"),
        ("place", [], {"a": 1, "b": 1}, "add(): "),
        ("move", [{"x": "a"}], {}, "move(): argument 'point.x' must be float, not str ('a')"),
        ("move", [{"y": 1}], {}, "move(): argument 'point.x' is missing"),
        (
            "move",
            [{"x": 1, "z": 1}],
            {},
            "move(): argument 'point' has no field 'z'; Point has x, y",
        ),
        ("many", [{"x": 1}, 5], {}, "many(): argument 'points[1]' must be Point, not int (5)"),
        ("many", [], {"a\n": "x"}, r"many(): argument 'a\n' must be float, not str ('x')"),
        ("both", [1], {"a": "x"}, "both(): argument 'a' must be int, not str ('x')"),
        ("both", ["x"], {"a": 1}, "both(): argument 'a' must be int, not str ('x')"),
    ],
)
def test_a_call_that_does_not_fit_names_method_and_argument(
    method: str, arguments: list[Any], keywords: dict[Any, Any], text: str
) -> None:
    """The caller reads what to change, and no more than a line of what it sent."""
    for _ in range(2):  # the second time from memory
        with pytest.raises(TypeError) as caught:
            METHODS[method].prepare(list(arguments), dict(keywords))
        assert text.removeprefix("add(): " if method == "place" else "") in str(caught.value)
        assert len(str(caught.value)) < 400


def test_a_constructors_own_error_goes_on_with_its_place() -> None:
    """A ValueError stays one; an author's own class keeps its identity and is given a note."""
    with pytest.raises(ValueError, match=r"pick\(\): argument 'picky': n is one") as caught:
        prepared("pick", {"n": 1})
    assert type(caught.value) is ValueError
    assert str(caught.value.__cause__) == "n is one"
    with pytest.raises(OutOfRange, match="n is two") as own:
        prepared("pick", picky={"n": 2})
    assert own.value.__notes__ == ["raised by argument 'picky' of pick()"]
    with pytest.raises(KeyError):
        prepared("pick", {"n": 3})


def nested(depth: int) -> dict[str, Any]:
    """Build a tree as it arrives."""
    tree: dict[str, Any] = {}
    for _ in range(depth):
        tree = {"children": [tree]}
    return tree


def test_nesting_without_end_is_a_type_error() -> None:
    """A stranger's nesting does not use up our stack."""
    prepared("plant", nested(50))
    with pytest.raises(TypeError, match=r"plant\(\): argument 'tree' is nested too deeply"):
        prepared("plant", nested(5000))
    with pytest.raises(TypeError, match=r"tree\(\): result is nested too deeply"):
        RESULTS["tree"].result(nested(5000))


def test_what_is_not_annotated_costs_nothing() -> None:
    """A method without checks says so."""
    assert [name for name, method in METHODS.items() if method.is_trivial] == ["free", "nothing"]


def test_a_method_that_python_does_not_know_takes_anything() -> None:
    """Methods written in C have no parameters to look at."""
    unknown = Signature("get", None, {})
    assert unknown.is_trivial
    assert unknown.prepare([1, "a"], {"b": 5}) == ([1, "a"], {"b": 5})


def test_results_are_given_back_as_they_are_annotated() -> None:
    """A caller with the protocol gets dataclasses and enums, not maps and texts."""
    assert RESULTS["point"].result({"x": 1}) == Point(1.0)
    assert RESULTS["colors"].result(["red"]) == (Color.RED,)
    assert RESULTS["plain"].result({"x": 1}) == {"x": 1}
    assert RESULTS["later"].result("red") is Color.RED
    assert RESULTS["stream"].item({"x": 1}) == Point(1.0)
    assert RESULTS["astream"].item("red") is Color.RED
    stream = object()
    assert RESULTS["stream"].result(stream) is stream


def test_a_result_that_does_not_fit_is_a_type_error() -> None:
    """A service that does not keep to its protocol is named, and the place in its result."""
    with pytest.raises(TypeError, match=r"^point\(\): result.x must be float, not str \('a'\)$"):
        RESULTS["point"].result({"x": "a"})
    with pytest.raises(TypeError, match=r"^stream\(\): item must be Point, not None$"):
        RESULTS["stream"].item(None)
    with pytest.raises(ValueError, match=r"^picky\(\): result: n is one$"):
        RESULTS["picky"].result({"n": 1})


def test_memory_for_ways_to_call_is_bounded() -> None:
    """A caller who invents names cannot fill the callee."""
    many = interface_of(Service(), None)["many"]
    for number in range(MAX_PLANS * 2):
        many.prepare([], {f"name{number}": 1})
    assert len(many._plans) == MAX_PLANS
    assert many.prepare([], {"another": 1}) == ([], {"another": 1.0})


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["x", "n"]) | st.text(), inner),
    max_leaves=10,
)
NAMES = st.sampled_from(["a", "b", "point", "color", "self"]) | st.text() | st.integers()


@settings(deadline=None)
@given(st.sampled_from(list(METHODS)), st.lists(PLAIN, max_size=4), st.dictionaries(NAMES, PLAIN))
def test_no_call_is_refused_with_another_error(
    method: str, arguments: list[Any], keywords: dict[Any, Any]
) -> None:
    """Whatever plain values come, a call fits, is a TypeError, or its dataclass refuses it."""
    given_count = len(arguments), list(keywords)
    refusals = (TypeError, ValueError, KeyError) if method == "pick" else (TypeError,)
    try:
        values, named = METHODS[method].prepare(arguments, keywords)
    except refusals:
        return
    assert (len(values), list(named or {})) == given_count
