"""Decide how many events may be under way to somebody who takes them in later. No I/O, no clock."""

from typing import Final

WINDOW_EVENTS: Final = 8192
WINDOW_BYTES: Final = 1 << 20
"""What a publisher may have under way to its node: enough for a node that looks every 12 ms at
680,000 events a second."""

ANSWER_EVENTS: Final = WINDOW_EVENTS // 4
ANSWER_BYTES: Final = WINDOW_BYTES // 4
"""How much is taken in before its publisher is told: the rest of its window is three times that."""


class Window:
    """Counts what was sent and not yet taken in; lives as long as the publisher.

    One thread at a time says `sent`, and another one `taken`: neither writes what the other does.
    """

    __slots__ = ("_sent", "_sent_bytes", "_taken", "_taken_bytes")

    def __init__(self) -> None:
        self._sent = self._sent_bytes = self._taken = self._taken_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the next event has to wait."""
        return (
            self._sent - self._taken >= WINDOW_EVENTS
            or self._sent_bytes - self._taken_bytes >= WINDOW_BYTES
        )

    def sent(self, events: int, size: int) -> None:
        """Count so many as on their way."""
        self._sent += events
        self._sent_bytes += size

    def taken(self, events: int, size: int) -> None:
        """Count so many as arrived."""
        self._taken += events
        self._taken_bytes += size


class Receipts:
    """Counts what was taken in and not yet told; lives as long as its publisher's connection."""

    __slots__ = ("_events", "_size")

    def __init__(self) -> None:
        self._events = self._size = 0

    def took(self, events: int, size: int) -> tuple[int, int] | None:
        """Count events as taken in; give what the publisher should be told now, if anything."""
        self._events += events
        self._size += size
        if self._events < ANSWER_EVENTS and self._size < ANSWER_BYTES:
            return None
        told, self._events, self._size = (self._events, self._size), 0, 0
        return told
