import sys
import typing
from collections import abc
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Self, TypedDict, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.annotations import Reader, resolve
from protocol.checks import UNCHECKED, Misfit
from protocol.codec import pack_value, unpack_value
from protocol.errors import LocalProtocolError, UsageError
from tests.cases import named

T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(Enum):
    """An enum of text."""

    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    """An enum of numbers, which one could take for numbers."""

    SMALL = 1
    LARGE = 2


class Mode(StrEnum):
    """An enum of text, which one could take for text."""

    FAST = "fast"


class Access(Flag):
    """An enum whose members are combined."""

    READ = 1
    WRITE = 2


class Unspeakable(Enum):
    """An enum of what cannot travel."""

    ONE = (1, 2)


@dataclass(frozen=True)
class Point:
    """A dataclass as people write them."""

    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Shape:
    """A dataclass with others inside, and a field that is not its constructor's."""

    name: str
    points: list[Point]
    color: Color = Color.RED
    area: float = field(init=False, default=0.0)


@dataclass
class Tree:
    """A dataclass that contains itself."""

    value: int
    children: "list[Tree]" = field(default_factory=list)


@dataclass(frozen=True)
class Box(Generic[T]):
    """A generic dataclass."""

    inside: T
    more: list[T]


@dataclass
class Picky:
    """A dataclass that checks itself."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n is negative")


@dataclass
class Forgetful:
    """A dataclass that cannot be built from its own fields."""

    kept: int
    lost: InitVar[int]


@dataclass
class Holder:
    """A dataclass with a field that cannot travel."""

    path: Path


@dataclass
class Dangling:
    """A dataclass with a field of a class that is nowhere."""

    missing: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: Color


class Options(TypedDict, total=False):
    """A typed dict."""

    depth: typing.Required[int]
    color: Color


class Base(TypedDict):
    """A typed dict, all of whose keys are needed but one."""

    a: int
    b: typing.NotRequired[str]


def check(annotation: object) -> Callable[[object], Any]:
    """Give the conversion that an annotation asks for."""
    return Reader().check(annotation).convert


FITS: list[tuple[Any, Any, Any]] = [
    (int, 5, 5),
    (float, 5, 5.0),
    (float, 2.5, 2.5),
    (bool, True, True),
    (None | int, None, None),
    (str, "a", "a"),
    (typing.LiteralString, "a", "a"),
    (bytes, b"a", b"a"),
    (bytes, memoryview(b"a"), b"a"),
    (bytearray, b"a", bytearray(b"a")),
    (memoryview, b"a", memoryview(b"a")),
    (list, [1, "a"], [1, "a"]),
    (list[int], [1, 2], [1, 2]),
    (list[float], [1, 2.5], [1.0, 2.5]),
    (abc.Sequence[str], ["a"], ["a"]),
    (abc.Iterable[int], [], []),
    (typing.List[int], [1], [1]),  # noqa: UP006 - people still write it
    (tuple, [1, 2], (1, 2)),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 2, 2], {1, 2}),
    (frozenset[str], ["a"], frozenset("a")),
    (set[tuple[int, int]], [[1, 2]], {(1, 2)}),
    (dict, {1: "a"}, {1: "a"}),
    (dict[str, float], {"a": 1}, {"a": 1.0}),
    (abc.Mapping[Color, int], {"red": 1}, {Color.RED: 1}),
    (dict[int, list[Size]], {1: [1]}, {1: [Size.SMALL]}),
    (Any, object, object),
    (object, 5, 5),
    (T, 5, 5),
    (UserId, 5, 5),
    (Annotated[int, "metres"], 5, 5),
    (Literal["a", 1, Color.RED] | None, "red", Color.RED),
    (Literal["a", 1, Color.RED] | None, None, None),
    (Color, "blue", Color.BLUE),
    (Size, 2, Size.LARGE),
    (Mode, "fast", Mode.FAST),
    (Access, 3, Access.READ | Access.WRITE),
    (Access, 0, Access(0)),
    (Point, {"x": 1}, Point(1.0)),
    (Point, {"y": 1, "x": 2}, Point(2.0, 1.0)),
    (
        Shape,
        {"name": "s", "points": [{"x": 1}], "color": "blue"},
        Shape("s", [Point(1.0)], Color.BLUE),
    ),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
    (Box[Point], {"inside": {"x": 1}, "more": []}, Box(Point(1.0), [])),
    (Box, {"inside": 1, "more": ["a"]}, Box[Any](1, ["a"])),
    (Pair, [1, "red"], Pair(1, Color.RED)),
    (Options, {"depth": 1}, {"depth": 1}),
    (Options, {"depth": 1, "color": "red"}, {"depth": 1, "color": Color.RED}),
    (Base, {"a": 1}, {"a": 1}),
    (int | None, None, None),
    (int | None, 5, 5),
    (float | int, 5, 5),
    (float | str, 5, 5.0),
    (bytes | memoryview, memoryview(b"a"), memoryview(b"a")),
    (Color | str, "red", Color.RED),
    (Color | str, "green", "green"),
    (Point | Color | None, {"x": 1}, Point(1.0)),
    (Point | Color | None, "red", Color.RED),
    (Picky | Tree, {"n": 1}, Picky(1)),
    (abc.Callable[[int], int], len, len),
    (abc.Callable, len, len),
]


@pytest.mark.parametrize(("annotation", "came", "expected"), FITS, ids=named)
def test_a_value_that_fits_arrives_as_the_annotation_says(
    annotation: object, came: object, expected: object
) -> None:
    """Each annotation gives back the types that the wire does not know."""
    value = check(annotation)(came)
    assert value == expected
    assert type(value) is type(expected)


MISFITS: list[tuple[Any, Any, str]] = [
    (int, "a", " must be int, not str ('a')"),
    (int, True, " must be int, not bool (True)"),
    (int, 5.0, " must be int, not float (5.0)"),
    (int, None, " must be int, not None"),
    (int, [1], " must be int, not list"),
    (int, "x" * 10**6, f" must be int, not str ('{'x' * 60}')"),
    (int, "\x1b[31m", r" must be int, not str ('\x1b[31m')"),
    (float, True, " must be float, not bool (True)"),
    (float, 10**400, " must be float, not int (int)"),
    (str, b"a", " must be str, not bytes (b'a')"),
    (bytes, "a", " must be bytes, not str ('a')"),
    (list[int], "ab", " must be list[int], not str ('ab')"),
    (list[int], [1, "a"], "[1] must be int, not str ('a')"),
    (list[list[int]], [[], [1, None]], "[1][1] must be int, not None"),
    (tuple[int, str], [1], " must be tuple[int, str], not a list of 1"),
    (tuple[int, str], [1, 2], "[1] must be str, not int (2)"),
    (set[Any], [[1]], " must be set, of items that can be in one"),
    (set[Any], [memoryview(bytearray(1))], " must be set, of items that can be in one"),
    (Color, memoryview(bytearray(1)), " must be Color ('red', 'blue'), not memoryview"),
    (dict[str, int], {"a": "b"}, "['a'] must be int, not str ('b')"),
    (dict[str, int], {1: 1}, "[key 1] must be str, not int (1)"),
    (dict[str, int], [], " must be dict[str, int], not list"),
    (Color, "green", " must be Color ('red', 'blue'), not str ('green')"),
    (Color, ["red"], " must be Color ('red', 'blue'), not list"),
    (Size, True, " must be Size (1, 2), not bool (True)"),
    (Access, 4, " must be Access, not int (4)"),
    (Access, -1, " must be Access, not int (-1)"),
    (Literal[1, "a"], True, " must be Literal[1, 'a'], not bool (True)"),
    (Point, [1, 2], " must be Point, not list"),
    (Point, {"x": "a"}, ".x must be float, not str ('a')"),
    (Point, {"y": 1}, ".x is missing"),
    (Point, {"x": 1, "z": 1}, " has no field 'z'; Point has x, y"),
    (Point, {"x": 1, 5: 1}, " has no field 5; Point has x, y"),
    (Shape, {"name": "s", "points": [{"x": 1}, {}]}, ".points[1].x is missing"),
    (
        Shape,
        {"name": "", "points": [], "area": 1.0},
        " has no field 'area'; Shape has name, points, color",
    ),
    (
        Tree,
        {"value": 1, "children": [{"value": "a"}]},
        ".children[0].value must be int, not str ('a')",
    ),
    (Box[int], {"inside": "a", "more": []}, ".inside must be int, not str ('a')"),
    (Box[int], {"inside": 1, "more": ["a"]}, ".more[0] must be int, not str ('a')"),
    (Pair, [1, "green"], "[1] must be Color ('red', 'blue'), not str ('green')"),
    (Pair, 5, " must be Pair, not int (5)"),
    (Options, {}, ".depth is missing"),
    (Options, {"depth": 1, "width": 1}, " has no field 'width'; Options has depth, color"),
    (Base, {"b": "b"}, ".a is missing"),
    (int | str, None, " must be int | str, not None"),
    (int | str | None, 1.5, " must be int | str | None, not float (1.5)"),
    (Point | None, {"x": "a"}, ".x must be float, not str ('a')"),
    (Point | Tree, {"x": "a"}, " must be Point | Tree, not dict"),
    (Picky | None, {"n": -1}, " is refused by its class"),
    (abc.Callable, 5, " must be callable, not int (5)"),
    (typing.Never, 5, " must be nothing, not int (5)"),
    (NDArray[np.float64], [1.0], " must be a numpy array of float64, not list"),
]


@pytest.mark.parametrize(("annotation", "came", "text"), MISFITS, ids=named)
def test_a_value_that_does_not_fit_is_refused_with_its_place(
    annotation: object, came: object, text: str
) -> None:
    """What comes is quoted in one harmless line, with what was expected and where."""
    with pytest.raises(Misfit) as caught:
        check(annotation)(came)
    assert f"{caught.value.path} {caught.value.text}" == text


def test_arrays_are_held_to_their_dtype_and_dimensions() -> None:
    """An annotation that names a dtype, a family of them or a shape is checked."""
    matrix = np.zeros((2, 3))
    floats, any_array = check(NDArray[np.floating[Any]]), check(NDArray[Any])
    flat = check(np.ndarray[tuple[int], np.dtype[np.float64]])
    assert floats(matrix) is any_array(matrix) is check(np.ndarray)(matrix) is matrix
    assert flat(matrix[0]) is not None
    either = check(np.ndarray[Any, np.dtype[np.int32 | np.float64]])
    assert either(matrix) is matrix
    with pytest.raises(Misfit, match="a numpy array of floating, not an array of int64, shape"):
        floats(np.zeros(3, np.int64))
    with pytest.raises(Misfit, match=r"of 1 dimensions of float64, not .* shape \(2, 3\)"):
        flat(matrix)


REFUSED: list[tuple[Any, str]] = [
    (Path, "Path cannot travel; use plain values"),
    (datetime, "datetime cannot travel"),
    (complex, "complex cannot travel"),
    (list[Path], "Path cannot travel"),
    (Path | None, "Path cannot travel"),
    (abc.Iterator[int], "Iterator cannot travel"),
    (np.float64, "float64 cannot travel"),
    (Holder, "Holder.path: Path cannot travel"),
    (list[Holder], "Holder.path: Path cannot travel"),
    (Forgetful, "Forgetful is built from lost, which it does not keep"),
    (Dangling, "a field of Dangling cannot be resolved: name 'Nowhere' is not defined"),
    (Unspeakable, "Unspeakable cannot travel; give its members numbers or texts"),
    (dict[tuple[int, int], int], "tuple[int, int] cannot travel as the key of a map"),
    (dict[Point, int], "Point cannot travel as the key of a map"),
    (5, "5 cannot travel"),
]


@pytest.mark.parametrize(("annotation", "text"), REFUSED, ids=str)
def test_what_cannot_travel_is_refused_by_name(annotation: object, text: str) -> None:
    """A class without a form on the wire is found when the service is offered."""
    with pytest.raises(UsageError) as caught:
        check(annotation)
    assert text in str(caught.value)


@pytest.mark.parametrize("annotation", [Any, object, T, Annotated[Any, 1], NewType("N", object)])
def test_what_may_be_anything_is_not_checked(annotation: object) -> None:
    """A call pays nothing for it."""
    assert Reader().check(annotation) is UNCHECKED


def test_text_is_resolved_where_it_was_written() -> None:
    """Annotations may be text, inside others too; unknown names are refused."""
    assert resolve("list[Point]", globals()) == resolve(list["Point"], globals()) == list[Point]
    assert resolve(None, {}) is type(None)
    with pytest.raises(UsageError, match="cannot be resolved: name 'Nowhere' is not defined"):
        resolve("Nowhere", globals())
    with pytest.raises(UsageError, match="cannot be resolved"):
        resolve("1 +", globals())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Buffer is new in Python 3.12")
def test_a_buffer_is_bytes_however_they_arrive() -> None:
    """Nothing is copied for it."""
    view = memoryview(b"a")
    buffer = check(getattr(abc, "Buffer"))  # noqa: B009 - checked as Python 3.11, which has none
    assert buffer(view) is view
    assert buffer(b"a") == b"a"
    with pytest.raises(Misfit, match="must be bytes, not str"):
        buffer("a")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements are new in Python 3.12")
def test_type_statements_are_read_and_may_contain_themselves() -> None:
    """`type Json = ...` is an annotation like its value."""
    names: dict[str, Any] = {}
    exec("type Json = dict[str, Json] | list[Json] | int\ntype Two[T] = tuple[T, T]", names)
    json = check(names["Json"])
    assert json({"a": [1, {"b": 2}]}) == {"a": [1, {"b": 2}]}
    with pytest.raises(Misfit):
        json({"a": [1, {"b": "c"}]})
    assert check(names["Two"][int])([1, 2]) == (1, 2)
    with pytest.raises(Misfit):
        check(names["Two"][int])([1, "a"])


def test_a_constructor_that_refuses_is_the_cause() -> None:
    """What a dataclass's own check raised is kept, with its place."""
    with pytest.raises(Misfit) as caught:
        check(list[Picky])([{"n": 1}, {"n": -1}])
    assert caught.value.path == "[1]"
    assert str(caught.value.cause) == "n is negative"


def test_nothing_of_a_class_is_called_but_a_dataclass_constructor() -> None:
    """Named tuples and enums are made without their authors' code."""
    called: list[object] = []

    class Loud(NamedTuple):
        a: int

    class Heard(Enum):
        A = 1

        @classmethod
        def _missing_(cls, value: object) -> None:
            called.append(value)

    class Louder(Loud):
        def __new__(cls, a: int) -> Self:
            called.append(a)
            return super().__new__(cls, a)

    assert type(check(Louder)([1])) is Louder
    with pytest.raises(Misfit):
        check(Heard)(2)
    assert called == []


INTEGERS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
FLOATS = st.floats(allow_nan=False)
POINTS = st.builds(Point, FLOATS, FLOATS)
Typed = tuple[Any, st.SearchStrategy[Any]]
LEAVES: list[Typed] = [
    (int, INTEGERS),
    (float, FLOATS),
    (str, TEXTS),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=10)),
    (Color, st.sampled_from(Color)),
    (Size, st.sampled_from(Size)),
    (Access, st.sampled_from([Access(n) for n in range(4)])),
    (Literal["a", 7], st.sampled_from(["a", 7])),
    (Point, POINTS),
    (Shape, st.builds(Shape, TEXTS, st.lists(POINTS, max_size=3), st.sampled_from(Color))),
    (Pair, st.builds(Pair, INTEGERS, st.sampled_from(Color))),
]
KEYS = LEAVES[:3] + LEAVES[4:8]


def of(kind: Any, *arguments: Any) -> Any:  # noqa: ANN401 - for a type checker there is no such type
    """Put arguments into a generic type."""
    return kind[arguments]


def wider(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    """Build annotations, and values of theirs, around others."""
    two = st.tuples(inner, inner)
    keyed = st.tuples(st.sampled_from(KEYS), inner)
    return st.one_of(
        inner.map(lambda t: (of(list, t[0]), st.lists(t[1], max_size=3))),
        inner.map(lambda t: (of(tuple, t[0], ...), st.lists(t[1], max_size=3).map(tuple))),
        two.map(lambda t: (of(tuple, t[0][0], t[1][0]), st.tuples(t[0][1], t[1][1]))),
        keyed.map(lambda t: (of(dict, t[0][0], t[1][0]), st.dictionaries(t[0][1], t[1][1]))),
        inner.map(lambda t: (t[0] | None, st.none() | t[1])),
        inner.map(lambda t: (of(Box, t[0]), st.builds(Box, t[1], st.lists(t[1], max_size=2)))),
    )


ANNOTATIONS = st.recursive(st.sampled_from(LEAVES), wider, max_leaves=4)


@settings(deadline=None)
@given(st.data())
def test_what_was_sent_is_what_arrives(data: st.DataObject) -> None:
    """Any value of any annotation comes through the codec and its check as an equal one."""
    annotation, values = data.draw(ANNOTATIONS)
    value = data.draw(values)
    arrived = check(annotation)(unpack_value(pack_value(value)))
    assert arrived == value
    assert repr(arrived) == repr(value)  # 1 and 1.0 and True are equal too


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(lambda: memoryview(bytearray(8)))  # can be written to, so it has no hash
    | st.builds(lambda: np.zeros((2, 2))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "y", "name", "value"]) | st.integers(), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(ANNOTATIONS, PLAIN)
def test_no_plain_value_gets_past_with_another_error(annotated: Typed, value: object) -> None:
    """Whatever comes either fits or is a misfit."""
    try:
        check(annotated[0])(value)
        said = ""
    except Misfit as misfit:
        said = misfit.path + misfit.text
    assert said.isprintable()


def test_dataclasses_and_enums_travel_as_plain_values() -> None:
    """The wire has maps and values, so both ends need no registry."""
    shape = Shape("s", [Point(1.0, 2.0)], Color.BLUE)
    assert unpack_value(pack_value({"it": shape, "size": Size.LARGE})) == {
        "it": {"name": "s", "points": [{"x": 1.0, "y": 2.0}], "color": "blue"},
        "size": 2,
    }


def test_a_dataclass_that_contains_itself_cannot_be_sent() -> None:
    """A circle has no end; it is refused before anything is sent."""
    tree = Tree(1)
    tree.children.append(tree)
    with pytest.raises(LocalProtocolError, match="recursion limit"):
        pack_value(tree)


def test_an_unfinished_dataclass_cannot_be_sent() -> None:
    """A field that was never set is named."""
    with pytest.raises(LocalProtocolError, match="cannot send a Point that is not complete.*'x'"):
        pack_value(Point.__new__(Point))
    with pytest.raises(LocalProtocolError, match="cannot send a type"):
        pack_value(Point)
