import math
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.flight import (
    LIMIT,
    MAX_BUSY_S,
    SIZE,
    SLOTS,
    STACKS,
    FlightPage,
    FlightWriter,
    Running,
    label_of,
    make_page,
    read_counters,
    read_events,
    read_flight,
    read_stacks,
)

NAME = label_of("math.add")


class TestFlight:
    def test_what_is_counted_is_read(self) -> None:
        """
        The node reads calls and errors as the worker counts them, without a message.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        assert read_counters(fd) == (0, 0)

        for count in (writer.succeeded, writer.succeeded, writer.failed):
            count()
            writer.leave(writer.enter(7, 12, 1.5, NAME))
        writer.succeeded()
        writer.retract()

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
        slot = writer.enter(7, 12, 1.5, NAME)
        writer.ran_events(512, 3)
        assert [one.slot for one in read_flight(fd).running] == [slot]
        writer.succeeded()
        writer.leave(slot)

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
        slot = writer.enter(caller=7, number=12, deadline=1.5, label=NAME)
        seen = read_flight(fd)
        writer.succeeded()
        writer.leave(slot)

        assert seen.running == (
            Running(slot=slot, caller=7, number=12, deadline=1.5, label="math.add"),
        )
        assert read_flight(fd).running == ()
        os.close(fd)

    def test_places_do_not_overlap(self) -> None:
        """
        Each call has a place of its own, and one more than there are places is counted only.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        slots = [writer.enter(100 + n, 1 + n, float(n), NAME) for n in range(SLOTS)]
        beyond = writer.enter(9, 9, 9.0, NAME)
        writer.succeeded()
        writer.leave(slots[5])
        writer.failed()
        writer.leave(beyond)
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
            writer.succeeded()
            writer.leave(writer.enter(7, number, float("nan"), NAME))

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

    def test_a_name_is_cut_to_whole_characters(self) -> None:
        """
        A long method's name is shown by its first 39 bytes; half a letter is not shown.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        writer.enter(7, 1, 1.5, label_of("math." + "x" * 100))
        writer.enter(7, 2, 1.5, label_of("math." + "x" * 33 + "\u00e4"))
        names = {one.label for one in read_flight(fd).running}

        assert names == {"math." + "x" * 34, "math." + "x" * 33}
        os.close(fd)

    def test_what_was_not_counted_is_not_taken_back(self) -> None:
        """
        Threads may have lost each other's; then the count is 0, and no number without end.
        """
        fd = make_page("flight")
        FlightWriter(fd).retract()

        assert read_counters(fd) == (0, 0)
        os.close(fd)

    def test_a_name_is_nothing_but_text(self) -> None:
        """
        What a worker writes there is printable when it is read: no bytes that move a cursor.
        """
        fd = make_page("flight")
        FlightWriter(fd).enter(7, 1, 1.5, struct.pack("40p", b"a\x1b[2J\nb\xff"))

        assert read_flight(fd).running[0].label == "a?[2J?b\ufffd"
        os.close(fd)

    def test_a_stream_is_told_from_other_calls(self) -> None:
        """
        Its deadline is the one it was entered with; its thread may be doing something else.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        slot = writer.enter(7, 1, 1.5, NAME)
        writer.enter(7, 2, 2.5, NAME)
        writer.streams(slot)
        writer.streams(-1)
        seen = {one.deadline: one.is_stream for one in read_flight(fd).running}

        assert seen == {1.5: True, 2.5: False}
        os.close(fd)

    def test_what_is_asynchronous_is_told_from_other_calls(self) -> None:
        """
        Its caller is the one it was entered with, and whoever has its place next is plain again.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        slot = writer.enter(7, 1, 1.5, NAME)
        writer.awaits(slot)
        writer.awaits(-1)
        (seen,) = read_flight(fd).running
        assert (seen.caller, seen.is_async) == (7, True)

        writer.succeeded()
        writer.leave(slot)
        writer.enter(7, 2, 1.5, NAME)
        (seen,) = read_flight(fd).running
        assert (seen.caller, seen.is_async) == (7, False)
        os.close(fd)

    def test_how_long_a_worker_is_busy(self) -> None:
        """
        It says so on the page, and takes it back; more than an hour ahead is not believed.
        """
        fd = make_page("flight")
        writer = FlightWriter(fd)
        assert not read_flight(fd).is_busy(0.0)

        writer.busy(100.0)
        page = read_flight(fd)
        assert page.is_busy(99.9)
        assert not page.is_busy(100.0)
        assert not page.is_busy(99.0 - MAX_BUSY_S)

        writer.busy(0.0)
        assert not read_flight(fd).is_busy(99.0)
        for lie in (math.inf, math.nan, -1.0):
            assert not FlightPage(calls=0, errors=0, busy_until=lie).is_busy(99.0)
        os.close(fd)

    def test_what_is_written_behind_the_page_is_read(self) -> None:
        """
        Stacks end where there is no more room, are text whatever stands there, and change no call.
        """
        fd = make_page("flight")
        assert read_stacks(fd) == ""

        os.lseek(fd, SIZE, os.SEEK_SET)
        os.write(fd, b"Thread 0x1\n  File \xff\x1b\n")
        assert read_stacks(fd) == "Thread 0x1\n  File \ufffd?\n"

        os.lseek(fd, SIZE, os.SEEK_SET)
        assert os.write(fd, b"x" * STACKS) == STACKS
        with pytest.raises(PermissionError):
            os.write(fd, b"more")
        assert read_stacks(fd) == "x" * STACKS + "\n"
        assert read_flight(fd) == FlightPage(calls=0, errors=0)
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
            assert one.label.isprintable()
