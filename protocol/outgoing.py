"""What one end of a lane sends by shared memory: where each large value lies, and what comes back.

    an array, a buffer  ->  copied once into a segment of the pool  ->  [what, lease, segment, ...]
    an array of `Arena.empty`, or a contiguous view of it  ->  not copied; its reader is shown it

Belongs to the thread of its lane, but for `over`.
"""

import sys
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgpack

from protocol.arrays import describe, is_array, is_numpy, new_extension, to_extension
from protocol.codec import as_buffer, default
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.pool import LARGE, MAX_GROWN, MAX_LEASES, Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protocol.arena import Arena
    from protocol.segments import Segment

SEGMENT: Final = 2
"""msgpack's extension type: msgpack [what, lease, segment, offset, bytes], and for an array also
[..., dtype, shape, whether in Fortran's order]."""

BYTES: Final = 0
BUFFER: Final = 1
IN_ARRAY: Final = 2

BUFFERS: Final = frozenset({bytes, bytearray, memoryview})
"""What msgpack packs by itself, however large, so that it has to be looked for."""

PLAIN: Final = frozenset({int, float, str, bool, type(None)})
"""Types whose values are asked nothing when they are packed, and are never lent."""

_DEPTH: Final = 64
"""How deep large buffers are looked for; msgpack goes 511 deep, Python's own stack does not."""

_ALIGNED: Final = 64
"""Bytes between the beginnings of two values in a segment: a line of the processor's cache."""

_SMALL_ENOUGH: Final = 256 * 1024
"""Bytes of a value that goes by the socket after all where there is no segment for it."""


class Outgoing:
    """The writer's side of one end of a lane; lives as long as the lane."""

    def __init__(self, arena: "Arena", lane: int) -> None:
        self.lent: list[int] = []
        """The leases of the message that is being packed."""
        self.is_used = False
        """Whether that message has anything large in it."""
        self._arena = arena
        self._lane = lane
        self._pool = Pool()
        self._numbers = count(1)
        self._pack = msgpack.Packer().pack
        self._segments: dict[int, Segment] = {}
        self._own: dict[int, Segment] = {}
        self._current: Segment | None = None
        self._offset = 0
        self._packed: deque[object] = deque()
        self._again: deque[object] | None = None
        self._is_over = False

    # --- one message ------------------------------------------------------------------------------

    def default(self, value: object) -> object:
        """Turn what msgpack does not know into what it knows.

        Raises:
            LocalProtocolError: It cannot travel, or there is no room for it.
            BrokenPipeError: The lane is over.
        """
        if is_numpy(value):
            if is_array(value) and value.nbytes >= LARGE:  # type: ignore[attr-defined]
                return self._once(value)
            return to_extension(value)  # type: ignore[arg-type]
        view = as_buffer(value)
        if view is not None and view.nbytes >= LARGE:
            return self._once(view)
        return self._lift(default(value), self._once)

    def lift(self, value: Any) -> Any:  # noqa: ANN401 - any value
        """Give what a value is sent as, if it is a large buffer; else itself."""
        is_large = type(value) in BUFFERS and size_of(value) >= LARGE
        return self._place(value) if is_large else value

    def lift_arguments(self, call: tuple[Any, ...]) -> tuple[Any, ...]:
        """Move the large buffers among a call's arguments into segments."""
        number, service, method, arguments, keywords, *rest = call
        arguments = [self.lift(item) for item in arguments]
        if keywords:
            keywords = {name: self.lift(item) for name, item in keywords.items()}
        return number, service, method, arguments, keywords, *rest

    def lighten(self, value: Any) -> Any:  # noqa: ANN401 - any value
        """Move every large buffer of a message into a segment; None if it has none.

        The message has been packed as it is: what `default` gave then, it gives again.
        """
        lent, self._again = len(self.lent), None
        lighter = self._lift(value, self._place)
        if lent == len(self.lent):
            return None
        self._again, self._packed = self._packed, deque()
        return lighter

    def done(self) -> list[int]:
        """The message is packed: give its leases, and begin the next.

        Raises:
            LocalProtocolError: It changed while it was packed.
        """
        if self._again:
            raise _changed()
        lent, self.lent = self.lent, []
        self._begin()
        return lent

    def undo(self, leases: list[int]) -> None:
        """Take back what a message lent that nobody was sent."""
        self.lent = []
        self._begin()
        self.returned(leases)

    def _begin(self) -> None:
        self.is_used = False
        self._current, self._again = None, None
        self._packed.clear()

    def _once(self, value: Any) -> object:  # noqa: ANN401 - an array or a buffer
        """Place a value, unless this is the second time that its message is packed."""
        if self._again is None:
            placed = self._place(value)
            self._packed.append(placed)
            return placed
        if not self._again:
            raise _changed()
        return self._again.popleft()

    def _lift(self, value: Any, place: Any, depth: int = _DEPTH) -> Any:  # noqa: ANN401
        if type(value) in BUFFERS:
            return place(value) if size_of(value) >= LARGE else value
        if isinstance(value, dict):
            if not depth or PLAIN.issuperset(map(type, value.values())):
                return value
            return {key: self._lift(item, place, depth - 1) for key, item in value.items()}
        if isinstance(value, list | tuple) and not isinstance(value, msgpack.ExtType):
            if not depth or PLAIN.issuperset(map(type, value)):
                return value
            return [self._lift(item, place, depth - 1) for item in value]
        return value

    # --- one value --------------------------------------------------------------------------------

    def _place(self, value: Any) -> object:  # noqa: ANN401 - an array or a buffer
        self.is_used = True
        if type(value) in BUFFERS:
            return self._place_buffer(value)
        return self._place_array(value)

    def _place_buffer(self, value: bytes | bytearray | memoryview) -> object:
        what, size = (BYTES if type(value) is bytes else BUFFER), size_of(value)
        room = self._room(size)
        if room is None:
            return bytes(value)
        segment, offset, lease = room
        view = memoryview(value)
        flat = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        memoryview(segment.view).cast("B")[offset : offset + size] = flat
        return self._reference((what, lease, segment.number, offset, size))

    def _place_array(self, array: "NDArray[Any]") -> object:
        flags, size = array.flags, array.nbytes
        description, shape = describe(array.dtype, array.ndim), list(array.shape)
        own = sys.modules["protocol.segments"].segment_under(array) if _has_segments() else None
        if own is not None and flags.forc:
            offset = own.offset_of(array)
            lease = self._lend_own(own)
            number = own.number
        elif (room := self._room(size)) is not None:
            segment, offset, lease = room
            number, numpy = segment.number, sys.modules["numpy"]
            order = "F" if flags.fnc else "C"
            target = numpy.ndarray(array.shape, array.dtype, segment.view, offset, order=order)
            numpy.copyto(target, array, casting="no")
        else:
            return to_extension(array)
        place = (IN_ARRAY, lease, number, offset, size)
        return self._reference((*place, description, shape, flags.fnc))

    def _reference(self, parts: tuple[object, ...]) -> object:
        return new_extension(SEGMENT, self._pack(parts))

    def _lend_own(self, segment: "Segment") -> int:
        if len(self._own) >= MAX_LEASES:
            raise LocalProtocolError(f"the other side holds {MAX_LEASES} arrays; let it drop some")
        self._arena.share(segment, self._lane)
        lease = next(self._numbers)
        self._own[lease] = segment
        self.lent.append(lease)
        return lease

    def _room(self, size: int) -> "tuple[Segment, int, int] | None":
        """Give a segment, an offset and a lease for a value; None if it had better go inline."""
        segment, offset = self._current, self._offset
        if segment is None or offset + size > segment.size:
            try:
                segment, offset = self._fetch(size), 0
            except LocalProtocolError:
                if size > _SMALL_ENOUGH:
                    raise
                return None
        lease = next(self._numbers)
        self._current, self._offset = segment, offset + -(-size // _ALIGNED) * _ALIGNED
        self._pool.lend(lease, segment.number, size)
        self.lent.append(lease)
        return segment, offset, lease

    def _fetch(self, size: int) -> "Segment":
        free = self._pool.take(size)
        segment = self._segments.get(free) if free is not None else None
        if self._is_over:
            raise BrokenPipeError("the lane is over")
        if segment is not None:
            return segment
        # A message of many arrays gets larger and larger segments, rather than many.
        last = self._current
        wanted = min(2 * last.size, MAX_GROWN) if last is not None else size
        planned, gone = self._pool.plan(size, wanted)
        self._drop(gone)
        segment = self._arena.allocate(self._lane, planned)
        self._segments[segment.number] = segment
        self._pool.add(segment.number, planned)
        return segment

    # --- what comes back --------------------------------------------------------------------------

    def returned(self, leases: object) -> None:
        """Use again what the reader looks at no more.

        Raises:
            RemoteProtocolError: It names what it does not have.
        """
        if type(leases) is not list or not {int}.issuperset(map(type, leases)):
            raise RemoteProtocolError("it gives back what is no lease")
        pooled = [lease for lease in leases if self._own.pop(lease, None) is None]
        if pooled:
            self._drop(self._pool.returned(pooled))

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self._segments.pop(number, None)

    def over(self) -> None:
        """Let go of everything; from any thread."""
        self._is_over = True
        self._segments, self._own = {}, {}
        self._current = None


def size_of(value: bytes | bytearray | memoryview) -> int:
    """Give the bytes of a buffer."""
    return value.nbytes if type(value) is memoryview else len(value)


def _has_segments() -> bool:
    return "protocol.segments" in sys.modules


def _changed() -> LocalProtocolError:
    return LocalProtocolError("a value was changed by another thread while it was sent")
