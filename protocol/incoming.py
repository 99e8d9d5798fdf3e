"""What one end of a lane is sent by shared memory: views over it, each with its lease.

Belongs to the thread of its lane; but views may end in any thread, and then say so in `freed`.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgpack

from protocol.arrays import ARRAY, build, from_extension
from protocol.errors import RemoteProtocolError
from protocol.outgoing import BUFFER, BYTES, IN_ARRAY, SEGMENT
from protocol.pool import MAX_LEASES

if TYPE_CHECKING:
    from protocol.arena import Arena


class Incoming:
    """The reader's side of one end of a lane; lives as long as the lane."""

    def __init__(self, arena: "Arena", lane: int, peer: int = 0) -> None:
        self.freed: deque[int] = deque()
        """Leases whose last view is gone."""
        self._arena = arena
        self._lane = lane
        self._peer = peer

    def extension(self, code: int, body: bytes) -> object:
        """Give what an extension value stands for.

        Raises:
            RemoteProtocolError: It stands for nothing.
        """
        if code == ARRAY:
            return from_extension(body)
        if code == SEGMENT:
            return self._view(msgpack.unpackb(body))
        raise RemoteProtocolError(f"unknown extension type {code}")

    def _view(self, parts: Any) -> object:  # noqa: ANN401 - whatever the peer said
        what, lease, number, offset, size, *array = parts
        for value in (lease, number, offset, size):
            if type(value) is not int:
                raise RemoteProtocolError("a reference to shared memory of the wrong types")
        if len(self.freed) >= 2 * MAX_LEASES:  # an honest writer has had them back before
            raise RemoteProtocolError("it lends more than it may")
        segment = self._arena.incoming(self._lane, number, self._peer)
        if not 0 <= offset <= offset + size <= segment.size:
            raise RemoteProtocolError("a reference beyond the end of its shared memory")
        memory = memoryview(segment.lease(lease, self.freed)).toreadonly()
        if what == IN_ARRAY:
            description, shape, is_fortran = array
            order: Literal["C", "F"] = "F" if is_fortran is True else "C"
            return build(memory, offset, size, description, shape, order)
        body = memory.cast("B")[offset : offset + size]
        if what == BYTES:
            return bytes(body)
        if what == BUFFER:
            return body
        raise RemoteProtocolError(f"shared memory that holds nothing known: {what}")
