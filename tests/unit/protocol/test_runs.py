import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import pack_value
from protocol.errors import RemoteProtocolError
from protocol.names import EVERYTHING, MAX_TOPIC, Topic
from protocol.patterns import wanted_prefix
from protocol.runs import (
    MAX_NUMBER,
    MAX_PAYLOAD,
    MAX_RUN,
    MAX_RUN_BYTES,
    MAX_SOURCE,
    TERMINATOR,
    Head,
    Missing,
    Publication,
    Run,
    count_of,
    pack_body,
    pack_missing,
    pack_publication,
    pack_run,
    payloads_of,
    read_topic,
    unpack_delivery,
    unpack_head,
    unpack_publication,
    unpack_run,
)

LOSS = Topic("Loss")
BODY = pack_body([b"\x01", b"\x02", b"\x03"])
HEAD = Head(9, "trainer", 3, LOSS, 5, 3, 1.5)
RUN = pack_run(HEAD, BODY)
PACKET = 64 * 1024

WORD = st.integers(0, (1 << 64) - 1)
HALF = st.integers(0, (1 << 32) - 1)
TOPICS = st.from_regex(r"\A[A-Za-zé][A-Za-zé.]{0,20}[A-Za-z]\Z").map(Topic)
PAYLOADS = st.lists(
    st.builds(pack_value, st.integers(0, 99) | st.text(max_size=5) | st.lists(st.booleans())),
    min_size=1,
    max_size=6,
)
HEADS = st.builds(
    Head,
    transmission=WORD,
    source=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    incarnation=WORD,
    topic=TOPICS,
    first=st.integers(1, MAX_NUMBER - 6),
    events=st.just(0),
    ts=st.floats(0.0, 1e12),
    report=HALF,
    within_ms=HALF,
    sticky=st.booleans(),
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Run, list[bytes]]:
    payloads = draw(PAYLOADS)
    head = draw(HEADS)._replace(events=len(payloads))
    return pack_run(head, pack_body(payloads)), payloads


def forged(**fields: object) -> bytes:
    """A frame whose head says something else than its body."""
    return pack_run(HEAD._replace(**fields), BODY).frame  # type: ignore[arg-type]


class TestRun:
    @given(runs())
    def test_a_run_arrives_as_it_was_sent(self, sent: tuple[Run, list[bytes]]) -> None:
        """
        The hub reads the head alone; a peer reads that its body is one, and not what it says.
        """
        run, payloads = sent

        assert unpack_head(run.frame) == run.head
        assert unpack_run(run.frame) == run
        assert unpack_delivery(run.frame) == run
        assert payloads_of(run.body) == payloads

    @given(runs(), st.integers(-1, 7))
    def test_a_run_without_what_was_seen(self, sent: tuple[Run, list[bytes]], more: int) -> None:
        """
        Cutting off the first events keeps the others' numbers, payloads and wishes.
        """
        run, payloads = sent
        rest = run.without(run.head.first + more)
        cut = min(max(more + 1, 0), len(payloads))

        assert payloads_of(rest.body) == payloads[cut:]
        assert rest.head == run.head._replace(
            first=run.head.first + cut, events=len(payloads) - cut
        )
        assert rest.head.last == run.head.last

    def test_what_was_not_seen_is_not_packed_again(self) -> None:
        """
        A run of which nothing is cut stays the same frame.
        """
        assert RUN.without(4) is RUN

    @pytest.mark.parametrize("body", [b"\xdc\0\3\xc1", b"\xdc\0\3\1\2", b"\xdc\0\3\xdf\xff\xff"])
    def test_a_garbled_run_keeps_its_count(self, body: bytes) -> None:
        """
        What its publisher garbled cannot be cut, so what is left is as unreadable.
        """
        rest = pack_run(HEAD, body).without(5)

        assert (rest.head.first, rest.head.events, count_of(rest.body)) == (6, 2, 2)
        with pytest.raises(RemoteProtocolError):
            payloads_of(rest.body)

    @pytest.mark.parametrize("source", ["x" * 400, "é" * 400, "x" + "é" * 400, "\U0001f409" * 90])
    def test_a_long_source_is_cut(self, source: str) -> None:
        """
        Between two characters, so that it can still be read.
        """
        told = unpack_run(pack_run(HEAD._replace(source=source), BODY).frame).head.source

        assert source.startswith(told)
        assert MAX_SOURCE - 4 < len(told.encode()) <= MAX_SOURCE

    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"Loss",
            b"Loss\0",
            RUN.frame.replace(b"Loss", b"*"),
            RUN.frame.replace(b"Loss", b"A.*"),
            RUN.frame.replace(b"Loss", b"\xff"),
            RUN.frame.replace(b"Loss", b""),
            RUN.frame.replace(b"trainer", b"tr\xffiner"),
            forged(events=0),
            forged(first=0),
            forged(first=MAX_NUMBER),
            forged(first=(1 << 64) - 1, events=1),
            forged(ts=float("nan")),
            forged(ts=float("inf")),
            forged(ts=-1.0),
        ],
        ids=range(15),
    )
    def test_what_opens_no_run_is_refused(self, frame: bytes) -> None:
        """
        A wrong topic, source, number or time is the sender's fault; the hub sees it already.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_head(frame)

    @pytest.mark.parametrize(
        "frame",
        [
            forged(events=2),
            forged(events=4),
            RUN.frame[: -len(BODY)],
            RUN.frame[: -len(BODY) - 2],
            RUN.frame[: -len(BODY) + 2],
            RUN.frame.replace(BODY, b"\x93\1\2\3"),
            pack_run(HEAD, b"\xdc\0\3" + bytes(MAX_RUN_BYTES)).frame,
            pack_run(HEAD._replace(events=MAX_RUN + 1), pack_body([b"\1"] * (MAX_RUN + 1))).frame,
        ],
        ids=range(8),
    )
    def test_a_run_that_miscounts_itself_is_refused(self, frame: bytes) -> None:
        """
        Another count in its head than in its body, no body at all, or too much of one.
        """
        assert unpack_head(frame)
        with pytest.raises(RemoteProtocolError):
            unpack_run(frame)

    @given(st.binary(max_size=90), st.integers(0, len(RUN.frame)))
    def test_nonsense_breaks_nothing(self, noise: bytes, kept: int) -> None:
        """
        Any bytes, also behind the beginning of a run, are a run or the sender's fault.
        """
        for frame in (noise, RUN.frame[:kept] + noise, RUN.frame[:kept]):
            try:
                run = unpack_run(frame)
            except RemoteProtocolError:
                continue
            assert unpack_run(run.without(run.head.first - 1).frame) == run

    def test_the_largest_run_fits_into_a_packet(self) -> None:
        """
        With the longest topic and source, and as much of one payload as may be published.
        """
        head = HEAD._replace(topic=Topic("x" * MAX_TOPIC), source="y" * MAX_SOURCE, events=1)

        assert count_of(pack_body([bytes(MAX_PAYLOAD)])) == 1
        assert len(pack_run(head, bytes(MAX_RUN_BYTES)).frame) <= PACKET


class TestBodies:
    @given(PAYLOADS)
    def test_a_body_is_one_array(self, payloads: list[bytes]) -> None:
        """
        So that a subscriber decodes it at once.
        """
        body = pack_body(payloads)

        assert msgpack.unpackb(body) == [msgpack.unpackb(payload) for payload in payloads]
        assert count_of(body) == len(payloads)
        assert payloads_of(body) == payloads

    @pytest.mark.parametrize("body", [b"", b"\xdc\0", b"\xdc\0\0", b"\x91\1", b"\xdd\0\0\0\1\1"])
    def test_what_is_no_body_has_no_count(self, body: bytes) -> None:
        """
        Nothing, another kind of array, no events or too many.
        """
        with pytest.raises(RemoteProtocolError):
            count_of(body)

    @given(st.binary(max_size=60))
    def test_taking_nonsense_apart(self, noise: bytes) -> None:
        """
        Either it holds as many values as it claims, or it is its publisher's fault.
        """
        body = b"\xdc\0\3" + noise
        try:
            payloads = payloads_of(body)
        except RemoteProtocolError:
            return
        assert len(payloads) == 3
        assert body.startswith(pack_body(payloads))


class TestTopics:
    def test_one_type_does_not_match_another(self) -> None:
        """
        Who wants `Epoch` is not sent `EpochStart`.
        """
        frame = pack_run(HEAD._replace(topic=Topic("EpochStart")), BODY).frame

        assert not frame.startswith(wanted_prefix(Topic("Epoch")))
        assert frame.startswith(wanted_prefix(Topic("EpochStart")))
        assert frame.startswith(wanted_prefix(EVERYTHING))

    def test_a_family_matches_its_own(self) -> None:
        """
        Who wants `Trainer.*` is sent `Trainer.epoch`, and not `Trainers.epoch`.
        """
        prefix = wanted_prefix(Topic("Trainer.*"))

        for name, is_wanted in (("Trainer.epoch", True), ("Trainers.epoch", False)):
            frame = pack_run(HEAD._replace(topic=Topic(name)), BODY).frame
            assert frame.startswith(prefix) == is_wanted

    @pytest.mark.parametrize("name", [b"", b"*", b"A.*", b"\xff", b"a\nb", b"x" * (MAX_TOPIC + 1)])
    def test_what_is_no_type_is_refused(self, name: bytes) -> None:
        """
        Patterns, unspeakable names and no text.
        """
        with pytest.raises(RemoteProtocolError):
            read_topic(name)


class TestDelivery:
    @pytest.mark.parametrize("delivery", [RUN, Missing("trainer", 3, LOSS, 5, 7)], ids=repr)
    def test_a_delivery_arrives_as_it_was_sent(self, delivery: Run | Missing) -> None:
        """
        A worker is handed runs and gaps alike.
        """
        packed = pack_missing(delivery) if isinstance(delivery, Missing) else delivery.frame

        assert unpack_delivery(packed) == delivery

    @pytest.mark.parametrize("parts", [[], 5, [1, 2, 3, 4], [1] * 6], ids=repr)
    def test_what_is_no_delivery_is_refused(self, parts: object) -> None:
        """
        A packet of another shape is no delivery.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_delivery(b"\xff" + pack_value(parts))


class TestPublication:
    @given(TOPICS, PAYLOADS, HALF, st.booleans())
    def test_a_publication_arrives_as_it_was_sent(
        self,
        topic: Topic,
        payloads: list[bytes],
        within_ms: int,
        sticky: bool,  # noqa: FBT001
    ) -> None:
        """
        A worker's events reach its node with their type and its wishes.
        """
        report = int(len(payloads) == 1)
        body = pack_body(payloads)
        said = Publication(topic, body, len(payloads), report, within_ms, sticky)

        assert unpack_publication(pack_publication(said)) == said

    @pytest.mark.parametrize(
        ("topic", "wishes", "body"),
        [
            (b"*", (0, 0, False), BODY),
            (b"A.*", (0, 0, False), BODY),
            (b"\xff", (0, 0, False), BODY),
            (b"Loss", (0, 0, False), b""),
            (b"Loss", (0, 0, False), b"\xdc\0\0"),
            (b"Loss", (0, 0, False), b"\xdc\0\1" + bytes(MAX_RUN_BYTES)),
            (b"Loss", (1, 9, False), BODY),
        ],
        ids=range(7),
    )
    def test_what_a_worker_may_not_publish_is_refused(
        self, topic: bytes, wishes: tuple[int, int, bool], body: bytes
    ) -> None:
        """
        No type, no body, too large a body, or one report of several events.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_publication(topic + TERMINATOR + struct.pack("!II?", *wishes) + body)

    @given(st.binary(max_size=40))
    def test_nonsense_is_the_publishers_fault(self, noise: bytes) -> None:
        """
        Any packet is a publication, or refused.
        """
        for packet in (noise, b"Loss\0" + noise):
            try:
                said = unpack_publication(packet)
            except RemoteProtocolError:
                continue
            assert said.events == count_of(said.body)
