import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.arrays import ARRAY
from protocol.codec import pack_value, unpack_value
from protocol.errors import LocalProtocolError, RemoteProtocolError
from tests.cases import named


def header(dtype: object, shape: object) -> bytes:
    head: bytes = msgpack.packb([dtype, shape, b""])
    return len(head).to_bytes(2, "big") + head


DEEP: object = "f8"
for _ in range(40):
    DEEP = [DEEP, [1]]


def columns(dtype: np.dtype[np.void]) -> int:
    """Count the bytes that belong to a column."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return columns(base) * int(np.prod(shape))
    if dtype.fields is None:
        return dtype.itemsize
    return sum(columns(field[0]) for field in dtype.fields.values())


class TestArrays:
    @pytest.mark.parametrize(
        "array",
        [
            np.arange(6, dtype="f4").reshape(2, 3),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.arange(10)[::2],
            np.zeros((0, 3)),
            np.array(7),
            np.array([1, 2], ">i4"),
            np.array([True, False]),
            np.array(["a", "bc"]),
            np.array(["2020-01-01"], "M8[D]"),
            np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
            np.zeros(2, [("a", "f4", (3,))]),
            np.zeros(1, [("a", [("b", "f8")])]),
            np.zeros(1, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
            np.zeros(1, [(("title", "a"), "f4")]),
            np.array([1 + 2j]),
        ],
        ids=lambda array: f"{array.dtype.str}{array.shape}",
    )
    def test_an_array_arrives_as_it_was_sent(self, array: NDArray[np.generic]) -> None:
        """
        Type, shape and values arrive; the array is read-only.
        """
        arrived = unpack_value(pack_value({"x": array}))["x"]

        assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
        assert np.array_equal(arrived, array)
        assert not arrived.flags.writeable

    @pytest.mark.parametrize(
        "dtype",
        [
            np.dtype([("a", "i1"), ("b", "f8")], align=True),
            np.dtype({"names": ["a"], "formats": ["i1"], "offsets": [5], "itemsize": 16}),
            np.dtype({"names": [], "formats": [], "offsets": [], "itemsize": 64}),
            np.dtype([("a", np.dtype([("b", "i1"), ("c", "i4")], align=True), (3,))]),
            np.dtype([("a", [], (3,)), ("b", "i1", (0,)), ("c", "i2")]),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("step", [1, 2])
    def test_nothing_travels_between_columns(self, dtype: np.dtype[np.void], step: int) -> None:
        """
        There lies whatever the process had there before: a password, an address.
        """
        array = np.frombuffer(b"s" * dtype.itemsize * 20, dtype)[::step]
        body = pack_value(array)[-array.nbytes :]

        assert body.count(b"s"[0]) == (20 // step) * columns(dtype)
        assert set(body) <= {0, b"s"[0]}

    @pytest.mark.parametrize(
        ("scalar", "plain"), [(np.float32(1.5), 1.5), (np.int8(-3), -3), (np.bool_(1), True)]
    )
    def test_a_numpy_number_arrives_plain(self, scalar: np.generic, plain: object) -> None:
        """
        A single number needs no numpy on the other side.
        """
        arrived = unpack_value(pack_value(scalar))

        assert arrived == plain
        assert type(arrived) is type(plain)

    @pytest.mark.parametrize(
        "value",
        [
            np.array([object()]),
            np.array([{"a": 1}, None]),
            np.zeros(1, [("a", "O")]),
            np.zeros(1, [("a", [("b", "O")])]),
            np.zeros(1, np.dtype({"names": ["a"], "formats": ["f4"], "titles": [7]})),
            np.zeros((1,) * 33),
            np.zeros(2, "V0"),
            np.dtype("f8"),
            np.complex64(1j),
            np.float64,
        ],
        ids=lambda value: named(value)[:50],
    )
    def test_what_cannot_be_built_again_is_not_sent(self, value: object) -> None:
        """
        Objects never travel, nor columns that the other side could not describe.
        """
        with pytest.raises(LocalProtocolError):
            pack_value(value)

    def test_a_type_that_a_library_added(self) -> None:
        """
        numpy would build plain bytes of it on the other side, so its owner has to say what it is.
        """
        rational = pytest.importorskip("numpy._core._rational_tests").rational
        with pytest.raises(LocalProtocolError, match="send a view of plain numbers"):
            pack_value(np.zeros(1, rational))

    @pytest.mark.parametrize("name", ["a", "ab", "abc" * 9])
    def test_it_is_aligned(self, name: str) -> None:
        """
        However long its description is, numpy can read the numbers as they lie.
        """
        arrived = unpack_value(pack_value(np.zeros(3, [(name, "f8")])))

        assert arrived.ctypes.data % 16 == 0

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\0",
            b"\0\0",
            b"\xff\xff",
            header("<f8", [2]) + bytes(8),
            header("<f8", [1]) + bytes(9),
            header("<f8", [-1, -1]) + bytes(8),
            header("<f8", [-1]) + bytes(8),
            header("<f8", 1) + bytes(8),
            header("O", [1]) + bytes(8),
            header([["a"], ["O"], [0], 8, [None]], [1]) + bytes(8),
            header([["a"], ["f8"], [1], 8, [None]], [1]) + bytes(8),
            header([["a"], ["f8"], [0], 8], [1]) + bytes(8),
            header(["f8", [2**40]], [1]) + bytes(8),
            header(DEEP, [1]) + bytes(8),
            header("<f8", [1] * 33) + bytes(8),
            header("nonsense", [1]) + bytes(8),
            header(None, [1]) + bytes(8),
            header("V0", [1]),
            header("<f8", ["x"]) + bytes(8),
            header("<f8", [True]) + bytes(8),
            header("<f8", [1.0]) + bytes(8),
            header("(2,)f4", [1]) + bytes(8),
            header("i4,i4", [1]) + bytes(8),
            header(" " * 100 + "<f8", [1]) + bytes(8),
            header("<f8", [2**62, 2**62]) + bytes(8),
        ],
        ids=lambda body: repr(body[:20]),
    )
    def test_a_header_that_lies_is_refused(self, body: bytes) -> None:
        """
        What does not fit its bytes, or would build objects, is the sender's fault.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_value(msgpack.packb(msgpack.ExtType(ARRAY, body)))

    @given(st.binary(max_size=40))
    def test_nonsense_breaks_nothing(self, body: bytes) -> None:
        """
        Random bytes are an array or the sender's fault.
        """
        try:
            unpack_value(msgpack.packb(msgpack.ExtType(ARRAY, body)))
        except RemoteProtocolError:
            return
