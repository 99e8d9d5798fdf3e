import math
import os
import struct

from hypothesis import given
from hypothesis import strategies as st

from protocol.flight import (
    LIMIT,
    SIZE,
    SLOTS,
    FlightWriter,
    Running,
    make_page,
    read_counters,
    read_events,
    read_flight,
)


class TestFlight:
    def test_what_is_counted_is_read(self) -> None:
        """
        The node reads calls and errors as the worker counts them, without a message.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        assert read_counters(fd) == (0, 0)

        for failed in (False, False, True):
            writer.leave(writer.enter(7, 12, 1.5), failed=failed)

        assert read_counters(fd) == (2, 1)
        assert (read_flight(fd).calls, read_flight(fd).errors) == (2, 1)
        os.close(fd)

    def test_events_are_counted_apart(self) -> None:
        """
        Those whose callbacks have run, many at once; callbacks that raised count as calls that did.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        assert read_events(fd) == 0

        writer.ran_events(5, 0)
        slot = writer.enter(7, 12, 1.5)
        writer.ran_events(512, 3)
        assert [one.slot for one in read_flight(fd).running] == [slot]
        writer.leave(slot, failed=False)

        assert read_events(fd) == 517
        assert read_counters(fd) == (1, 3)
        assert read_flight(fd).running == ()
        os.close(fd)

    def test_a_call_is_seen_while_it_runs(self) -> None:
        """
        The node sees whose call runs, since it was entered and until it was left.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        slot = writer.enter(caller=7, number=12, deadline=1.5)
        seen = read_flight(fd)
        writer.leave(slot, failed=False)

        assert seen.running == (Running(slot=slot, caller=7, number=12, deadline=1.5),)
        assert read_flight(fd).running == ()
        os.close(fd)

    def test_places_do_not_overlap(self) -> None:
        """
        Each call has a place of its own, and one more than there are places is counted only.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        slots = [writer.enter(100 + n, 1 + n, float(n)) for n in range(SLOTS)]
        beyond = writer.enter(9, 9, 9.0)
        writer.leave(slots[5], failed=False)
        writer.leave(beyond, failed=True)
        seen = read_flight(fd)

        assert {(one.caller, one.number, one.deadline) for one in seen.running} == {
            (100 + n, 1 + n, float(n)) for n in range(SLOTS) if n != 5
        }
        assert (seen.calls, seen.errors) == (1, 1)
        os.close(fd)

    def test_any_number_of_a_callers_is_noted(self) -> None:
        """
        A caller numbers its calls as it likes; one beyond 64 bits or below 0 harms nobody.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        for number in (-1, 1 << 70, (1 << 64) - 1):
            writer.leave(writer.enter(7, number, float("nan")), failed=False)

        assert read_flight(fd).calls == 3
        os.close(fd)

    def test_a_lie_is_kept_within_limits(self) -> None:
        """
        A worker that writes nonsense makes no number that others cannot hold.
        """
        fd = os.memfd_create("flight")
        os.write(fd, b"\xff" * SIZE)

        assert read_counters(fd) == (1 << 53, 1 << 53)
        assert read_events(fd) == 1 << 53
        os.close(fd)

    @given(
        numbers=st.lists(st.integers(0, (1 << 64) - 1), max_size=SIZE // 8),
        moment=st.floats(),
    )
    def test_whatever_stands_there_makes_a_page_within_limits(
        self, numbers: list[int], moment: float
    ) -> None:
        """
        The node survives any page, however short: so many calls, numbers so large, no NaN.
        """
        page = bytearray(b"".join(struct.pack("=Q", number) for number in numbers))
        if len(page) >= 80:
            struct.pack_into("=d", page, 72, moment)  # where a deadline stands
        fd = os.memfd_create("flight")
        os.write(fd, page)
        seen = read_flight(fd)
        os.close(fd)

        assert len(seen.running) <= SLOTS
        assert max(seen.calls, seen.errors) <= LIMIT
        for one in seen.running:
            assert max(one.caller, one.number) <= LIMIT
            assert math.isfinite(one.deadline)
            assert 0.0 <= one.deadline <= LIMIT
