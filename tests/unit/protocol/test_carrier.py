"""Values from one end of a lane to the other, over segments that are really mapped."""

import array
import dataclasses
import gc
import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import hypothesis.extra.numpy as hnp
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from protocol.arena import Lie
from protocol.carrier import Carrier
from protocol.codec import MAX_MESSAGE
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.outgoing import SEGMENT
from protocol.pool import LANE_QUOTA, LARGE, MAX_LEASES, MAX_SEGMENTS, Pool
from tests.arenas import LANE, READER, Machine

BIG = LARGE * 2
MIB = 1 << 20


class Lane:
    """Both ends of one lane, and the words between them."""

    def __init__(self, machine: Machine | None = None, lane: int = LANE) -> None:
        self.machine = machine or Machine()
        self.writer, self.reader = self.machine.carriers(lane)
        self._numbers = count(1)

    def send(self, value: object) -> Any:  # noqa: ANN401 - whatever arrived
        """Send a value as a result, and give what arrived."""
        return self.reader.unpack(self.writer.pack((next(self._numbers), 0, value)))[2]

    def free(self) -> list[int]:
        """Give back what the reader looks at no more."""
        leases = [self.reader.freed.popleft() for _ in range(len(self.reader.freed))]
        self.writer.returned(leases)
        return leases

    @property
    def segments(self) -> int:
        """How many segments the node knows."""
        return len(self.machine.segments)


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.writer.close()
    lane.reader.close()
    gc.collect()
    lane.machine.ends[READER].read()
    assert (lane.segments, lane.machine.segments.descriptors) == (0, 0)
    assert (*lane.machine.writer.mapped, *lane.machine.reader.mapped) == (0, 0, 0, 0)


class TestArrays:
    @given(
        hnp.arrays(
            hnp.scalar_dtypes() | hnp.array_dtypes(max_size=3, allow_subarrays=True),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        st.sampled_from(["C", "F", "strided", "reversed", "transposed", "sparse"]),
        st.integers(1, 40),
    )
    def test_any_array_arrives_as_it_was_sent(
        self, array: NDArray[Any], order: str, times: int
    ) -> None:
        """Whatever its type, order, size and shape; read-only, contiguous, its order kept."""
        if not array.dtype.itemsize:
            return
        if array.nbytes:
            array = np.repeat(array[None], times * 512 // array.nbytes + 1, axis=0)
        array = _arranged(array, order)
        lane = Lane()
        arrived = lane.send({"x": [array]})["x"][0]

        assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
        assert arrived.tobytes() == array.tobytes()
        assert not arrived.flags.writeable
        if array.nbytes >= LARGE:
            assert arrived.flags.forc
            assert arrived.flags.fnc == array.flags.fnc
            assert lane.segments == 1
        del arrived
        lane.free()
        assert lane.writer.pack((1, 6, [])) == msgpack.packb((1, 6, []))

    def test_it_cannot_be_made_writable(self, lane: Lane) -> None:
        """The memory is another process's: writing to it would end this one."""
        arrived = lane.send(np.zeros(BIG))
        with pytest.raises(ValueError, match="WRITEABLE"):
            arrived.flags.writeable = True

    def test_it_is_copied_once(self, lane: Lane) -> None:
        """What the sender changes afterwards does not show; what it reuses is one segment."""
        source = np.zeros(BIG)
        arrived = lane.send(source)
        source[:] = 1
        assert not arrived.any()
        for _ in range(20):
            arrived = lane.send(source)
            lane.free()
        assert lane.segments == 2

    def test_many_of_one_message_share_segments(self, lane: Lane) -> None:
        """A model of two hundred layers needs no two hundred segments."""
        layers = [np.full(8000 + n, n, np.float32) for n in range(200)]
        arrived = lane.send({str(n): layer for n, layer in enumerate(layers)})
        assert all(np.array_equal(arrived[str(n)], layer) for n, layer in enumerate(layers))
        assert lane.segments < 8
        del arrived
        assert len(lane.free()) == 200

    def test_nothing_travels_between_columns(self, lane: Lane) -> None:
        """Its segment is this reader's alone, and numpy writes to columns only."""
        dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
        arrived = lane.send(np.frombuffer(b"s" * dtype.itemsize * BIG, dtype))
        assert arrived.tobytes() == (b"s" + bytes(7) + b"s" * 8) * BIG

    def test_the_same_array_twice(self, lane: Lane) -> None:
        """Each arrival has a lease of its own."""
        source = np.zeros(BIG)
        one, other = lane.send([source, source])
        del one
        assert len(lane.free()) == 1
        assert not other.any()

    def test_dlpack(self, lane: Lane) -> None:
        """Who knows of read-only arrays gets it as it is; who does not gets a copy of its own."""
        arrived = lane.send(np.arange(BIG))
        assert np.shares_memory(np.from_dlpack(arrived), arrived)

        class Old:
            def __dlpack__(self, **_: object) -> object:
                return arrived.__dlpack__()

            def __dlpack_device__(self) -> object:
                return arrived.__dlpack_device__()

        copied = np.from_dlpack(Old())  # type: ignore[arg-type]
        assert np.array_equal(copied, arrived)
        assert not np.shares_memory(copied, arrived)
        with pytest.raises(BufferError):
            arrived.__dlpack__(copy=False)

    def test_objects_do_not_travel(self, lane: Lane) -> None:
        """And nothing stays lent of a message that was not sent."""
        with pytest.raises(LocalProtocolError, match="Python objects"):
            lane.send([np.zeros(BIG), np.full(BIG, None)])
        lane.send(np.zeros(BIG))
        assert lane.segments == 1


class TestBuffers:
    @given(
        st.recursive(
            st.integers(0, 9) | st.integers(LARGE - 2, 3 * LARGE).map(os.urandom) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=3)
                | st.tuples(inner, inner).map(list)
            ),
            max_leaves=12,
        )
    )
    def test_bytes_at_any_depth(self, value: object) -> None:
        """They are found wherever they lie, and arrive as bytes."""
        lane = Lane()
        assert lane.send(value) == value
        lane.free()
        assert lane.writer.pack((1, 6, [])) == msgpack.packb((1, 6, []))

    @pytest.mark.parametrize(
        "value",
        [
            bytearray(os.urandom(BIG)),
            memoryview(os.urandom(BIG)),
            memoryview(os.urandom(2 * BIG))[::2],
            array.array("d", range(BIG)),
            memoryview(array.array("h", range(BIG))),
        ],
        ids=["bytearray", "memoryview", "every other byte", "array", "of another format"],
    )
    def test_other_buffers_arrive_as_memoryviews(
        self, lane: Lane, value: "bytearray | memoryview | array.array[float]"
    ) -> None:
        """Read-only, over the segment, without numpy."""
        arrived = lane.send(value)
        assert arrived.readonly
        assert arrived == memoryview(memoryview(value).tobytes())
        part = arrived[5:9]
        del arrived
        assert lane.free() == []
        del part
        assert len(lane.free()) == 1

    def test_in_a_call(self, lane: Lane) -> None:
        """Arguments are looked at before anything is packed, keywords too."""
        large = b"x" * (3 * MIB)
        call = (1, "s", "m", (large, 2), {"k": large}, 3.0, None)
        frame = lane.writer.pack(call)
        assert len(frame) < 200
        arrived = lane.reader.unpack(frame)
        assert arrived[3] == [large, 2]
        assert arrived[4] == {"k": large}
        lane.free()
        arrived = lane.reader.unpack(lane.writer.pack((1, "s", "m", (1,), {"k": large}, 3.0, None)))
        assert (arrived[3], arrived[4]) == ([1], {"k": large})

    def test_in_a_dataclass_beside_an_array(self, lane: Lane) -> None:
        """What is packed twice is placed once."""

        @dataclasses.dataclass
        class Batch:
            raw: bytes
            x: NDArray[Any]

        arrived = lane.send([Batch(b"r" * BIG, np.ones(BIG)), b"s" * BIG, np.zeros(BIG)])
        assert arrived[0]["raw"] == b"r" * BIG
        assert arrived[0]["x"].all()
        assert arrived[1] == b"s" * BIG
        assert not arrived[2].any()
        del arrived
        assert len(lane.free()) == 4

    def test_pointers_do_not_travel(self, lane: Lane) -> None:
        """An address means nothing to another process."""
        with pytest.raises(LocalProtocolError):
            lane.send(object())


class TestSmall:
    def test_small_values_need_no_segment(self, lane: Lane) -> None:
        """Below 16 KiB everything lies in the frame."""
        arrived = lane.send([np.zeros(LARGE // 8 - 1), b"x" * (LARGE - 1)])
        assert not arrived[0].any()
        assert lane.segments == 0

    def test_without_an_arena(self) -> None:
        """Everything lies in the frame, and nothing can be given back."""
        carrier = Carrier()
        frame = carrier.pack((1, 0, b"x" * BIG))
        assert carrier.unpack(frame) == [1, 0, b"x" * BIG]
        with pytest.raises(RemoteProtocolError):
            carrier.returned([1])


class TestLimits:
    def test_three_gigabytes_fail_at_once(self, lane: Lane) -> None:
        """Before a byte is touched: the text names size, quota and cure."""
        huge = np.broadcast_to(np.zeros(1), (3 << 27,))
        with pytest.raises(LocalProtocolError, match=rf"3221225472 .* {LANE_QUOTA} .* parts"):
            lane.send(huge)
        assert lane.segments == 0

    def test_what_the_reader_keeps_is_named(self, lane: Lane) -> None:
        """A sender that is refused learns that the other side still holds something."""
        lane.writer._out._pool = Pool(4 * MIB)  # type: ignore[union-attr]
        kept = lane.send(np.zeros(3 * MIB, np.uint8))
        with pytest.raises(LocalProtocolError, match=r"still holds 3145728 of the 4194304"):
            lane.send(np.zeros(2 * MIB, np.uint8))
        del kept
        lane.free()
        lane.send(np.zeros(2 * MIB, np.uint8))

    def test_middling_values_go_inline_where_no_segment_is_left(self, lane: Lane) -> None:
        """A thousand pipelined arrays of 16 KiB are no reason to fail."""
        kept = [lane.send(np.full(LARGE, n, np.uint8)) for n in range(MAX_SEGMENTS + 5)]
        assert all((array == n).all() for n, array in enumerate(kept))
        assert lane.segments == MAX_SEGMENTS
        with pytest.raises(LocalProtocolError, match="no room"):
            lane.send(np.zeros(MIB))
        del kept
        lane.free()

    def test_a_frame_that_stays_too_long(self, lane: Lane) -> None:
        """Many small things are no large one; nothing stays lent."""
        with pytest.raises(LocalProtocolError, match=f"the limit is {MAX_MESSAGE}"):
            lane.send([np.zeros(BIG), list(range(MAX_MESSAGE))])
        lane.send(np.zeros(BIG))
        assert lane.segments == 1

    def test_a_frame_that_was_not_sent(self, lane: Lane) -> None:
        """What it lent can be used again; another frame's loans stay."""
        first = lane.writer.pack((1, 0, np.zeros(BIG)))
        second = lane.writer.pack((2, 0, np.zeros(BIG)))
        lane.writer.unsent(first)
        lane.writer.unsent(second)
        lane.writer.unsent(second)
        third = lane.writer.pack((3, 0, np.ones(BIG)))
        assert lane.segments == 2
        assert not lane.reader.unpack(first)[2].any()
        assert lane.reader.unpack(third)[2].all()

    def test_deeply_nested_or_tangled(self, lane: Lane) -> None:
        """What msgpack can carry is carried, and what leads to itself ends."""
        value: list[Any] = [b"x" * BIG]
        for _ in range(400):
            value = [value]
        assert lane.send(value) == value
        tangle: list[Any] = [1]
        tangle += [tangle, tangle]
        for number in (1, 2):
            with pytest.raises((LocalProtocolError, ValueError)):
                lane.writer.pack((1, "s", "m", [b"x" * BIG, tangle][-number:], {}, 1.0, None))
        lane.send(np.zeros(BIG))
        assert lane.segments == 1

    def test_nested_too_deep(self, lane: Lane) -> None:
        """It is refused, and so is what contains itself."""
        value: list[Any] = [b"x" * BIG]
        for _ in range(2000):
            value = [value]
        with pytest.raises((LocalProtocolError, ValueError)):
            lane.send(value)
        value.append(value)
        with pytest.raises((LocalProtocolError, ValueError)):
            lane.send(value)


class TestOwn:
    def test_it_is_sent_without_a_copy(self, lane: Lane) -> None:
        """The reader sees what is written afterwards; it is shown the segment once."""
        own = lane.machine.writer.empty((1000, 100), np.float64)
        whole, part = lane.send([own, own[10:]])
        own[10, 0] = 7
        assert whole[10, 0] == part[0, 0] == 7
        assert lane.machine.reader.mapped.segments == 1
        assert lane.machine.segments.descriptors == 1

    @pytest.mark.parametrize("dtype", ["f8", "M8[s]", "i1", [("a", "f4"), ("b", "i8")]])
    @pytest.mark.parametrize("view", ["T", "tail", "reshaped", "frozen", "column"])
    def test_its_views(self, lane: Lane, view: str, dtype: DTypeLike) -> None:
        """A contiguous view is not copied, in whatever order; another one is."""
        own = lane.machine.writer.empty((400, 200), dtype)
        own[:] = np.arange(80000).reshape(400, 200).astype("i1" if dtype != "M8[s]" else "M8[s]")
        views = {"T": own.T, "tail": own[100:], "reshaped": own.reshape(-1)}
        views |= {"frozen": own[7:], "column": own[:, 1:]}
        views["frozen"].flags.writeable = view != "frozen"
        arrived = lane.send(views[view])
        assert np.array_equal(arrived, views[view])
        assert arrived.flags.fnc == (view == "T")
        assert lane.segments == (2 if view == "column" else 1)

    def test_it_goes_when_nobody_looks(self, lane: Lane) -> None:
        """Neither side's last view alone is enough; then the node forgets it."""
        arrived = lane.send(lane.machine.writer.empty(BIG, "f8"))
        assert lane.segments == 1
        del arrived
        lane.free()
        assert lane.segments == 0

    def test_to_two_readers(self) -> None:
        """One segment, shared with each lane it is sent over; a lane's end takes only its share."""
        machine = Machine(LANE, LANE + 1)
        one, other = Lane(machine), Lane(machine, LANE + 1)
        own = machine.writer.empty(BIG, "f8")
        first, second = one.send(own), other.send(own)
        own[3] = 5
        assert first[3] == second[3] == 5
        machine.lane_over(LANE)
        assert len(machine.segments) == 1
        own[4] = 6
        assert other.send(own)[4] == 6

    def test_what_cannot_travel_is_not_made(self, lane: Lane) -> None:
        """And an array of nothing needs no memory."""
        with pytest.raises(LocalProtocolError):
            lane.machine.writer.empty(3, object)
        assert lane.machine.writer.empty((0, 5), "f8").shape == (0, 5)


class TestTheEnd:
    def test_views_outlive_the_lane(self, lane: Lane) -> None:
        """What somebody looks at stays mapped until they look no more, and no longer."""
        arrived = lane.send(np.arange(BIG))
        part = arrived[4:6]
        lane.writer.close()
        lane.reader.close()
        lane.machine.ends[READER].read()
        del arrived
        assert list(part) == [4, 5]
        assert lane.machine.reader.mapped.segments == 1
        del part
        assert lane.machine.reader.mapped.segments == 0

    def test_a_carrier_that_nobody_closed(self) -> None:
        """A thread that has ended leaves nothing mapped."""
        lane = Lane()
        lane.send(np.zeros(BIG))
        machine = lane.machine
        del lane
        assert (machine.writer.mapped.segments, machine.reader.mapped.segments) == (0, 0)

    def test_the_node_says_that_a_lane_is_over(self, lane: Lane) -> None:
        """Both ends let go at once, though their threads may be elsewhere."""
        arrived = lane.send(np.arange(BIG))
        lane.machine.lane_over()
        assert lane.machine.writer.mapped.segments == 0
        with pytest.raises(BrokenPipeError):
            lane.send(np.zeros(BIG))
        assert arrived[3] == 3


def refer(*parts: object) -> bytes:
    """Forge a result that refers to shared memory."""
    packed: bytes = msgpack.packb((1, 0, msgpack.ExtType(SEGMENT, msgpack.packb(parts))))
    return packed


class TestLies:
    @pytest.mark.parametrize(
        "parts",
        [
            (),
            (0, 1, 1, 0),
            (0, 1, 1, -1, 5),
            (0, 1, 1, 0, -1),
            (0, 1, 1, 0, MIB + 1),
            (0, 1, 1, MIB, 1),
            (0, 1, 1, 2**63, 1),
            (0, "1", 1, 0, 1),
            (0, 1, 1.0, 0, 1),
            (0, True, 1, 0, 1),
            (0, 1, [1], 0, 1),
            (3, 1, 1, 0, 1),
            (-1, 1, 1, 0, 1),
            (2, 1, 1, 0, 80),
            (2, 1, 1, 0, 80, "<f8", [11], False),
            (2, 1, 1, 0, 80, "<f8", [-10], False),
            (2, 1, 1, 0, 80, "<f8", [-1, -1], False),
            (2, 1, 1, 0, 80, "O", [10], False),
            (2, 1, 1, 0, 80, [["a"], ["O"], [0], 8], [10], False),
            (2, 1, 1, 0, 80, "<f8", [[10]], False),
            (2, 1, 1, 0, 80, "<f8", [1] * 40, False),
        ],
        ids=repr,
    )
    def test_a_reference_that_lies(self, lane: Lane, parts: tuple[object, ...]) -> None:
        """Nothing outside the segment is ever looked at."""
        lane.send(np.zeros(BIG))
        with pytest.raises(RemoteProtocolError):
            lane.reader.unpack(refer(*parts))
        assert lane.reader.unpack(msgpack.packb((1, 0, 5))) == [1, 0, 5]

    @given(st.binary(max_size=60))
    def test_nonsense_breaks_nothing(self, body: bytes) -> None:
        """Random bytes are a value or the sender's fault."""
        lane = Lane()
        lane.send(np.zeros(BIG))
        try:
            lane.reader.unpack(msgpack.packb((1, 0, msgpack.ExtType(SEGMENT, body))))
        except RemoteProtocolError:
            return

    def test_a_segment_that_nobody_sent(self, lane: Lane) -> None:
        """The reader looks for it where it would come from, and not for ever."""
        with pytest.raises(RemoteProtocolError, match="does not have"):
            lane.reader.unpack(refer(0, 1, 99, 0, 1))
        assert lane.machine.ends[READER].waited
        with pytest.raises(Lie, match="does not have"):
            lane.reader.unpack(refer(0, 1, 99, 0, 1))

    @pytest.mark.parametrize("length", [2**61, 2**63, 2**80])
    def test_more_than_can_be_said(self, length: int) -> None:
        """The node would take it for nonsense, and end the connection."""
        with pytest.raises(LocalProtocolError, match="no room"):
            Machine().writer.empty((length,), "f8")

    def test_more_than_may_be_lent(self, lane: Lane) -> None:
        """Whoever is given leases and has nothing to say would keep them for ever."""
        lane.send(np.zeros(BIG))
        lane.reader.freed.extend(range(2 * MAX_LEASES - 1))
        with pytest.raises(RemoteProtocolError, match="lends more than it may"):
            lane.reader.unpack(refer(1, 1, 1, 0, 0))
        words = [lane.reader.pack((0, 6, lane.reader.take_freed())) for _ in range(2)]
        assert max(map(len, words)) < MAX_MESSAGE
        assert not lane.reader.freed

    def test_a_segment_of_another_lane(self) -> None:
        """What one peer sent is not there to be named by another."""
        machine = Machine(LANE, LANE + 1)
        one, other = Lane(machine), Lane(machine, LANE + 1)
        one.send(np.zeros(BIG))
        with pytest.raises(RemoteProtocolError):
            other.reader.unpack(refer(0, 1, 1, 0, 1))

    def test_two_values_in_a_frame(self, lane: Lane) -> None:
        """A frame is one value; what follows it would be taken for the next one."""
        with pytest.raises(RemoteProtocolError):
            lane.reader.unpack(msgpack.packb((1, 0, 2)) * 2)
        with pytest.raises(RemoteProtocolError):
            lane.reader.unpack(msgpack.packb((1, 0, 2))[:-1])
        assert lane.reader.unpack(msgpack.packb((1, 0, 3))) == [1, 0, 3]

    @pytest.mark.parametrize("leases", [None, 5, "x", [None], [[1]], [1.0], [True], [2], [1, 1]])
    def test_what_is_given_back_was_lent(self, lane: Lane, leases: object) -> None:
        """A reader that lies about it loses its lane."""
        arrived = lane.send(np.zeros(BIG))
        with pytest.raises(RemoteProtocolError):
            lane.writer.returned(leases)
        del arrived


def _arranged(array: NDArray[Any], order: str) -> NDArray[Any]:
    """Give an equal array whose bytes lie otherwise."""
    if order == "F":
        return np.asfortranarray(array)
    if order == "transposed":
        return array.T
    if order == "sparse" and array.ndim:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if order == "strided" and array.ndim:
        return array[::2]
    if order == "reversed" and array.ndim:
        return array[::-1]
    return array
