import pytest

from protocol.errors import RemoteProtocolError
from protocol.feed import Frames, unpack_run
from protocol.names import Topic
from protocol.outbox import MAX_TYPES, RING_BYTES, RING_EVENTS, Outbox

LOSS, STEP = Topic("Loss"), Topic("Step")


def numbers(frames: Frames) -> tuple[int, int]:
    run = unpack_run(*frames)
    return run.first, run.last


class TestOutbox:
    def test_events_are_numbered_by_source_life_and_type(self) -> None:
        """
        Each type by each life of each source counts from 1, without a hole.
        """
        outbox = Outbox()

        assert numbers(outbox.put("a", 1, LOSS, [b"", b""], 0.0)) == (1, 2)
        assert numbers(outbox.put("a", 1, LOSS, [b""], 0.0)) == (3, 3)
        assert numbers(outbox.put("a", 1, STEP, [b""], 0.0)) == (1, 1)
        assert numbers(outbox.put("a", 2, LOSS, [b""], 0.0)) == (1, 1)
        assert numbers(outbox.put("b", 1, LOSS, [b""], 0.0)) == (1, 1)

    def test_numbers_can_be_used_up(self) -> None:
        """
        Events that nobody could keep leave a hole that every subscriber sees.
        """
        outbox = Outbox()
        outbox.skip("a", 1, LOSS, 5)

        assert numbers(outbox.put("a", 1, LOSS, [b""], 0.0)) == (6, 6)

    def test_what_is_accepted_is_forgotten(self) -> None:
        """
        A run is kept until the hub has it everywhere, and not longer.
        """
        outbox = Outbox()
        runs = [outbox.put("a", 1, LOSS, [b""], 0.0) for _ in range(4)]

        outbox.accepted(2)

        assert len(outbox) == 2
        assert list(outbox.after(0)) == runs[2:]
        assert list(outbox.after(3)) == runs[3:]

    @pytest.mark.parametrize(
        "payloads", [[b""] * RING_EVENTS, [bytes(RING_BYTES)]], ids=["events", "bytes"]
    )
    def test_a_full_ring_has_no_room(self, payloads: list[bytes]) -> None:
        """
        One publisher's ring is bounded; it has room again once its runs are accepted.
        """
        outbox = Outbox()
        outbox.put("a", 1, LOSS, payloads, 0.0)

        assert not outbox.has_room("a", 1)
        assert outbox.has_room("b", 1)
        outbox.accepted(1)
        assert outbox.has_room("a", 1)

    def test_a_ring_is_kept_while_it_holds_something(self) -> None:
        """
        Accepting the first of two runs leaves the second counted.
        """
        outbox = Outbox()
        outbox.put("a", 1, LOSS, [b""], 0.0)
        outbox.put("a", 1, LOSS, [b""] * RING_EVENTS, 0.0)

        outbox.accepted(1)

        assert not outbox.has_room("a", 1)

    def test_a_publisher_that_is_gone_leaves_its_events(self) -> None:
        """
        What a plugin published before it died still reaches everybody.
        """
        outbox = Outbox()
        outbox.put("a", 1, LOSS, [b""], 0.0)

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
        with pytest.raises(RemoteProtocolError, match="types of events"):
            outbox.put("a", 1, LOSS, [b""], 0.0)
