"""Decide which lines of a full log stay: of every plugin its last, of none more than its share.

So whoever has little in it loses nothing to whoever has much. No I/O, no clock.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

_OWNER: Final = b'"plugin_id": "'
"""Stands in a line of the log before anything that a plugin could have chosen."""


def last_of_each(lines: Sequence[bytes], room: int) -> list[bytes]:
    """Give the lines that stay, in their order.

    Args:
        room: Bytes that there are for all of them.
    """
    owners = [_owner(line) for line in lines]
    sizes: Counter[bytes] = Counter()
    for owner, line in zip(owners, lines, strict=True):
        sizes[owner] += len(line)
    most = share(sizes.values(), room)
    kept: list[bytes] = []
    taken: Counter[bytes] = Counter()
    for owner, line in zip(reversed(owners), reversed(lines), strict=True):
        taken[owner] += len(line)
        if taken[owner] <= most:  # once over it stays over: what is older goes, too
            kept.append(line)
    kept.reverse()
    return kept


def share(sizes: Collection[int], room: int) -> int:
    """Say how much each may keep; what some do not need the others have."""
    left = room
    for place, size in enumerate(sorted(sizes)):
        each = left // (len(sizes) - place)
        if size > each:
            return each
        left -= size
    return room


def _owner(line: bytes) -> bytes:
    return line.partition(_OWNER)[2].partition(b'"')[0]
