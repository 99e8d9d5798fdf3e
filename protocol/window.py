"""Decide how many events a publisher may have under way to its node. No I/O, no clock."""

from collections import deque
from typing import Final

WINDOW_EVENTS: Final = 1024
WINDOW_BYTES: Final = 1 << 20
"""Enough for a node that looks every millisecond at 680,000 events a second."""


class Window:
    """Counts what was sent and not yet taken; lives as long as the publisher."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the next event has to wait."""
        return len(self._sizes) >= WINDOW_EVENTS or self._bytes >= WINDOW_BYTES

    def sent(self, size: int) -> None:
        """Count an event on its way."""
        self._sizes.append(size)
        self._bytes += size

    def taken(self, count: int) -> None:
        """Count the oldest as arrived."""
        for _ in range(min(count, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
