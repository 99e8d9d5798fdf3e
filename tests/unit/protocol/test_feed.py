import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import pack_value
from protocol.errors import LocalProtocolError, RemoteProtocolError, UsageError
from protocol.events import RESERVED, PluginEvent
from protocol.feed import (
    MARK,
    MAX_PAYLOAD,
    Missing,
    Run,
    decode_events,
    encode_event,
    encode_said,
    gap_event,
    pack_delivery,
    pack_missing,
    pack_publication,
    pack_run,
    unpack_delivery,
    unpack_head,
    unpack_publication,
    unpack_run,
    wanted_prefix,
)
from protocol.names import EVERYTHING, Topic

LOSS = Topic("Loss")
RUN = Run("trainer", 3, LOSS, 5, [1.0, 2.0, 3.0], [b"\x01", b"\x02", b"\x03"])


class TestRun:
    def test_a_run_arrives_as_it_was_sent(self) -> None:
        """
        The hub reads the head alone; a peer reads all of it.
        """
        topic, head, body = pack_run(RUN, transmission=9)

        assert unpack_run(topic, head, body) == RUN
        assert (unpack_head(topic, head).transmission, unpack_head(topic, head).count) == (9, 3)

    @pytest.mark.parametrize(("seen", "left"), [(0, 3), (4, 3), (5, 2), (7, 0), (99, 0)])
    def test_a_run_without_what_was_seen(self, seen: int, left: int) -> None:
        """
        Cutting off the first events keeps numbers, stamps and payloads together.
        """
        rest = RUN.without(seen)

        assert rest.last == max(RUN.last, rest.first - 1)
        assert len(rest.payloads) == len(rest.stamps) == left

    @pytest.mark.parametrize(
        ("topic", "head", "body"),
        [
            (b"Loss\0", [1, "t", 1, 1], [[1.0], [b"x"]]),
            (b"Loss\0", [1, "t", 1, 1, "1"], [[1.0], [b"x"]]),
            (b"Loss\0", [True, "t", 1, 1, 1], [[1.0], [b"x"]]),
            (b"*\0", [1, "t", 1, 1, 1], [[1.0], [b"x"]]),
            (b"\xff\0", [1, "t", 1, 1, 1], [[1.0], [b"x"]]),
            (b"Loss\0", [1, "t", 1, 1, 2], [[1.0], [b"x"]]),
            (b"Loss\0", [1, "t", 1, 1, 1], [[1.0]]),
            (b"Loss\0", [1, "t", 1, 1, 0], [[], []]),
            (b"Loss\0", [1, "t", 1, 1, 1], [1.0, [b"x"]]),
            (b"Loss\0", [1, "t", 1, 1, 1], [[], [b"x"]]),
            (b"Loss\0", [1, "t", 1, 1, 1], [["now"], [b"x"]]),
            (b"Loss\0", [1, "t", 1, 1, 1], [[1.0], ["x"]]),
            (b"Loss\0", [1, "t", 1, 1, 1], [[1.0], [bytes(MAX_PAYLOAD + 1)]]),
        ],
        ids=lambda part: repr(part)[:30],
    )
    def test_what_is_no_run_is_refused(self, topic: bytes, head: object, body: object) -> None:
        """
        A wrong head, topic, count, stamp or payload is the sender's fault.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_run(topic, pack_value(head), pack_value(body))

    @given(st.binary(max_size=8), st.binary(max_size=30), st.binary(max_size=30))
    def test_nonsense_breaks_nothing(self, topic: bytes, head: bytes, body: bytes) -> None:
        """
        Three random frames are a run or the sender's fault.
        """
        try:
            unpack_run(topic, head, body)
        except RemoteProtocolError:
            return


class TestTopics:
    def test_one_type_does_not_match_another(self) -> None:
        """
        Who wants `Epoch` is not sent `EpochStart`.
        """
        topic = pack_run(Run("t", 1, Topic("EpochStart"), 1, [0.0], [b""]), 1)[0]

        assert not topic.startswith(wanted_prefix(Topic("Epoch")))
        assert topic.startswith(wanted_prefix(Topic("EpochStart")))
        assert topic.startswith(wanted_prefix(EVERYTHING))

    def test_no_topic_looks_like_a_mark(self) -> None:
        """
        What opens a mark is no UTF-8, so no event type begins with it.
        """
        with pytest.raises(UnicodeDecodeError):
            MARK.decode()


class TestDelivery:
    @pytest.mark.parametrize("delivery", [RUN, Missing("trainer", 3, LOSS, 5, 7)], ids=repr)
    def test_a_delivery_arrives_as_it_was_sent(self, delivery: Run | Missing) -> None:
        """
        A worker is handed runs and gaps alike.
        """
        if isinstance(delivery, Missing):
            packed = pack_missing(delivery)
        else:
            packed = pack_delivery(delivery)

        assert unpack_delivery(packed) == delivery

    @pytest.mark.parametrize("parts", [[], 5, [1, 2, 3, 4], [1] * 7], ids=repr)
    def test_what_is_no_delivery_is_refused(self, parts: object) -> None:
        """
        A packet of another shape is no delivery.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_delivery(pack_value(parts))


class TestPublication:
    def test_a_publication_arrives_as_it_was_sent(self) -> None:
        """
        A worker's events reach its node with their type.
        """
        assert unpack_publication(pack_publication(LOSS, [b"x", b""])) == (LOSS, [b"x", b""])

    @pytest.mark.parametrize(
        "parts",
        [
            [],
            [LOSS],
            ["*", [b"x"]],
            [5, [b"x"]],
            [LOSS, []],
            [LOSS, b"x"],
            [LOSS, ["x"]],
            [LOSS, [bytes(MAX_PAYLOAD + 1)]],
            *([topic, [b"x"]] for topic in sorted(RESERVED)),
        ],
        ids=lambda parts: repr(parts)[:40],
    )
    def test_what_a_worker_may_not_publish_is_refused(self, parts: object) -> None:
        """
        A worker cannot publish what is reserved, too large or no event.
        """
        with pytest.raises(RemoteProtocolError):
            unpack_publication(pack_value(parts))


class TestEvents:
    def test_an_event_is_stamped_on_arrival(self) -> None:
        """
        Source, number and time come from the run, not from the publisher's words.
        """
        topic, payload = encode_event(PluginEvent.EpochEnd(epoch=1, loss=0.5))
        (event,) = decode_events(Run("trainer", 3, topic, 5, [1.5], [payload]))

        assert event == PluginEvent.EpochEnd(epoch=1, loss=0.5)
        assert (event.source, event.seq, event.ts) == ("trainer", 5, 1.5)

    @pytest.mark.parametrize("payload", [b"", b"\xc1", pack_value({"epoch": "x"})])
    def test_a_garbled_event_arrives_as_such(self, payload: bytes) -> None:
        """
        What a publisher garbled keeps its number and says that it was malformed.
        """
        (event,) = decode_events(Run("t", 1, Topic("EpochEnd"), 8, [0.0], [payload]))

        assert (event.type, event.seq) == ("Malformed", 8)

    @pytest.mark.parametrize("event", [PluginEvent.SystemInit(), PluginEvent.EventGap("x", 1, 2)])
    def test_reserved_types_are_the_daemons(self, event: PluginEvent) -> None:
        """
        Nobody but the daemon publishes its events.
        """
        with pytest.raises(UsageError, match="only the daemon"):
            encode_event(event)

    @pytest.mark.parametrize("data", [{1, 2}, bytes(MAX_PAYLOAD), 2**70, "\udcff"])
    def test_what_cannot_travel_stays_here(self, data: object) -> None:
        """
        An event that is too large or has no plain form is refused by its publisher.
        """
        with pytest.raises(LocalProtocolError, match="event Loss"):
            encode_said(LOSS, data)

    def test_a_gap_names_its_numbers(self) -> None:
        """
        Missing events show as one event that says which.
        """
        gap = gap_event(Missing("trainer", 3, LOSS, 5, 7))

        assert gap == PluginEvent.EventGap("Loss", 5, 7)
        assert gap.source == "trainer"
