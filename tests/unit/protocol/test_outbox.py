import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError
from protocol.names import Topic
from protocol.outbox import MAX_STICKY, RING_BYTES, RING_EVENTS, RING_S, Outbox
from protocol.runs import MAX_RUN, MAX_TYPES, Publication, Run, pack_body, payloads_of, unpack_run

LOSS, STEP = Topic("Loss"), Topic("Step")
LARGE = b"\xc5\xc0\0" + bytes(48 << 10)


def said(
    topic: Topic = LOSS, events: int = 1, payload: bytes = b"\1", *, sticky: bool = False
) -> Publication:
    return Publication(topic, pack_body([payload] * events), events, sticky=sticky)


def numbers(run: Run) -> tuple[int, int]:
    return run.head.first, run.head.last


class TestOutbox:
    def test_events_are_numbered_by_source_life_and_type(self) -> None:
        """
        Each type by each life of each source counts from 1, without a hole.
        """
        outbox = Outbox()

        assert numbers(outbox.put("a", 1, said(events=2), 0.0)) == (1, 2)
        assert numbers(outbox.put("a", 1, said(), 0.0)) == (3, 3)
        assert numbers(outbox.put("a", 1, said(STEP), 0.0)) == (1, 1)
        assert numbers(outbox.put("a", 2, said(), 0.0)) == (1, 1)
        assert numbers(outbox.put("b", 1, said(), 0.0)) == (1, 1)

    def test_a_run_says_all_that_was_published(self) -> None:
        """
        With its source and the time that it was given; what its publisher wishes travels on.
        """
        wishes = Publication(LOSS, pack_body([b"\7"]), 1, report=5, within_ms=20, sticky=True)
        outbox = Outbox()
        outbox.put("a", 3, said(), 1.0)
        run = outbox.put("a", 3, wishes, 1.5)

        assert unpack_run(run.frame) == run
        assert payloads_of(run.body) == [b"\7"]
        assert run.head == (2, "a", 3, LOSS, 2, 1, 1.5, 5, 20, True)

    def test_numbers_can_be_used_up(self) -> None:
        """
        Events that nobody could keep leave a hole that every subscriber sees.
        """
        outbox = Outbox()

        assert outbox.skip("a", 1, LOSS, 5) == 1
        assert numbers(outbox.put("a", 1, said(), 0.0)) == (6, 6)
        assert outbox.skip("a", 1, LOSS, 2) == 7

    def test_what_is_accepted_is_forgotten(self) -> None:
        """
        A run is kept until the hub has it everywhere, and not longer.
        """
        outbox = Outbox()
        runs = [outbox.put("a", 1, said(), 0.0) for _ in range(4)]

        outbox.accepted(2)

        assert len(outbox) == 2
        assert list(outbox.after(0)) == runs[2:]
        assert list(outbox.after(3)) == runs[3:]

    def test_what_is_sent_again_may_be_accepted_meanwhile(self) -> None:
        """
        Whoever goes through it is not disturbed.
        """
        outbox = Outbox()
        for _ in range(3):
            outbox.put("a", 1, said(), 0.0)

        sent = list[int]()
        for run in outbox.after(0):
            outbox.accepted(3)
            sent.append(run.head.transmission)

        assert sent == [1, 2, 3]

    def test_what_no_hub_comes_for_is_forgotten(self) -> None:
        """
        After so long a time it shows as a gap; the others stay, and there is room again.
        """
        outbox = Outbox()
        while outbox.has_room("a", 1):
            outbox.put("a", 1, said(events=MAX_RUN), 0.0)
        outbox.expire(10.0)
        later = outbox.put("a", 1, said(), 0.0)

        outbox.expire(10.0 + RING_S - 0.01)
        assert not outbox.has_room("a", 1)
        outbox.expire(10.0 + RING_S)

        assert list(outbox.after(0)) == [later]
        assert outbox.has_room("a", 1)

    def test_a_wall_clock_that_jumps_forgets_nothing(self) -> None:
        """
        Stamps of years ago, or of years to come, say nothing of how long an event has waited.
        """
        outbox = Outbox()
        runs = [outbox.put("a", 1, said(), ts) for ts in (0.0, 4e9, 2e9)]
        outbox.expire(1e9)
        outbox.expire(1e9 + RING_S - 0.01)
        assert list(outbox.after(0)) == runs
        outbox.expire(1e9 + RING_S)
        assert len(outbox) == 0

    @pytest.mark.parametrize(
        ("large", "room"),
        [
            (said(events=MAX_RUN), -(-RING_EVENTS // MAX_RUN)),
            (said(payload=LARGE), -(-RING_BYTES // len(LARGE))),
        ],
        ids=["events", "bytes"],
    )
    def test_a_full_ring_has_no_room(self, large: Publication, room: int) -> None:
        """
        One publisher's ring is bounded; it has room again once its runs are accepted.
        """
        outbox = Outbox()
        while outbox.has_room("a", 1):
            outbox.put("a", 1, large, 0.0)

        assert len(outbox) == room
        assert outbox.has_room("b", 1)
        assert outbox.has_room("a", 2)
        outbox.accepted(1)
        assert outbox.has_room("a", 1)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "put", "accept", "expire", "forget"]),
                st.sampled_from("ab"),
                st.integers(1, 5),
            ),
            max_size=30,
        )
    )
    def test_what_is_counted_is_what_is_kept(self, steps: list[tuple[str, str, int]]) -> None:
        """
        Each ring counts its own runs, whatever happens to them; nothing is left of an empty one.
        """
        outbox = Outbox()
        for now, (what, source, number) in enumerate(steps):
            if what == "put":
                outbox.put(source, number % 2, said(events=number), float(now))
            elif what == "accept":
                outbox.accepted(number)
            elif what == "expire":
                outbox.expire(now * RING_S / number)
            else:
                outbox.forget(source, number % 2)
            kept = list(outbox.after(0))
            assert {key: (ring.events, ring.size) for key, ring in outbox._rings.items()} == {
                key: (
                    sum(run.head.events for run in kept if run.head[1:3] == key),
                    sum(len(run.frame) for run in kept if run.head[1:3] == key),
                )
                for key in {run.head[1:3] for run in kept}
            }
        outbox.accepted(1 << 62)

        assert not outbox._rings
        assert len(outbox) == 0

    def test_a_publisher_that_is_gone_leaves_its_events(self) -> None:
        """
        What a plugin published before it died still reaches everybody.
        """
        outbox = Outbox()
        outbox.put("a", 1, said(), 0.0)

        outbox.forget("a", 1)
        outbox.forget("a", 1)

        assert len(outbox) == 1

    def test_types_are_bounded(self) -> None:
        """
        A publisher cannot make every peer count types without end.
        """
        outbox = Outbox()
        for number in range(MAX_TYPES):
            outbox.skip("a", 1, Topic(f"T{number}"), 1)

        outbox.skip("a", 1, Topic("T0"), 1)
        for use in (
            lambda: outbox.put("a", 1, said(), 0.0),
            lambda: outbox.skip("a", 1, LOSS, 1),
            lambda: outbox.reserve("a", 1, LOSS),
        ):
            with pytest.raises(RemoteProtocolError, match="types of events"):
                use()
        assert len(outbox) == 0
        outbox.reserve("b", 1, LOSS)

    def test_a_number_can_be_made_sure_of(self) -> None:
        """
        A type that was reserved is numbered later, however many others have come since.
        """
        outbox = Outbox()
        outbox.reserve("a", 1, LOSS)
        for number in range(MAX_TYPES - 1):
            outbox.reserve("a", 1, Topic(f"T{number}"))

        assert numbers(outbox.put("a", 1, said(), 0.0)) == (1, 1)
        outbox.reserve("a", 1, LOSS)
        assert numbers(outbox.put("a", 1, said(), 0.0)) == (2, 2)


class TestSticky:
    def test_the_last_of_each_sticky_type_is_kept(self) -> None:
        """
        For the next hub, once it was accepted and is not among the others, in order.
        """
        outbox = Outbox()
        outbox.put("a", 1, said(sticky=True), 0.0)
        step = outbox.put("b", 1, said(STEP, sticky=True), 0.0)
        last = outbox.put("a", 1, said(sticky=True), 0.0)
        outbox.put("a", 1, said(), 0.0)

        assert outbox.sticky() == []
        outbox.accepted(2)
        assert outbox.sticky() == [step]
        outbox.accepted(4)
        assert outbox.sticky() == [step, last]

    def test_they_are_bounded(self) -> None:
        """
        Beyond that no new type is kept, but those that are go on.
        """
        outbox = Outbox()
        for number in range(MAX_STICKY + 1):
            outbox.put("a", 1, said(Topic(f"T{number}"), sticky=True), 0.0)
        newest = outbox.put("a", 1, said(Topic("T0"), sticky=True), 0.0)

        outbox.accepted(newest.head.transmission)
        kept = outbox.sticky()
        assert len(kept) == MAX_STICKY
        assert newest in kept
