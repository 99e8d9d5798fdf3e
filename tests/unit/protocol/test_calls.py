import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.calls import (
    pack_call,
    pack_error_reply,
    pack_value_reply,
    unpack_call,
    unpack_reply,
)
from protocol.codec import new_packer, pack_value
from protocol.errors import LocalProtocolError, RemoteError, RemoteProtocolError

PACK = new_packer()


class TestCalls:
    def test_a_call_arrives_as_it_was_made(self) -> None:
        """
        Service, method, arguments and deadline reach the callee.
        """
        frame = pack_call(PACK, 3, "math", "add", (1, 2), {"c": 4}, 9.5, [[1, 2, "a"]])

        assert unpack_call(frame) == (3, "math", "add", [1, 2], {"c": 4}, 9.5, [[1, 2, "a"]])
        assert unpack_call(pack_call(PACK, 3, "math", "add", (), {}, 9.5, ()))[4] is None

    def test_an_argument_that_cannot_travel_is_named(self) -> None:
        """
        The caller is told in which call the trouble was.
        """
        with pytest.raises(LocalProtocolError, match=r"math\.add: an argument cannot travel"):
            pack_call(PACK, 3, "math", "add", ({1},), {}, 9.5, ())

    @pytest.mark.parametrize(
        "parts",
        [
            5,
            [],
            [1, "s", "m", [], None],
            [True, "s", "m", [], None, 1.0],
            ["1", "s", "m", [], None, 1.0],
            [1, b"s", "m", [], None, 1.0],
            [1, "s", 5, [], None, 1.0],
            [1, "s", "m", {}, None, 1.0],
            [1, "s", "m", [], [], 1.0],
            [1, "s", "m", [], None, 1],
        ],
        ids=repr,
    )
    def test_what_is_no_call_is_refused(self, parts: object) -> None:
        """
        Every part of a call has its type.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_call(pack_value(parts))


class TestReplies:
    def test_a_value_comes_back(self) -> None:
        """
        A reply carries its call's number and the value.
        """
        assert unpack_reply(pack_value_reply(PACK, 4, [1])) == (4, [1], None)
        assert unpack_reply(pack_value_reply(PACK, 4, None)) == (4, None, None)

    def test_an_error_comes_back(self) -> None:
        """
        A reply carries an error of the class that the callee gave it.
        """
        number, value, error = unpack_reply(
            pack_error_reply(PACK, 4, RemoteError("math.add", "ValueError", "no \udcff"))
        )

        assert (number, value) == (4, None)
        assert isinstance(error, RemoteError)
        assert error.type_name == "ValueError"

    def test_a_result_that_cannot_travel_is_refused(self) -> None:
        """
        The callee finds out before it sends anything.
        """
        with pytest.raises(LocalProtocolError, match="the result cannot travel"):
            pack_value_reply(PACK, 4, object())

    @pytest.mark.parametrize(
        "parts",
        [
            5,
            [1, 0],
            ["1", 0, 5],
            [1, 2, 5],
            [1, False, 5],
            [1, 1, "UsageError"],
            [1, 1, "UsageError", "text"],
            [1, 1, "UsageError", [], 5],
            [1, None, None],
        ],
        ids=repr,
    )
    def test_what_is_no_reply_is_refused(self, parts: object) -> None:
        """
        Every part of a reply has its type.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_reply(pack_value(parts))

    def test_an_array_in_the_wrong_place_is_refused(self) -> None:
        """
        A callee cannot make its caller compare an array.
        """
        numpy = pytest.importorskip("numpy")
        with pytest.raises(RemoteProtocolError):
            unpack_reply(pack_value([1, numpy.zeros(3), 5]))

    @given(st.binary(max_size=60))
    def test_nonsense_breaks_nothing(self, frame: bytes) -> None:
        """
        Random bytes are a call, a reply or the sender's fault.
        """
        for unpack in (unpack_call, unpack_reply):
            try:
                unpack(frame)
            except RemoteProtocolError:
                continue
