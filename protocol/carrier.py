"""Values to frames and back, for one end of a lane; large arrays and buffers by shared memory.

Small values are packed and unpacked by msgpack alone; what is large is found by msgpack's hooks
(arrays), or by one look at the arguments (bytes), or by a walk through a frame that turned out
large. Without an arena everything lies in the frames.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgpack

from protocol.calls import CALL_PARTS
from protocol.codec import MAX_MESSAGE, default, extension, new_packer
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.incoming import Incoming
from protocol.outgoing import BUFFERS, PLAIN, Outgoing, size_of
from protocol.pool import LARGE, MAX_LEASES

if TYPE_CHECKING:
    from protocol.arena import Arena

_ARGUMENTS: Final = 3
_KEYWORDS: Final = 4

_KEPT_BUFFER: Final = 4 * MAX_MESSAGE
"""A packer keeps the memory of the largest value it has packed; beyond this it is made anew."""


FUNCTION: Final = 3
"""msgpack's extension type of a function that came as an argument: msgpack of its number."""


unpack: Final = msgpack.unpackb


def are_plain(values: Sequence[object]) -> bool:
    """Say whether all are of `PLAIN` types."""
    for value in values:  # noqa: SIM110 - a generator for each call would take longer
        if type(value) not in PLAIN:
            return False
    return True


def no_message(error: Exception) -> RemoteProtocolError:
    """Say of a frame that it is no message: msgpack has five kinds of exceptions for that."""
    if isinstance(error, RemoteProtocolError):
        return error
    return RemoteProtocolError(f"not a message: {type(error).__name__}: {error}")


class Functions(Protocol):
    """Who knows the functions that go out and come in as arguments of calls."""

    def export(self, function: Callable[..., object]) -> int:
        """Give the number by which the other end may call a function."""

    def adopt(self, number: int) -> object:
        """Give what calls the other end's function of this number."""


def _turn(functions: Functions, other: Callable[[object], object], value: object) -> object:
    if callable(value) and not isinstance(value, type):
        return msgpack.ExtType(FUNCTION, msgpack.packb(functions.export(value)))
    return other(value)


def _extend(
    functions: Functions, other: Callable[[int, bytes], object], code: int, body: bytes
) -> object:
    if code != FUNCTION:
        return other(code, body)
    number = msgpack.unpackb(body)
    if type(number) is not int:
        raise RemoteProtocolError("a function without a number")
    return functions.adopt(number)


class Carrier:
    """Packs and unpacks what one end of a lane sends and is sent; used by one thread.

    Args:
        arena: The process's shared memory; None has everything lie in the frames.
        lane: The node's number for the lane, `peer` the incarnation at its other end.
        functions: Gives functions numbers, and numbers functions; None has them refused.
    """

    def __init__(
        self,
        arena: "Arena | None" = None,
        lane: int = 0,
        peer: int = 0,
        functions: "Functions | None" = None,
    ) -> None:
        self.freed: deque[int] = deque()
        """Leases that the peer can have back: their last views are gone here."""
        self.peer = peer
        self._arena = arena
        self._lane = lane
        self._last: bytes | None = None
        self._leases: list[int] = []
        """What the frame packed last has lent, if it has."""
        self._out: Outgoing | None = None
        self._turn: Callable[[object], object] = default
        self.extension: Callable[[int, bytes], object] = extension
        if arena is not None:
            self._out = Outgoing(arena, lane)
            incoming = Incoming(arena, lane, peer)
            self.freed = incoming.freed
            self._turn, self.extension = self._out.default, incoming.extension
            arena.join(lane, self)
        if functions is not None:
            self._turn = partial(_turn, functions, self._turn)
            self.extension = partial(_extend, functions, self.extension)
        self.packer = new_packer(self._turn)
        """Packs what has nothing in it but `PLAIN` values; for all else there is `pack`."""

    # --- to the peer ------------------------------------------------------------------------------

    def pack(self, value: tuple[Any, ...]) -> bytes:
        """Build a frame. It has to be sent, or taken back by `unsent`.

        Args:
            value: A call, whose arguments are looked through, or a word, whose last part is.

        Raises:
            LocalProtocolError: A value cannot travel, or is more than ever fits; nothing was lent.
            NoRoom: The peer has to give something back first; nothing was lent.
            TypeError, ValueError, OverflowError: msgpack's own words for the same.
            BrokenPipeError: The lane is over.
        """
        out = self._out
        if out is None:
            return self.packer(value)
        try:
            if len(value) == CALL_PARTS:
                for item in value[_ARGUMENTS]:
                    if type(item) in BUFFERS and size_of(item) >= LARGE:
                        value = out.lift_arguments(value)
                        break
                else:
                    if value[_KEYWORDS]:
                        value = out.lift_arguments(value)
            elif type(value[-1]) in BUFFERS:
                value = *value[:-1], out.lift(value[-1])
            frame = self.packer(value)
            if len(frame) > LARGE:
                frame = self._pack_again(out, value, frame)
        except BaseException:
            out.undo(out.lent)
            raise
        if out.is_used:
            self._last, self._leases = frame, out.done()
        return frame

    def _pack_again(self, out: Outgoing, value: tuple[Any, ...], frame: bytes) -> bytes:
        """Pack again what turned out large, in case large buffers lie deeper in it."""
        if len(frame) > _KEPT_BUFFER:
            self.packer = new_packer(self._turn)
        lighter = out.lighten(value)
        if lighter is not None:
            frame = self.packer(lighter)
        if len(frame) > MAX_MESSAGE:
            raise LocalProtocolError(f"a frame of {len(frame)} bytes; the limit is {MAX_MESSAGE}")
        return frame

    def unsent(self, frame: bytes) -> None:
        """Take back what the frame packed last has lent: it was not sent."""
        if self._out is not None and self._last is frame:
            self._out.undo(self._leases)
            self._last = None

    # --- from the peer ----------------------------------------------------------------------------

    def unpack(self, frame: bytes) -> Any:  # noqa: ANN401 - it is whatever the other side said
        """Read a frame; large arrays and buffers are read-only views over shared memory.

        Raises:
            RemoteProtocolError: It is no value, or names shared memory that is not there.
        """
        try:
            return unpack(frame, ext_hook=self.extension, strict_map_key=False)
        except Exception as error:  # noqa: BLE001 - msgpack has five kinds for bad input
            raise no_message(error) from None

    def take_freed(self) -> list[int]:
        """Take the leases that the peer can have back, to tell it; as many as fit in a word."""
        freed = self.freed
        count = min(len(freed), MAX_LEASES)  # one more may end meanwhile
        return [freed.popleft() for _ in range(count)]

    def returned(self, leases: object) -> None:
        """Use again what the peer looks at no more.

        Raises:
            RemoteProtocolError: It gives back what it does not have.
        """
        if self._out is None:
            raise RemoteProtocolError("it gives back what it was not lent")
        self._out.returned(leases)

    # --- the end ----------------------------------------------------------------------------------

    def over(self) -> None:
        """Let go of what is lent; what this end is still shown stays until `close`."""
        if self._out is not None:
            self._out.over()

    def close(self) -> None:
        """End it: what views still hold stays mapped until the last of them is gone."""
        self.over()
        if self._arena is not None:
            self._arena.leave(self._lane)

    def __del__(self) -> None:
        # The lanes of a thread that has ended: nobody is left to close them.
        if getattr(self, "packer", None) is not None:  # else it was never made
            self.close()
