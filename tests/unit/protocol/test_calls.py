import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.calls import Code, call_parts, error_of, error_parts, head_of, is_call
from protocol.codec import new_packer, unpack_value
from protocol.errors import (
    RemoteError,
    RemoteProtocolError,
    SpiralHostError,
    UsageError,
)
from protocol.turn import MAX_CHAIN

LINK = [1, 2, "a"]


def sent(*parts: object) -> list[object]:
    """Give parts as they arrive."""
    arrived: list[object] = msgpack.unpackb(msgpack.packb(parts))
    return arrived


class TestCall:
    def test_a_call_arrives_as_it_was_made(self) -> None:
        """
        Service, method, arguments, deadline and chain reach the callee.
        """
        parts = sent(*call_parts(3, "math", "add", (1, 2), {"c": 4}, 9.5, [LINK]))

        assert is_call(parts)
        assert parts == [3, "math", "add", [1, 2], {"c": 4}, 9.5, [LINK]]

    def test_what_is_not_there_takes_no_room(self) -> None:
        """
        No keywords and no chain travel as nothing.
        """
        assert sent(*call_parts(3, "math", "add", (), {}, 9.5, ()))[4:] == [None, 9.5, None]

    @pytest.mark.parametrize(
        "parts",
        [
            [True, "s", "m", [], None, 1.0, None],
            ["1", "s", "m", [], None, 1.0, None],
            [1, b"s", "m", [], None, 1.0, None],
            [1, "s", 5, [], None, 1.0, None],
            [1, "s", "m", {}, None, 1.0, None],
            [1, "s", "m", [], [], 1.0, None],
            [1, "s", "m", [], None, 1, None],
            [1, "s", "m", [], None, float("inf"), None],
            [1, "s", "m", [], None, float("nan"), None],
            [1, "s", "m", [], None, 1.0, {}],
            [1, "s", "m", [], None, 1.0, [LINK] * (MAX_CHAIN + 1)],
            [1, "s", "m", [], None, 1.0, [[1, 2]]],
            [1, "s", "m", [], None, 1.0, [[1, 2, 3]]],
            [1, "s", "m", [], None, 1.0, [[True, 2, "a"]]],
            [1, "s", "m", [], None, 1.0, [None]],
            [1, "s", "m", [], None, 1.0],
            [1, "s", "m", [], None, 1.0, None, None],
        ],
        ids=repr,
    )
    def test_what_is_no_call_is_refused(self, parts: object) -> None:
        """
        Every part of a call has its type, and its chain an end.
        """
        with pytest.raises(RemoteProtocolError):
            is_call(parts)


class TestWords:
    @pytest.mark.parametrize(
        "parts",
        [[1, 0, "x"], [1, 1, "k", []], [1, 2], [1, 3, None], [1, 4], [1, 5, 9], [0, 6, [1]]],
        ids=repr,
    )
    def test_words_are_no_calls(self, parts: object) -> None:
        """
        What is said about a call is told from a call by its second part.
        """
        assert not is_call(parts)

    @pytest.mark.parametrize(
        "parts",
        [
            5,
            None,
            [],
            [1],
            {0: 1},
            [1, 0],
            [1, 0, 1, 1],
            [1, 1, "k"],
            [1, 2, 0],
            [1, 4, 0],
            [1, len(Code), 0],
            [1, -1],
            [1, False, 5],
            [1, 0.0, 5],
            [1, None, 5],
            ["1", 0, 5],
            [True, 0, 5],
        ],
        ids=repr,
    )
    def test_what_is_no_word_is_refused(self, parts: object) -> None:
        """
        Every word has its code and its length.
        """
        with pytest.raises(RemoteProtocolError):
            is_call(parts)

    def test_an_array_in_the_wrong_place_is_refused(self) -> None:
        """
        The other side cannot have us compare an array.
        """
        numpy = pytest.importorskip("numpy")
        for parts in ([1, numpy.zeros(3), 5], [numpy.zeros(3), 0, 5]):
            with pytest.raises(RemoteProtocolError):
                is_call(parts)

    @given(st.binary(max_size=60))
    def test_nonsense_breaks_nothing(self, frame: bytes) -> None:
        """
        Random bytes are a call, a word or the sender's fault.
        """
        try:
            assert is_call(unpack_value(frame)) in {True, False}
        except RemoteProtocolError:
            return


class TestErrors:
    def test_an_error_arrives_as_it_was_said(self) -> None:
        """
        A word carries an error of the class that the callee gave it.
        """
        error = error_of(sent(*error_parts(4, RemoteError("math.add", "ValueError", "no"))))

        assert isinstance(error, RemoteError)
        assert (error.call, error.type_name, error.text) == ("math.add", "ValueError", "no")
        assert isinstance(error_of(sent(*error_parts(4, UsageError("no")))), UsageError)

    @pytest.mark.parametrize(
        "parts",
        [[4, 1, 5, []], [4, 1, "UsageError", "text"], [4, 1, "UsageError", None]],
        ids=repr,
    )
    def test_what_is_no_error_is_refused(self, parts: list[object]) -> None:
        """
        The fields of an error are a list.
        """
        with pytest.raises(RemoteProtocolError):
            error_of(parts)

    @pytest.mark.parametrize("fields", [[], [1, None, [2]], ["x"] * 9])
    def test_odd_fields_are_some_error(self, fields: list[object]) -> None:
        """
        Whatever the fields are, the caller gets one error of ours.
        """
        assert isinstance(error_of([4, 1, "WorkerLost", fields]), SpiralHostError)


VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.tuples(st.integers(0, 9)), inner)
    ),
    max_leaves=5,
)


class TestHeadOf:
    @given(st.integers(1, 2**64 - 1), st.lists(VALUES, min_size=2, max_size=6))
    def test_a_frame_that_cannot_be_read_has_a_number(
        self, number: int, parts: list[object]
    ) -> None:
        """
        Lists as keys, and nesting too deep, do not hide which call it is about.
        """
        assert head_of(new_packer()([number, 0, *parts])) == (number, False)
        with pytest.raises(RemoteProtocolError):
            unpack_value(frame := new_packer()([number, "a", {(1, 2): 3}]))
        assert head_of(frame) == (number, True)
        assert head_of(b"\x93\x07\x00" + b"\x91" * 2000 + b"\xc0") == (7, False)

    @given(st.binary(max_size=40) | VALUES.map(new_packer()))
    def test_anything_else_has_none(self, frame: bytes) -> None:
        """
        Whatever arrives, the answer is a number that a call can have, or none.
        """
        head = head_of(frame)

        assert head is None or (type(head[0]) is int and head[0] > 0)

    @pytest.mark.parametrize(
        "parts", [[], [7], ["7", 0, 0], [True, 0, 0], [0, 6, []], [-1, 0, 0], 7, {7: 0}]
    )
    def test_what_is_about_no_call_has_none(self, parts: object) -> None:
        """
        Only a list led by a call's number is about that call.
        """
        assert head_of(new_packer()(parts)) is None
        assert head_of(b"") is None
