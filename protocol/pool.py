"""Decide which segment takes what a lane's writer sends. No I/O, no shared memory.

A segment serves one direction of one lane and is used again once its reader has given back every
lease of it; never for another reader, who could still see what it held.
"""

from collections.abc import Iterable
from typing import Final

from protocol.errors import LocalProtocolError, RemoteProtocolError

LARGE: Final = 16 * 1024
"""Bytes from which a value lies in a segment: below, copying it through the socket is faster."""

LANE_QUOTA: Final = 512 << 20
"""Bytes of the segments of one direction of a lane: a few of the largest tensors, an eighth of the
4 GiB that a worker may map."""

MAX_SEGMENTS: Final = 128
"""Segments of one direction of a lane. Each is a mapping on both sides, of 65,530 a process."""

SMALLEST: Final = 1 << 20
"""Bytes of a segment: pages that nobody touches cost nothing, and a larger one is used more."""

MAX_GROWN: Final = 64 << 20
"""How far a segment may be made larger than asked for, because a message has many arrays, bytes."""

SPARE: Final = 256 << 20
"""Bytes that a lane keeps for what comes next; what is free beyond that goes back at once."""

MAX_LEASES: Final = 1 << 16
"""Leases that a reader may hold. It costs the writer memory to remember them."""


class NoRoom(LocalProtocolError):
    """The other side holds too much; there is room again when it has given some back."""


def size_class(size: int) -> int:
    """Give the size of the segment that is allocated for so many bytes; four to a doubling."""
    if size <= SMALLEST:
        return SMALLEST
    step = (1 << (size - 1).bit_length()) >> 3
    return -(-size // step) * step


class Pool:
    """The segments of one direction of a lane, as its writer knows them.

    Args:
        quota: Bytes that they may have together.
        most: How many they may be.
    """

    def __init__(self, quota: int = LANE_QUOTA, most: int = MAX_SEGMENTS) -> None:
        self.held = 0
        """Bytes that the reader looks at, or may."""
        self._quota = quota
        self._most = most
        self._total = 0
        self._sizes: dict[int, int] = {}
        self._leases: dict[int, tuple[int, int]] = {}
        self._lent: dict[int, int] = {}
        self._free: dict[int, None] = {}
        self._spare = 0

    def take(self, size: int) -> int | None:
        """Give the smallest free segment that is large enough; of equals the one last used."""
        best = None
        for number in reversed(self._free):
            if size <= self._sizes[number] and (
                best is None or self._sizes[number] < self._sizes[best]
            ):
                best = number
        if best is not None:
            del self._free[best]
            self._spare -= self._sizes[best]
        return best

    def plan(self, size: int, wanted: int) -> tuple[int, list[int]]:
        """Say how large a segment to allocate, and which free ones to give back for it.

        Args:
            size: Bytes that it has to hold, `wanted` those that it would better have.

        Raises:
            LocalProtocolError: There is never room for so much.
            NoRoom: There is none now.
        """
        if size > self._quota:
            raise LocalProtocolError(
                f"{size} bytes are more than the {self._quota} that a lane may carry at once; "
                "send it in parts"
            )
        for candidate in (size_class(max(size, wanted)), size_class(size)):
            over = self._total + candidate - self._quota
            if over <= self._spare and len(self._sizes) - len(self._free) < self._most:
                return candidate, self._give_back(over)
        raise NoRoom(
            f"no room for {size} bytes: the other side still holds {self.held} of the "
            f"{self._quota} bytes that a lane may carry at once, in {len(self._sizes)} segments of "
            f"{self._most}; let it drop arrays that it keeps, or copy them"
        )

    def _give_back(self, over: int) -> list[int]:
        """Forget free segments, the longest unused first, until there is room."""
        gone = []
        for number in tuple(self._free):
            if over <= 0 and len(self._sizes) < self._most:
                break
            over -= self._sizes[number]
            self._forget(number)
            gone.append(number)
        return gone

    def _forget(self, number: int) -> None:
        del self._free[number]
        size = self._sizes.pop(number)
        self._spare -= size
        self._total -= size

    def add(self, number: int, size: int) -> None:
        """Take in a segment that was allocated, to be used at once."""
        self._sizes[number] = size
        self._total += size

    def lend(self, lease: int, number: int, size: int) -> None:
        """Note that something lies in a segment, in so many bytes."""
        self._leases[lease] = number, size
        self._lent[number] = self._lent.get(number, 0) + 1
        self.held += size

    def returned(self, leases: Iterable[int]) -> list[int]:
        """Take leases back; give the segments that are not worth keeping any more.

        Raises:
            RemoteProtocolError: The reader never had one of them, or has given it back before.
        """
        for lease in leases:
            if lease not in self._leases:
                raise RemoteProtocolError("it gives back what it was not lent")
            number, size = self._leases.pop(lease)
            self.held -= size
            self._lent[number] -= 1
            if not self._lent[number]:
                del self._lent[number]
                self._free[number] = None
                self._spare += self._sizes[number]
        gone = []
        while self._spare > SPARE and len(self._free) > 1:
            oldest = next(iter(self._free))
            self._forget(oldest)
            gone.append(oldest)
        return gone
