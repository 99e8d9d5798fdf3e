import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.pool import LANE_QUOTA, SMALLEST, SPARE, NoRoom, Pool, size_class

MIB = 1 << 20


class Writer:
    """Takes room for values as a lane's writer does; segments are numbers."""

    def __init__(self, quota: int = 8 * MIB, most: int = 4) -> None:
        self.pool = Pool(quota, most)
        self.sizes: dict[int, int] = {}
        self.leases = 0
        self.segments = 0

    def put(self, size: int, wanted: int = 0) -> tuple[int, int]:
        """Give the lease and the segment of a value."""
        number = self.pool.take(size)
        if number is None:
            planned, gone = self.pool.plan(size, wanted)
            self.drop(gone)
            self.segments += 1
            number = self.segments
            self.sizes[number] = planned
            self.pool.add(number, planned)
        self.leases += 1
        self.pool.lend(self.leases, number, size)
        return self.leases, number

    def back(self, *leases: int) -> None:
        self.drop(self.pool.returned(leases))

    def drop(self, numbers: list[int]) -> None:
        for number in numbers:
            del self.sizes[number]


class TestSizes:
    @given(st.integers(1, LANE_QUOTA))
    def test_a_class_is_not_much_larger_than_what_it_holds(self, size: int) -> None:
        """
        Whole pages, at most a quarter more than asked for, and again its own class.
        """
        found = size_class(size)

        assert size <= found <= max(SMALLEST, size + size // 4)
        assert found % 4096 == 0
        assert size_class(found) == found


class TestReuse:
    def test_what_came_back_is_used_again(self) -> None:
        """
        Nothing is allocated while a segment is free; and none is used while it is looked at.
        """
        writer = Writer()
        lease, first = writer.put(MIB)
        assert writer.put(MIB)[1] != first
        writer.back(lease)
        assert writer.put(MIB)[1] == first

    def test_a_segment_of_several_leases_is_free_with_the_last(self) -> None:
        """
        Two values of one message lie in one segment.
        """
        writer = Writer()
        lease, number = writer.put(100)
        writer.pool.lend(99, number, 100)
        writer.back(lease)
        assert writer.pool.take(1) is None
        writer.back(99)
        assert writer.pool.take(1) == number

    def test_the_smallest_that_is_large_enough(self) -> None:
        """
        A small value leaves the large segment to a large one.
        """
        writer = Writer()
        large, small = writer.put(4 * MIB), writer.put(MIB)
        writer.back(large[0], small[0])
        assert writer.put(10)[1] == small[1]
        assert writer.put(3 * MIB)[1] == large[1]


class TestQuota:
    def test_more_than_the_quota_never_fits(self) -> None:
        """
        A value that no wait would help says so, with its size, the quota and the cure.
        """
        with pytest.raises(
            LocalProtocolError, match=r"^9437184 bytes .* 8388608 .* in parts$"
        ) as raised:
            Writer().put(9 * MIB)
        assert type(raised.value) is not NoRoom

    def test_what_the_reader_keeps_is_in_the_way(self) -> None:
        """
        The text tells how much the other side holds, which is what has to change.
        """
        writer = Writer()
        lease, _ = writer.put(6 * MIB)
        with pytest.raises(NoRoom, match=r"still holds 6291456 of the 8388608"):
            writer.put(4 * MIB)
        writer.back(lease)
        writer.put(4 * MIB)

    def test_free_segments_make_room(self) -> None:
        """
        What is free and too small is given back for one that is large enough, the oldest first.
        """
        writer = Writer()
        leases = [writer.put(2 * MIB)[0] for _ in range(4)]
        writer.back(*leases)
        _, number = writer.put(3 * MIB)
        assert number == 5
        assert sorted(writer.sizes) == [3, 4, 5]

    def test_so_many_segments_and_no_more(self) -> None:
        """
        The number of segments is bounded as well as their bytes.
        """
        writer = Writer()
        for _ in range(4):
            writer.put(10)
        with pytest.raises(NoRoom, match="in 4 segments of 4"):
            writer.put(10)

    def test_a_message_that_wants_more_takes_less_where_there_is_no_room(self) -> None:
        """
        Room to grow is a wish, not a need.
        """
        writer = Writer()
        writer.put(5 * MIB)
        assert writer.sizes[writer.put(MIB, wanted=64 * MIB)[1]] == MIB

    def test_what_is_spare_goes_back(self) -> None:
        """
        A lane that once carried much does not keep it all for ever.
        """
        writer = Writer(LANE_QUOTA)
        leases = [writer.put(SPARE // 2)[0] for _ in range(3)]
        writer.back(*leases)
        assert sum(writer.sizes.values()) == SPARE

    @given(st.lists(st.integers(0, 6 * MIB) | st.just(-1), max_size=60))
    def test_whatever_happens_the_quota_holds(self, steps: list[int]) -> None:
        """
        After any puts and returns: within the quota, and nothing is used twice at a time.
        """
        writer, out = Writer(), dict[int, int]()
        for step in steps:
            if step < 0 and out:
                writer.back(lease := next(iter(out)))
                del out[lease]
            elif step >= 0:
                try:
                    lease, number = writer.put(step)
                except LocalProtocolError:
                    continue
                assert number not in out.values()
                assert writer.sizes[number] >= step
                out[lease] = number
            assert sum(writer.sizes.values()) <= 8 * MIB
            assert len(writer.sizes) <= 4
            assert set(out.values()) <= set(writer.sizes)


class TestLies:
    @pytest.mark.parametrize("leases", [[7], [1, 1], [0], [-1]])
    def test_what_was_not_lent_cannot_be_given_back(self, leases: list[int]) -> None:
        """
        Else a reader could have one segment written twice at a time.
        """
        writer = Writer()
        writer.put(10)
        with pytest.raises(RemoteProtocolError):
            writer.back(*leases)
