import datetime as dt
import enum
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import default, new_packer, unpack_value
from protocol.errors import ProtocolError
from protocol.places import explain, explain_arguments, explain_result, max_levels


class Colour(enum.Enum):
    """An enum that travels as its value."""

    RED = 1


class Odd(enum.Enum):
    """An enum whose value is no plain one."""

    RED = Colour.RED
    SET = frozenset({1})


@dataclass
class Point:
    """A record, which may hold anything."""

    x: object = 0
    y: object = 0


@dataclass
class Bare:
    """A record that has nothing until it is built."""

    x: int


class Number(enum.IntEnum):
    """An enum that is a number."""

    ONE = 1


class Unreadable:
    """A key that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


class Moody(dict[str, object]):
    """A map that raises when it is read."""

    def items(self) -> Any:  # noqa: ANN401
        """Raise."""
        raise RuntimeError


def travels(value: object) -> bool:
    try:
        unpack_value(new_packer()([7, 0, value]))
    except (ValueError, TypeError, OverflowError, BufferError, ProtocolError):
        return False
    return True


def nested(levels: int, innermost: object) -> object:
    for _ in range(levels):
        innermost = [innermost]
    return innermost


def circle() -> dict[str, object]:
    inner: dict[str, object] = {}
    inner["back"] = (1, inner)
    return {"a": inner}


def self_made() -> Point:
    point = Point()
    point.x = [point]
    return point


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.floats()
    | st.text(st.characters(), max_size=4)
    | st.binary(max_size=4)
    | st.sampled_from([Number.ONE, np.float32(1), np.int64(1), msgpack.Timestamp(1)])
)
ODD = st.sampled_from(
    [
        Colour.RED,
        Odd.RED,
        Odd.SET,
        Point(),
        Point(1, {2}),
        Point([Point()], Colour),
        object(),
        {1},
        frozenset({1}),
        np.zeros(2),
        np.zeros((2, 0), "M8[s]"),
        np.array(3),
        np.array([object()]),
        np.datetime64("2020", "s"),
        memoryview(b"abcd"),
        memoryview(b"abcd")[::2],
        msgpack.ExtType(5, b""),
        1j,
        len,
    ]
)
KEYS = SCALARS | st.tuples(SCALARS) | st.sampled_from([Colour.RED, Odd.RED, memoryview(b"k"), ()])
VALUES = st.recursive(
    SCALARS | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(SCALARS | KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)

PLACES: list[tuple[object, str]] = [
    ({1, 2}, "result: a set; send a sorted list"),
    ([1, {"x": [0, {3}]}], "result[1]['x'][1]: a set; send a sorted list"),
    ({"n": 2**70}, "result['n']: an integer of more than 64 bits; send text"),
    ((0, "no \udcff"), r"result[1]: text with half a character, '\udcff' at 3; send bytes"),
    ({"a": {(1, 2): 3}}, "result['a']: its key (1, 2) is a tuple; use text or numbers as keys"),
    ({"a": 1, "\udcff": 1}, r"result: its key '\udcff' is text with half a character"),
    ({Unreadable(): 1}, "result: its key ? is an Unreadable; use text or numbers as keys"),
    ([np.array([None])], "result[0]: an array of Python objects; give it a plain dtype"),
    ([object()], "result[0]: an object; send plain values or arrays"),
    ([Colour.RED, {Colour.RED: Point()}], ""),
    ([Odd.RED], "result[0]: an Odd; send plain values or arrays"),
    ({Odd.SET: 1}, "result: its key <Odd.SET: frozenset({1})> is an Odd; use text or numbers"),
    ([Point(1, [{2}])], "result[0].y[0]: a set; send a sorted list"),
    ([Bare.__new__(Bare)], "result[0]: a Bare that is not complete: "),
    ([self_made()], "result[0].x[0]: a Point that contains itself"),
    ([lambda: 0], "result[0]: a function; send plain values or arrays"),
    ((i for i in range(2)), "result: a generator; send a list, or yield the items"),
    ([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], "result[0]: a datetime; send its iso"),
    ([PurePosixPath("/a")], "result[0]: a PurePosixPath; send"),
    ([memoryview(b"abcd")[::2]], "result[0]: a memoryview with gaps; send bytes"),
    ([msgpack.ExtType(9, b"x")], "result[0]: an extension of msgpack; send plain values"),
    ([[], {"a": []}, circle()], "result[2]['a']['back'][1]: a dict that contains itself"),
    ([Number.ONE, float("nan"), np.float64(1), np.str_("x")], ""),
]


class TestExplain:
    @pytest.mark.parametrize(("value", "place"), PLACES, ids=map(str, range(len(PLACES))))
    def test_the_first_bad_place_is_named(self, value: object, place: str) -> None:
        """
        The way to what cannot travel, what it is, and what to send instead, in one line.
        """
        found = explain_result(value) or ""

        assert found.startswith(place)
        assert bool(found) == bool(place)
        assert "\n" not in found

    def test_the_first_of_several_is_named(self) -> None:
        """
        Order is the packer's own: what comes first is named first, a key before its value.
        """
        assert str(explain_result([1, {"a": 1, "b": {2}}, {3}])).startswith("result[1]['b']")
        assert str(explain_result({"a": [1], (1,): {2}})).startswith("result: its key")

    @given(VALUES)
    def test_what_is_refused_has_a_place_and_what_travels_has_none(self, value: object) -> None:
        """
        The search agrees with the packer and the unpacker about every value.
        """
        assert (explain_result(value) is None) == travels(value)

    def test_nesting_ends_where_packing_does(self) -> None:
        """
        The limit is the real one, and a place too deep is written short.
        """
        room = max_levels() - 1

        for levels, innermost in [(room, 1), (room - 1, []), (room - 1, {})]:
            value = nested(levels, innermost)
            assert travels(value)
            assert explain_result(value) is None
            assert not travels([value])
            found = str(explain_result([value]))
            assert f"nested deeper than {room} levels" in found
            assert "[0]...[0]" in found
            assert len(found) < 200

    def test_the_same_thing_twice_is_no_circle(self) -> None:
        """
        Only what contains itself is refused; what stands side by side is sent twice.
        """
        shared: list[object] = [1]

        assert explain_result([shared, {"a": shared}, shared]) is None

    def test_endless_values_are_not_searched_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        What lies behind very many items is not looked for, and large arrays are not copied.
        """
        monkeypatch.setattr("protocol.places.MAX_ITEMS", 1000)

        assert explain_result([[0] * 900, {1}]) is not None
        assert explain_result([[0] * 1000, {1}]) is None

        large = np.zeros(1 << 28, "u1")
        started = time.process_time()
        assert explain_result([large] * 200) is None
        assert time.process_time() - started < 1.0

    def test_a_container_that_raises_has_no_place(self) -> None:
        """
        Whatever a value does when it is read, the answer is an answer.
        """
        assert explain_result([Moody(a=1)]) is None

    def test_the_name_is_the_askers(self) -> None:
        """
        Values that are neither arguments nor results have names too.
        """
        assert str(explain("item", [{1}])).startswith("item[0]: a set")


class TestArguments:
    def test_arguments_are_named_by_place_and_by_name(self) -> None:
        """
        Positional ones first, as they lie in the frame.
        """
        assert str(explain_arguments((1, {2}), {"x": {2}})).startswith("arguments[1]: a set")
        assert str(explain_arguments((1,), {"x": [{2}]})).startswith("keywords['x'][0]: a set")
        assert explain_arguments((1,), {"x": [2]}) is None

    def test_what_the_lane_can_pack_is_not_refused(self) -> None:
        """
        A lane that carries more than the plain codec says so by its own packer.
        """

        def turn(value: object) -> object:
            return 7 if callable(value) else default(value)

        assert explain_arguments([len], {}, turn) is None
        assert "arguments[1]: a set" in str(explain_arguments([len, {1}], {}, turn))
        assert "arguments[0]: a builtin_function" in str(explain_arguments([len, {1}], {}))
