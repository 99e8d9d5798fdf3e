"""The shared memory of one process: segments to write to, segments that others write, all counted.

The node allocates for everybody, so that no endpoint can map what it must not. A segment is asked
for, mapped, sealed by the node and sent to its reader; only then is it used. Everything is unmapped
by its last reference (segments.py), in whichever thread that ends. No lock is taken anywhere: one
operation on a dictionary is enough each time.
"""

import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from protocol.arrays import describe
from protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
)
from protocol.messages import Allocate, FromEndpoint, Mapped, Release, Share, Shared, Unshared
from protocol.pool import size_class

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from protocol.segments import Segment

ALLOCATE_S: Final = 5.0
"""How long the node may take for a segment, seconds. It takes 0.1 ms."""

SHARED_S: Final = 2.0
"""How long a segment may be on its way to its reader, seconds. The node sends it before its writer
may use it, so it is there already, or waits in the node for this process to read."""

LIAR_S: Final = 0.02
"""The same for the segments of a peer that has once named one which was not there: it must not hold
up the thread that serves others too, time after time."""

_MOST: Final = 1 << 62
"""Bytes that can be asked for; the node has room for far less, and says so."""


class Lie(RemoteProtocolError):
    """A peer names again what is not there: each time costs a wait, so it loses its lane."""


class NodeSide(Protocol):
    """How a process speaks with its node, from any thread."""

    def ask_node(self, build: Callable[[str], FromEndpoint], timeout: float) -> Any:  # noqa: ANN401
        """Ask the node and wait for its answer."""

    def tell_node_soon(self, message: FromEndpoint) -> None:
        """Tell the node without waiting for any lock: a finalizer may be the one that tells."""

    def wait_for_news(self, deadline: float) -> bool:
        """Wait until something may have come from the node; False when the time is up."""


class Ending(Protocol):
    """What hears that a lane is over."""

    def over(self) -> None:
        """Let go of what the lane's writer has; called from any thread."""


class Count(NamedTuple):
    """What is mapped: how many segments, and their bytes."""

    segments: int
    bytes: int


class Arena:
    """One process's shared memory; lives as long as its connection to the node."""

    def __init__(self, node: NodeSide) -> None:
        self._node = node
        self._live: dict[int, int] = {}
        self._incoming: dict[int, dict[int, Segment | None]] = {}
        self._ends: dict[int, weakref.ref[Ending]] = {}
        self._liars: set[int] = set()
        self._getpid = os.getpid
        self._pid = os.getpid()

    @property
    def mapped(self) -> Count:
        """What is mapped now, to be written or read."""
        sizes = tuple(self._live.values())
        return Count(len(sizes), sum(sizes))

    # --- to write ---------------------------------------------------------------------------------

    def allocate(self, lane: int, size: int) -> "Segment":
        """Give a segment that the other end of a lane can read.

        Args:
            lane: Its number, or 0 for a segment that `share` shows to whomever it is sent.
            size: Bytes, as `pool.size_class` gives them.

        Raises:
            LocalProtocolError: The node or this process has no room for it.
            BrokenPipeError: The lane is over.
        """
        from protocol.segments import Segment  # noqa: PLC0415 - ctypes, only for who needs it

        number, fd = self._ask(lambda name: Allocate(name, lane, size))
        try:
            segment = Segment(number, fd, size, self._live, self._release)
        except OSError as error:
            self._release(number)
            raise LocalProtocolError(f"no room to map {size} bytes: {error.strerror}") from None
        finally:
            os.close(fd)
        self._ask(lambda name: Mapped(name, number))
        return segment

    def share(self, segment: "Segment", lane: int) -> None:
        """Let the other end of a lane read a segment; once is enough.

        Raises:
            LocalProtocolError, BrokenPipeError: As `allocate`.
        """
        if lane not in segment.shared:
            self._ask(lambda name: Share(name, segment.number, lane))
            segment.shared.add(lane)

    def empty(self, shape: int | tuple[int, ...], dtype: "DTypeLike") -> "NDArray[Any]":
        """Give an array that lies in shared memory, so that sending it copies nothing.

        It is all zeros, and writable; whoever it was sent to sees what is written to it later.

        Raises:
            LocalProtocolError: Its dtype cannot travel, or there is no room.
        """
        import numpy as np  # noqa: PLC0415 - its caller wants an array

        kind = np.dtype(dtype)
        lengths = (shape,) if isinstance(shape, int) else tuple(shape)
        describe(kind, len(lengths))
        size = kind.itemsize
        for length in lengths:
            size *= length
        if size <= 0:
            return np.empty(lengths, kind)
        if size > _MOST:
            raise LocalProtocolError(f"no room for {size} bytes")
        segment = self.allocate(0, size_class(size))
        segment.used = size
        return np.ndarray(lengths, kind, segment.own())

    def _ask(self, build: Callable[[str], FromEndpoint]) -> Any:  # noqa: ANN401 - as the node answers
        if self._getpid() != self._pid:
            raise LocalProtocolError("a forked child has no connection of its own; make one there")
        try:
            return self._node.ask_node(build, ALLOCATE_S)
        except ServiceUnavailable as error:
            raise BrokenPipeError(str(error)) from None
        except SpiralHostError as error:
            raise LocalProtocolError(f"no shared memory to send it by: {error}") from None

    def _release(self, number: int) -> None:
        # A finalizer calls this: in any thread, inside anything, perhaps at the interpreter's end.
        with suppress(Exception):
            if self._getpid() == self._pid:
                self._node.tell_node_soon(Release(number))

    # --- to read ----------------------------------------------------------------------------------

    def told(self, message: Shared | Unshared, descriptors: list[int]) -> None:
        """Take in what the node says of others' segments. Called in whichever thread reads."""
        if isinstance(message, Shared):
            known = self._incoming.setdefault(message.lane, {})
            known[message.segment] = self._map(message, descriptors)
        elif message.segment:
            self._incoming.get(message.lane, {}).pop(message.segment, None)
        else:
            end = self._ends.pop(message.lane, None)
            ending = end() if end is not None else None
            if ending is not None:
                ending.over()
            self.leave(message.lane)
        for fd in descriptors:
            os.close(fd)

    def _map(self, shared: Shared, descriptors: list[int]) -> "Segment | None":
        from protocol.segments import Segment, check  # noqa: PLC0415 - as above

        try:
            check(descriptors[0], shared.size)
            return Segment(shared.segment, descriptors[0], shared.size, self._live)
        except (IndexError, OSError, RemoteProtocolError):
            return None  # whoever names it is told

    def incoming(self, lane: int, number: int, peer: int = 0) -> "Segment":
        """Give a segment that the other end of a lane writes; waits if it is on its way.

        Args:
            peer: Who that is, by its incarnation.

        Raises:
            RemoteProtocolError: There is none, or it cannot be read here.
        """
        known = self._incoming.get(lane)
        if known is None or number not in known:
            known = self._wait_for(lane, number, peer)
        segment = known[number]
        if segment is None:
            raise RemoteProtocolError("its shared memory cannot be mapped here")
        return segment

    def _wait_for(self, lane: int, number: int, peer: int) -> "dict[int, Segment | None]":
        deadline = time.monotonic() + (LIAR_S if peer in self._liars else SHARED_S)
        while number not in (known := self._incoming.get(lane, {})):
            if not self._node.wait_for_news(deadline):
                error = Lie if peer in self._liars else RemoteProtocolError
                self._liars.add(peer)
                raise error("it names shared memory that it does not have")
        return known

    # --- lanes ------------------------------------------------------------------------------------

    def join(self, lane: int, end: Ending) -> None:
        """Have one end of a lane told when the node says that the lane is over."""
        self._ends[lane] = weakref.ref(end)

    def leave(self, lane: int) -> None:
        """Forget a lane; what views still hold stays mapped until the last of them is gone."""
        self._ends.pop(lane, None)
        self._incoming.pop(lane, None)
