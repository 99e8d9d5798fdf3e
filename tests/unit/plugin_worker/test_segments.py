import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from plugin_worker.node.segments import (
    ENDPOINT_QUOTA,
    MAX_FRESH,
    MAX_KEPT,
    Request,
    Segments,
)
from protocol.errors import RemoteProtocolError
from protocol.messages import (
    Allocate,
    Allocated,
    Mapped,
    Ready,
    Refusal,
    Release,
    Share,
    Shared,
    ToEndpoint,
    Unshared,
)
from protocol.pool import LANE_QUOTA, MAX_SEGMENTS
from protocol.segments import SEALS, check

MIB = 1 << 20
GIB = 1 << 30
LANES = {5: (1, 2), 6: (1, 3), 7: (4, 2)}
"""Lanes by number, and who holds their ends."""


class Machine:
    """The node's segments, and everything that it has sent."""

    def __init__(self, most: int | None = None) -> None:
        self.sent: list[tuple[int, ToEndpoint]] = []
        self.descriptors: list[int] = []
        self.behind: set[int] = set()
        self.gone: set[int] = set()
        self.over: set[int] = set()
        self.segments = Segments(self._send, self._other_end, self.behind.__contains__, most)

    def _send(self, to: int, message: ToEndpoint, descriptors: tuple[int, ...]) -> bool:
        self.sent.append((to, message))
        self.descriptors += map(os.dup, descriptors)
        return to not in self.gone

    def _other_end(self, lane: int, end: int) -> int | None:
        one, other = LANES.get(lane, (0, 0))
        return {one: other, other: one}.get(end) if lane not in self.over else None

    def say(self, writer: int, message: Request) -> list[tuple[int, ToEndpoint]]:
        """Have an endpoint say something, and give what the node sent for it."""
        before = len(self.sent)
        self.segments.told(writer, message)
        return self.sent[before:]

    def make(self, writer: int, lane: int, size: int = MIB) -> int:
        """Have a segment made, mapped and sealed."""
        ((to, message),) = self.say(writer, Allocate("q", lane, size))
        assert to == writer
        assert isinstance(message, Allocated), message
        self.say(writer, Mapped("q", message.segment))
        return message.segment

    def refusal(self, writer: int, message: Request) -> str:
        """Have an endpoint ask for what is refused, and give the reason."""
        ((to, answer),) = self.say(writer, message)
        assert to == writer
        assert isinstance(answer, Refusal)
        return " ".join([answer.kind, *answer.fields])


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.segments.close()
    assert (len(machine.segments), machine.segments.descriptors) == (0, 0)
    for fd in machine.descriptors:
        os.close(fd)


class TestMaking:
    def test_its_reader_has_it_before_its_writer_may_use_it(self, machine: Machine) -> None:
        """
        The order of what is sent is the promise: asked, mapped, shown, ready.
        """
        assert machine.say(1, Allocate("a", 5, MIB)) == [(1, Allocated("a", 1))]
        assert machine.say(1, Mapped("b", 1)) == [(2, Shared(5, 1, MIB)), (1, Ready("b"))]
        assert machine.segments.descriptors == 0

    def test_nobody_maps_it_for_writing_or_changes_its_size(self, machine: Machine) -> None:
        """
        Its writer's mapping stays; but neither side can make another one, or cut it short.
        """
        machine.say(1, Allocate("a", 5, MIB))
        (writers,) = machine.descriptors
        with pytest.raises(RemoteProtocolError):
            check(writers, MIB)  # whoever got it now would not take it
        with mmap.mmap(writers, MIB) as mapped:
            machine.say(1, Mapped("b", 1))
            mapped[:5] = b"hello"
            _, readers = machine.descriptors
            assert os.pread(readers, 5, 0) == b"hello"
        check(readers, MIB)
        with pytest.raises(RemoteProtocolError):
            check(readers, 2 * MIB)
        for fd in (writers, readers, os.open(f"/proc/self/fd/{readers}", os.O_RDWR)):
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
            with pytest.raises(PermissionError):
                mmap.mmap(fd, MIB)
            with pytest.raises(PermissionError):
                os.pwrite(fd, b"x", 0)
            for size in (0, MIB // 2, 2 * MIB):
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, size)
        os.close(fd)

    def test_a_segment_for_later_is_shown_to_whom_it_is_shared_with(self, machine: Machine) -> None:
        """
        Once for each lane, and to nobody before that; the node keeps its descriptor for it.
        """
        number = machine.make(1, 0)
        assert machine.segments.descriptors == 1
        assert machine.say(1, Share("s", number, 5)) == [(2, Shared(5, 1, MIB)), (1, Ready("s"))]
        assert machine.say(1, Share("s", number, 5)) == [(1, Ready("s"))]
        assert machine.say(1, Share("s", number, 6)) == [(3, Shared(6, 1, MIB)), (1, Ready("s"))]
        gone = [(2, Unshared(5, number)), (3, Unshared(6, number))]
        assert machine.say(1, Release(number)) == gone
        assert machine.segments.descriptors == 0


class TestTrust:
    @pytest.mark.parametrize("lane", [6, 8])
    def test_a_lane_of_others(self, machine: Machine, lane: int) -> None:
        """
        Only who holds an end of a lane has segments for its other end.
        """
        assert machine.refusal(2, Allocate("a", lane, MIB)).startswith("ServiceUnavailable")

    @pytest.mark.parametrize(
        "message", [Mapped("m", 1), Mapped("m", 9), Share("s", 1, 7), Share("s", 9, 7)]
    )
    def test_a_segment_of_others(self, machine: Machine, message: Request) -> None:
        """
        A segment is its writer's alone; who guesses its number learns nothing.
        """
        machine.say(1, Allocate("a", 0, MIB))
        assert machine.refusal(4, message).startswith("ServiceUnavailable")
        assert machine.say(4, Release(1)) == []
        assert len(machine.segments) == 1

    @pytest.mark.parametrize("size", [0, -4096, 1, 4097])
    def test_sizes_that_are_no_pages(self, machine: Machine, size: int) -> None:
        """
        Who asks for what no endpoint of ours would ask for breaks the protocol.
        """
        with pytest.raises(RemoteProtocolError):
            machine.say(1, Allocate("a", 5, size))

    def test_steps_out_of_order(self, machine: Machine) -> None:
        """
        What is not sealed is not shared, what is for one lane is not for others.
        """
        machine.say(1, Allocate("a", 0, MIB))
        with pytest.raises(RemoteProtocolError):
            machine.say(1, Share("s", 1, 5))
        number = machine.make(1, 5)
        with pytest.raises(RemoteProtocolError):
            machine.say(1, Mapped("m", number))
        with pytest.raises(RemoteProtocolError):
            machine.say(1, Share("s", number, 6))


class TestLimits:
    def test_of_a_lane(self, machine: Machine) -> None:
        """
        So many bytes one way; the other way, and another lane, have their own.
        """
        machine.make(1, 5, LANE_QUOTA - MIB)
        assert f"the limit is {LANE_QUOTA}" in machine.refusal(1, Allocate("a", 5, 2 * MIB))
        machine.make(2, 5, LANE_QUOTA)
        machine.make(1, 6, LANE_QUOTA)
        machine.make(1, 5, MIB)

    def test_of_a_lane_s_segments(self, machine: Machine) -> None:
        """
        Small ones are counted.
        """
        for _ in range(MAX_SEGMENTS):
            machine.make(1, 5, 4096)
        assert f"the limit is {MAX_SEGMENTS}" in machine.refusal(1, Allocate("a", 5, 4096))

    def test_of_what_is_not_mapped_yet(self, machine: Machine) -> None:
        """
        Each is a descriptor of the node's: who never maps gets no more of them.
        """
        for _ in range(MAX_FRESH):
            machine.say(1, Allocate("a", 5, 4096))
        assert f"the limit is {MAX_FRESH}" in machine.refusal(1, Allocate("a", 6, 4096))

    def test_of_what_is_for_later(self, machine: Machine) -> None:
        """
        Their descriptors are the node's for as long as they live.
        """
        for _ in range(MAX_KEPT):
            machine.make(1, 0, 4096)
        assert f"the limit is {MAX_KEPT}" in machine.refusal(1, Allocate("a", 0, 4096))

    def test_of_a_writer(self, machine: Machine) -> None:
        """
        All lanes of one endpoint together.
        """
        machine.make(1, 0, ENDPOINT_QUOTA)
        assert "of one process; the limit" in machine.refusal(1, Allocate("a", 5, MIB))

    def test_of_a_reader(self, machine: Machine) -> None:
        """
        What others make it map is at most half of what it can map.
        """
        number = machine.make(1, 0, ENDPOINT_QUOTA)
        machine.say(1, Share("s", number, 5))
        assert "the other side reads" in machine.refusal(4, Allocate("a", 7, MIB))
        later = machine.make(4, 0)
        assert "the other side reads" in machine.refusal(4, Share("s", later, 7))
        machine.say(1, Release(number))
        machine.make(4, 7)

    def test_of_the_machine(self) -> None:
        """
        Half of all memory, whoever has it.
        """
        machine = Machine(most=GIB)
        machine.make(1, 0, GIB - MIB)
        assert "half of all memory" in machine.refusal(2, Allocate("a", 5, 2 * MIB))
        machine.segments.forget(1)
        machine.make(2, 5, 2 * MIB)
        machine.segments.close()

    def test_a_reader_that_does_not_read_is_not_sent_more(self, machine: Machine) -> None:
        """
        Else a writer could have another plugin ended, for not reading while it computes.
        """
        later = machine.make(1, 0)
        machine.behind.add(2)
        assert machine.refusal(1, Allocate("a", 5, MIB)).startswith("Overloaded")
        assert machine.refusal(1, Share("s", later, 5)).startswith("Overloaded")
        machine.make(1, 6)


class TestEnds:
    def test_of_a_lane(self, machine: Machine) -> None:
        """
        What it carried is forgotten, both ends are told once; what others share stays.
        """
        machine.make(1, 5)
        machine.make(2, 5)
        later = machine.make(1, 0)
        machine.say(1, Share("s", later, 5))
        machine.sent.clear()
        machine.segments.lane_over(5, (1, 2))
        machine.segments.lane_over(5, (1, 2))
        machine.segments.lane_over(6, (1, 3))

        assert machine.sent == [(1, Unshared(5, 0)), (2, Unshared(5, 0))]
        assert len(machine.segments) == 1
        assert machine.say(1, Release(1)) == []

    def test_of_a_lane_that_its_writer_has_not_heard_of(self, machine: Machine) -> None:
        """
        What was asked for meanwhile is refused as what it is.
        """
        machine.say(1, Allocate("a", 5, MIB))
        machine.over.add(5)
        machine.segments.lane_over(5, (1, 2))
        assert machine.refusal(1, Mapped("m", 1)).startswith("ServiceUnavailable")
        assert machine.refusal(1, Allocate("a", 5, MIB)).startswith("ServiceUnavailable")
        assert machine.segments.descriptors == 0

    def test_of_an_endpoint(self, machine: Machine) -> None:
        """
        Nothing of it is left, and its readers' quota is theirs again.
        """
        machine.make(1, 0)
        machine.say(1, Allocate("a", 0, MIB))
        machine.segments.forget(1)
        machine.segments.forget(1)
        assert (len(machine.segments), machine.segments.descriptors) == (0, 0)

    def test_of_one_that_has_just_left(self, machine: Machine) -> None:
        """
        What cannot be handed to its writer is not kept for it.
        """
        machine.gone.add(1)
        machine.say(1, Allocate("a", 0, MIB))
        assert len(machine.segments) == 0
