import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.batches import LEAST, MAX_BATCH, MOST, Batches
from protocol.events import PluginEvent
from protocol.names import Topic
from protocol.payloads import encode_event
from protocol.runs import MAX_PAYLOAD, MAX_RUN, Publication, count_of, pack_body, payloads_of

LOSS, STEP = Topic("Loss"), Topic("Step")
SIZES = st.sampled_from([1, 20, MAX_BATCH // 3, MAX_BATCH, MAX_PAYLOAD - 5])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "alone", "skip", "take"]),
        st.sampled_from([LOSS, STEP]),
        SIZES,
    ),
    max_size=40,
)


def add(batches: Batches, topic: Topic, payload: bytes) -> bool:
    """Add an event as a publisher does; say whether it joined others."""
    if batches.join(topic, payload):
        return True
    batches.begin(topic, payload)
    return False


def payload(number: int, size: int) -> bytes:
    """One msgpack value of this size or a little more, unlike any other."""
    return b"\xc5" + (size + 4).to_bytes(2, "big") + number.to_bytes(4, "big") + bytes(size)


class TestBatches:
    @given(STEPS)
    def test_what_leaves_is_what_came(self, steps: list[tuple[str, Topic, int]]) -> None:
        """
        In order, each event once, gaps where they were; batches of one type and within bounds.
        """
        batches, came, left = Batches(), list[tuple[Topic, bytes]](), list[tuple[Topic, bytes]]()

        def take() -> None:
            said = batches.take()
            if not said.body:
                left.extend([(said.topic, b"")] * said.events)
                return
            assert count_of(said.body) == said.events
            assert said.events == 1 or (said.events <= MAX_RUN and said.size <= MAX_BATCH)
            left.extend((said.topic, one) for one in payloads_of(said.body))

        for number, (what, topic, size) in enumerate(steps):
            one = payload(number, size)
            if what == "take":
                if batches:
                    take()
                continue
            if what == "add":
                add(batches, topic, one)
            elif what == "alone":
                batches.add_alone(Publication(topic, pack_body([one]), 1, report=1))
            else:
                batches.skip(topic)
            came.append((topic, b"" if what == "skip" else one))
        while batches:
            take()

        assert left == came

    def test_events_of_a_type_leave_together(self) -> None:
        """
        Those that follow each other; another type begins another batch.
        """
        batches = Batches()

        joined = [add(batches, topic, b"\1") for topic in (LOSS, LOSS, STEP, LOSS)]

        assert joined == [False, True, False, False]
        assert len(batches) == 3
        assert batches.newest == 1
        assert batches.take() == Publication(LOSS, pack_body([b"\1", b"\1"]), 2)

    def test_what_is_full_is_not_joined(self) -> None:
        """
        The smallest events there are fill a batch when they are as many as a run may hold.
        """
        batches = Batches()
        add(batches, LOSS, b"\1")
        while batches.join(LOSS, b"\1"):
            pass

        assert batches.newest == MAX_RUN
        assert count_of(batches.take().body) == MAX_RUN

    def test_numbers_join_their_like_as_they_are(self) -> None:
        """
        What is not so simple is left to who looks closer: another type, text, a number too large.
        """
        batches, epoch = Batches(), Topic("EpochEnd")
        fine = PluginEvent.EpochEnd(1, 0.5)
        assert not batches.join_numbers(fine)
        add(batches, epoch, encode_event(fine))

        assert batches.join_numbers(fine)
        for event in (
            PluginEvent.EpochStart(1),
            PluginEvent.EpochEnd("1", 0.5),  # type: ignore[arg-type]
            PluginEvent.EpochEnd(2**64, 0.5),
        ):
            assert not batches.join_numbers(event)
        assert batches.take() == Publication(epoch, pack_body([encode_event(fine)] * 2), 2)
        assert not batches.join_numbers(fine)

    @pytest.mark.parametrize(
        "event", [PluginEvent.EpochStart(1), PluginEvent.EpochEnd(2**63, 0.5)], ids=str
    )
    def test_numbers_fill_a_batch_like_others(self, event: PluginEvent) -> None:
        """
        With no more events than a run may have, and no more bytes than a batch may.
        """
        batches = Batches()
        add(batches, Topic(event.type), encode_event(event))
        while batches.join_numbers(event):
            pass

        said = batches.take()
        assert count_of(said.body) == said.events
        assert MAX_BATCH - MOST < max(said.size, said.events * LEAST) <= MAX_BATCH

    def test_nothing_joins_what_has_left(self) -> None:
        """
        A batch that was taken out is over, and so is the newest behind which something waits.
        """
        batches = Batches()
        add(batches, LOSS, b"\1")
        batches.take()

        assert not batches.join(LOSS, b"\2")
        assert (len(batches), batches.newest) == (0, 0)

    def test_what_is_asked_about_travels_alone(self) -> None:
        """
        Nothing joins it, and it joins nothing, so that a report is of one event.
        """
        batches, alone = Batches(), Publication(LOSS, pack_body([b"\2"]), 1, 7, 100)
        add(batches, LOSS, b"\1")
        batches.add_alone(alone)

        assert not add(batches, LOSS, b"\3")
        assert [batches.take() for _ in range(3)] == [
            Publication(LOSS, pack_body([b"\1"]), 1),
            alone,
            Publication(LOSS, pack_body([b"\3"]), 1),
        ]

    def test_losses_are_counted_where_they_were(self) -> None:
        """
        Those of a type that follow each other are one word; what comes behind begins anew.
        """
        batches = Batches()
        add(batches, LOSS, b"\1")
        for topic in (LOSS, LOSS, STEP):
            batches.skip(topic)

        assert not batches.join(LOSS, b"\2")
        assert [batches.take() for _ in range(3)][1:] == [
            Publication(LOSS, b"", 2),
            Publication(STEP, b"", 1),
        ]

    def test_nothing_is_taken_of_nothing(self) -> None:
        """
        Whoever takes looks first whether something waits.
        """
        with pytest.raises(IndexError):
            Batches().take()
