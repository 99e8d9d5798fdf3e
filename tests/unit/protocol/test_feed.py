from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError
from protocol.feed import (
    ASKED,
    ECHO,
    FROM_HUB,
    MARK,
    NUMBERS,
    SYNC,
    TO_ALL,
    TO_HUB,
    Accepted,
    Concerned,
    FromHub,
    Informed,
    Interest,
    Join,
    JoinAgain,
    Joined,
    LastNumber,
    Numbers,
    Outcome,
    Ran,
    Recall,
    Recalled,
    Replay,
    Replayed,
    Synced,
    ToHub,
    is_run,
)
from protocol.names import MAX_TOPIC, Topic
from protocol.runs import Head, pack_body, pack_run

TO: list[ToHub] = [
    Join("node", filters=True),
    Synced(7),
    Replay("trainer", 3, "Loss", 5, 7),
    Informed(2),
    Concerned(3, 1, ("logger", "app:demo")),
    Ran(3, 1, "logger", 2, 1, ("ValueError: no",)),
    Recall(5, "Trainer.*", 0, inf),
]
FROM: list[FromHub] = [
    Joined(4, 12),
    Accepted(12),
    Replayed("trainer", 3, "Loss", 7, (b"one", b"two")),
    Numbers((LastNumber("trainer", 3, "Loss", 1, 9),)),
    JoinAgain(),
    Interest(2, ("Loss", "Trainer.*"), ("Step",), full=False),
    Outcome(3, 1, 2, 1, (("logger", "ValueError: no"),)),
    Recalled(5, (b"one", b"two")),
]
TOPICS = st.text(min_size=1, max_size=8).filter(str.isprintable).map(Topic)


class TestMessages:
    @pytest.mark.parametrize("message", TO, ids=lambda message: type(message).__name__)
    def test_what_a_peer_says_arrives(self, message: ToHub) -> None:
        """
        Each message to the hub arrives whole, and is not taken for a run.
        """
        body = TO_HUB.encode(message)

        assert TO_HUB.decode(body) == message
        assert not is_run(body)

    @pytest.mark.parametrize("message", FROM, ids=lambda message: type(message).__name__)
    def test_what_the_hub_says_arrives(self, message: FromHub) -> None:
        """
        Each message to a peer arrives whole.
        """
        assert FROM_HUB.decode(FROM_HUB.encode(message)) == message

    @given(st.binary(max_size=40))
    def test_nonsense_is_the_senders_fault(self, body: bytes) -> None:
        """
        Any bytes are a message of a peer's, or refused.
        """
        try:
            message = TO_HUB.decode(body)
        except RemoteProtocolError:
            return
        assert TO_HUB.decode(TO_HUB.encode(message)) == message


class TestOpenings:
    @given(TOPICS | st.just(Topic("x" * MAX_TOPIC)))
    def test_a_run_is_told_from_a_message(self, topic: Topic) -> None:
        """
        Whatever its type is called, a run opens neither like a message nor like a mark.
        """
        head = Head(1, "trainer", 3, topic, 1, 1, 0.0)
        frame = pack_run(head, pack_body([b"\x01"])).frame

        assert is_run(frame)
        assert not frame.startswith(MARK)

    def test_nothing_is_no_run(self) -> None:
        """
        An empty frame, and one that ends before a topic could.
        """
        assert not is_run(b"")
        assert not is_run(b"x")

    def test_no_topic_looks_like_a_mark(self) -> None:
        """
        What opens a mark is no UTF-8, so no event type begins with it.
        """
        with pytest.raises(UnicodeDecodeError):
            MARK.decode()

    def test_marks_are_told_apart(self) -> None:
        """
        All of those to everybody reach who subscribed to these; no mark opens like another.
        """
        marks = [SYNC, NUMBERS, ASKED, ECHO]

        assert all(mark.startswith(TO_ALL) == (mark != ECHO) for mark in marks)
        assert not any(a != b and a.startswith(b) for a in marks for b in marks)
