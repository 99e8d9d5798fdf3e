from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import (
    MAX_MESSAGE,
    MAX_REQUEST,
    Conversation,
    new_packer,
    pack_value,
    unpack_value,
)
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.messages import (
    FROM_CLIENT,
    FROM_ENDPOINT,
    FROM_NODE,
    FROM_WORKER,
    HELLO,
    TO_CLIENT,
    TO_ENDPOINT,
    TO_NODE,
    TO_WORKER,
    CallbacksRan,
    GetConfig,
    Share,
)
from protocol.subscriptions import MAX_FAILURES
from tests.cases import named

CONVERSATIONS: list[Conversation[Any]] = [
    FROM_CLIENT,
    FROM_ENDPOINT,
    FROM_NODE,
    FROM_WORKER,
    HELLO,
    TO_CLIENT,
    TO_ENDPOINT,
    TO_NODE,
    TO_WORKER,
]
INTEGERS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | TEXTS | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS | INTEGERS, inner),
    max_leaves=20,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A message inside a message."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Whole:
    """A message with a field of every shape."""

    number: int
    ratio: float
    flag: bool
    raw: bytes
    maybe: str | None
    parts: tuple[Part, ...]
    table: Mapping[str, float]
    anything: object


@dataclass(frozen=True, slots=True)
class Picky:
    """A message that checks itself."""

    even: int

    def __post_init__(self) -> None:
        if self.even % 2:
            raise ValueError("odd")


TALK: Conversation[Whole | Picky] = Conversation("talk", {1: Whole, 2: Picky})


class TestValues:
    @given(VALUES)
    def test_a_value_arrives_as_it_was_sent(self, value: object) -> None:
        """
        Any plain value survives the journey.
        """
        assert unpack_value(pack_value(value)) == value

    @given(st.binary(max_size=300))
    def test_random_bytes_break_nothing(self, body: bytes) -> None:
        """
        Whatever arrives is a value or the sender's fault, and nothing else.
        """
        try:
            unpack_value(body)
        except RemoteProtocolError:
            return

    @given(VALUES, st.data())
    def test_a_damaged_value_breaks_nothing(self, value: object, data: st.DataObject) -> None:
        """
        A value with one byte changed is a value or the sender's fault.
        """
        body = bytearray(pack_value([value]))
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
        try:
            unpack_value(bytes(body))
        except RemoteProtocolError:
            return

    @pytest.mark.parametrize(
        "value", [{1, 2}, object(), 2**64, -(2**64), "\udcff", 1j, b"x".__class__], ids=named
    )
    def test_what_cannot_travel_stays_here(self, value: object) -> None:
        """
        A value without a plain form is refused before anything is sent.
        """
        with pytest.raises(LocalProtocolError):
            pack_value([value])

    def test_a_packer_can_be_used_after_a_failure(self) -> None:
        """
        A value that was refused leaves nothing behind in the packer.
        """
        pack = new_packer()
        with pytest.raises(LocalProtocolError):
            pack(["half", {1, 2}])

        assert unpack_value(pack("whole")) == "whole"

    @pytest.mark.parametrize("depth", [1025, 100_000])
    def test_nesting_has_a_limit(self, depth: int) -> None:
        """
        Lists within lists without end do not overflow the stack.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_value(b"\x91" * depth + b"\xc0")

    @pytest.mark.parametrize(
        "body", [b"\xc7\x00\x05", b"\xd4\x02x", b"\x81\x90\x01", b"", b"\x01\x01"]
    )
    def test_odd_values_are_refused(self, body: bytes) -> None:
        """
        Unknown extensions, lists as keys, nothing, and two values at once are no value.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_value(body)


class TestConversation:
    @given(
        st.builds(
            Whole,
            number=INTEGERS,
            ratio=st.floats(allow_nan=False),
            flag=st.booleans(),
            raw=st.binary(),
            maybe=st.none() | TEXTS,
            parts=st.lists(st.builds(Part, TEXTS, INTEGERS)).map(tuple),
            table=st.dictionaries(TEXTS, st.floats(allow_nan=False)),
            anything=VALUES,
        )
    )
    def test_a_message_arrives_as_it_was_sent(self, message: Whole) -> None:
        """
        A message of any shape survives the journey.
        """
        assert TALK.decode(TALK.encode(message)) == message

    @given(
        st.sampled_from(CONVERSATIONS),
        st.binary(max_size=200) | VALUES.map(pack_value) | st.lists(SCALARS).map(pack_value),
    )
    def test_nonsense_is_the_senders_fault(
        self, conversation: Conversation[Any], body: bytes
    ) -> None:
        """
        In every conversation, bytes are a valid message or the sender's fault.
        """
        try:
            conversation.decode(body)
        except RemoteProtocolError:
            return

    @given(
        st.sampled_from(CONVERSATIONS),
        st.integers(0, 16),
        st.lists(SCALARS | st.lists(SCALARS), max_size=7),
    )
    def test_a_known_code_excuses_nothing(
        self, conversation: Conversation[Any], code: int, fields: list[object]
    ) -> None:
        """
        A message led by a proper code is checked field by field.
        """
        try:
            conversation.decode(pack_value([code, *fields]))
        except RemoteProtocolError:
            return

    @pytest.mark.parametrize(
        "parts",
        [
            [],
            {},
            7,
            ["one"],
            [3],
            [2, 1, 1],
            [2],
            [2, 1.0],
            [2, True],
            [2, 3],
            [1, 1, 1.0, True, b"", None, [["a"]], {}, None],
            [1, 1, 1.0, True, b"", 5, [], {}, None],
            [1, 1, 1.0, True, b"", None, [], {1: 1.0}, None],
            [1, 1, 1.0, True, b"", None, [], {"a": "b"}, None],
            [1, 1, 1.0, 1, b"", None, [], {}, None],
        ],
        ids=repr,
    )
    def test_what_is_no_message_of_ours_is_refused(self, parts: object) -> None:
        """
        A wrong code, number of fields, type or content is not let in.
        """
        with pytest.raises(RemoteProtocolError):
            TALK.decode(pack_value(parts))

    def test_an_integer_is_welcome_where_a_float_is_meant(self) -> None:
        """
        A sender that says 1 for 1.0 is understood.
        """
        body = pack_value([1, 1, 2, True, b"", None, [], {}, None])

        assert isinstance(TALK.decode(body), Whole)

    def test_a_long_message_is_not_sent(self) -> None:
        """
        What is longer than the limit is refused by the sender.
        """
        message = Whole(1, 1.0, True, bytes(MAX_MESSAGE), None, (), {}, None)
        with pytest.raises(LocalProtocolError, match="Whole of"):
            TALK.encode(message)

    def test_a_long_message_is_not_read(self) -> None:
        """
        What is longer than the limit is refused unread.
        """
        with pytest.raises(RemoteProtocolError, match="the limit is"):
            TALK.decode(bytes(MAX_MESSAGE + 1))


class TestLength:
    def test_a_list_that_nobody_needs_costs_nothing(self) -> None:
        """
        A conversation with those who are not trusted bounds its lists; they are not even built.
        """
        short = Conversation("short", {1: Row}, longest=3)
        assert short.decode(short.encode(Row(("a", "b", "c")))) == Row(("a", "b", "c"))
        with pytest.raises(RemoteProtocolError, match="exceeds max_array_len"):
            short.decode(short.encode(Row(("a",) * 4)))
        with pytest.raises(RemoteProtocolError, match="exceeds max_map_len"):
            short.decode(pack_value([1, dict.fromkeys(range(4))]))

    def test_what_a_worker_says_to_its_node_is_bounded(self) -> None:
        """
        The first failures of an event's callbacks are the longest list in it.
        """
        said = CallbacksRan(1, 2, MAX_FAILURES, MAX_FAILURES, ("failed",) * MAX_FAILURES)
        assert FROM_ENDPOINT.decode(FROM_ENDPOINT.encode(said)) == said
        with pytest.raises(RemoteProtocolError, match="exceeds"):
            FROM_ENDPOINT.decode(FROM_ENDPOINT.encode(replace(said, failures=("",) * 1000)))


class TestExtensions:
    def test_a_message_holds_no_array(self) -> None:
        """
        To find out what a worker's array is would take numpy; node and daemon never import it.
        """
        array = np.zeros(3)
        for conversation in CONVERSATIONS:
            with (
                patch("protocol.arrays.build", side_effect=AssertionError("it was built")),
                pytest.raises(RemoteProtocolError, match="has no place in a message"),
            ):
                conversation.decode(pack_value([1, array]))

    def test_nor_anything_else_that_is_an_extension(self) -> None:
        """
        What stands for shared memory or a function means nothing here.
        """
        for code in (2, 3, 77):
            with pytest.raises(RemoteProtocolError, match=f"extension type {code}"):
                TALK.decode(pack_value([1, msgpack.ExtType(code, b"x")]))


class TestRequests:
    def test_a_request_has_a_short_name(self) -> None:
        """
        Its answer bears it, comes at any time, and must never be too long to be sent.
        """
        said = GetConfig("q" * MAX_REQUEST, "")
        assert FROM_WORKER.decode(FROM_WORKER.encode(said)) == said
        for one in (FROM_WORKER, FROM_CLIENT):
            with pytest.raises(RemoteProtocolError, match="request: at most"):
                one.decode(one.encode(GetConfig("q" * (MAX_REQUEST + 1), "")))

    def test_of_the_node_too(self) -> None:
        """
        What its endpoints ask for is answered in the same way.
        """
        with pytest.raises(RemoteProtocolError, match="request: at most"):
            FROM_ENDPOINT.decode(FROM_ENDPOINT.encode(Share("q" * 1000, 1, 1)))


@dataclass(frozen=True)
class Row:
    items: tuple[str, ...]
