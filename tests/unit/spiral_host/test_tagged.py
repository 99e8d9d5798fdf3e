"""Events as lines of JSON: whatever can travel comes back as it would have arrived."""

import dataclasses
import enum
import json
import math
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import pack_value, unpack_value
from protocol.errors import LocalProtocolError, UsageError
from protocol.events import BUILT_IN, PluginEvent
from spiral_host.tagged import LINE_START, MAX_LINE, from_line, to_line


@dataclasses.dataclass
class Point:
    x: float
    y: object


class Colour(str, enum.Enum):  # noqa: UP042 - it is what many have, and prints differently
    RED = "red"


numbers = st.integers(-(2**63), 2**64 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.one_of(texts, texts.map("${}".format), numbers, st.booleans(), st.binary())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.floats(), texts, st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(keys, inner)),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any two values
    """Compare, with types, NaN and the order of maps."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same([*map(list, one.items())], [*map(list, other.items())])
    return bool(one == other)


def again(data: object) -> Any:  # noqa: ANN401 - whatever it was
    """Give what a custom event's data has become."""
    event = from_line(to_line(PluginEvent.custom("X", data)))
    return event.to_dict()["data"]


class TestRoundTrip:
    @given(values)
    def test_what_travels_comes_back(self, data: object) -> None:
        """
        Plain values are what they were, to the type and the last bit; a line is one line of ASCII.
        """
        line = to_line(PluginEvent.custom("X", data))

        assert line.isascii()
        assert line.startswith(LINE_START)
        assert line.index(b"\n") == len(line) - 1
        assert same(again(data), data)

    @given(values)
    def test_it_is_what_the_bus_gives(self, data: object) -> None:
        """
        A recording and a subscriber are given the same.
        """
        assert same(again(data), unpack_value(pack_value(data)))

    @pytest.mark.parametrize(
        ("data", "becomes"),
        [
            ((1, (2,)), [1, [2]]),
            (Point(1.0, Point(2.0, b"z")), {"x": 1.0, "y": {"x": 2.0, "y": b"z"}}),
            (Colour.RED, "red"),
            (bytearray(b"x"), b"x"),
            (np.float64(0.5), 0.5),
            (np.int32(7), 7),
            (np.bool_(True), True),
            (msgpack.Timestamp(5, 6), msgpack.Timestamp(5, 6)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_becomes_plain(self, data: object, becomes: object) -> None:
        """
        What is more than a plain value becomes what a subscriber would be given.
        """
        assert same(again(data), becomes)

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(6.0).reshape(2, 3),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.array([1, 2], dtype=">i4"),
            np.zeros((0, 3), dtype=np.float32),
            np.array(3 + 4j),
            np.array([math.nan, math.inf]),
            np.array(["λ", "ab"]),
            np.array(["2020-01-01"], dtype="M8[D]"),
            np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", ">f8")]),
        ],
        ids=repr,
    )
    def test_arrays(self, array: np.ndarray[Any, Any]) -> None:
        """
        An array comes back with its shape and its values, read-only.
        """
        (found,) = again([array])

        np.testing.assert_array_equal(found, array)
        assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert not found.flags.writeable

    def test_little_end_first(self) -> None:
        """
        Numbers are written in one order, so that other programs need to know only that.
        """
        line = to_line(PluginEvent.custom("X", np.array([1], dtype=">i4")))

        assert b'{"dtype": "<i4", "shape": [1], "data": "AQAAAA=="}' in line

    @pytest.mark.parametrize("kind", BUILT_IN.values(), ids=BUILT_IN)
    def test_built_in_types(self, kind: type[PluginEvent]) -> None:
        """
        Every built-in type is built again, with its stamps.
        """
        names = [f.name for f in dataclasses.fields(kind) if f.init]
        event = kind(**{name: number for number, name in enumerate(names)})
        event.stamp = ("trainer", 7, 1700000000.123456)
        found = from_line(to_line(event))

        assert found == event
        assert found.to_dict() == event.to_dict()


def nested(depth: int) -> object:
    value: object = 1
    for number in range(depth):
        value = [value] if number % 2 else {1: value}
    return value


class TestRefusals:
    @pytest.mark.parametrize(
        "data",
        [{1, 2}, object(), nested(200), nested(5000), "x" * MAX_LINE, np.array([object()])],
        ids=["set", "object", "deep", "deeper", "long", "array of objects"],
    )
    def test_what_cannot_be_written(self, data: object) -> None:
        """
        What the bus would refuse, and what no reader could take, is refused.
        """
        with pytest.raises(LocalProtocolError):
            to_line(PluginEvent.custom("X", data))

    def test_what_is_deep_enough_can_be_read(self) -> None:
        """
        Whatever may be written can be read again.
        """
        assert again(nested(97)) == nested(97)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"{",
            b"\xff",
            b"[]",
            b"{}",
            b'{"type": 1}',
            b"null",
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
        ids=lambda line: line[:8],
    )
    def test_what_is_no_event(self, line: bytes) -> None:
        """
        Whatever is in the line, it is one kind of error.
        """
        with pytest.raises(UsageError, match="holds no event"):
            from_line(line)

    @pytest.mark.parametrize(
        "change",
        [
            {"type": "a\nb"},
            {"type": "EpochStart"},
            {"type": "NotYet", "data": ..., "field": 1},
            {"source": 1},
            {"seq": "1"},
            {"seq": True},
            {"ts": "now"},
            {"ts": {"$float": "nan"}},
            {"ts": ...},
            {"data": {"$what": 1}},
            {"data": {"$bytes": "!"}},
            {"data": {"$bytes": 1}},
            {"data": {"$bytes": "", "more": 1}},
            {"data": {"$float": "1"}},
            {"data": {"$map": [[1]]}},
            {"data": {"$map": [[[], 1]]}},
            {"data": {"$time": ["1"]}},
            {"data": {"$array": {"dtype": "O", "shape": [1], "data": "AAAAAAAAAAA="}}},
            {"data": {"$array": {"dtype": "<f8", "shape": [2], "data": "AAAAAAAAAAA="}}},
            {"data": {"$array": {}}},
        ],
        ids=str,
    )
    def test_what_lies(self, change: dict[str, object]) -> None:
        """
        A line that is JSON and still no event is refused, with a reason; `...` leaves a key out.
        """
        row = {"type": "X", "data": 1, "source": "", "seq": 1, "ts": 1.0, **change}
        row = {key: value for key, value in row.items() if value is not ...}

        with pytest.raises(UsageError, match=r".{10}"):
            from_line(json.dumps(row).encode())

    @given(st.binary())
    def test_any_bytes(self, line: bytes) -> None:
        """
        Nothing else ever comes of a line than an event or that error.
        """
        with pytest.raises(UsageError):
            from_line(line)
