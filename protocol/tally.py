"""Count what a plugin is refused, and decide when that is told. No I/O, no clock.

The first refusal of each kind is told at once, those that follow as a count every ten seconds. So
whoever tries something a million times costs those who hear of it a few messages.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

EVERY_S: Final = 10.0
"""How often a refusal that goes on is told again, seconds; as often as a person looks."""

MAX_KINDS: Final = 64
"""Kinds that are told apart in that time, as a permission and what was tried; others are counted
together for each permission."""

MAX_WHAT: Final = 200
"""Bytes of what was tried that are kept, in UTF-8."""

OTHERS: Final = "(others)"


class Counted(NamedTuple):
    """So many refusals of one kind, to be told."""

    permission: str
    what: str
    times: int


@dataclass(slots=True)
class _Kind:
    due: float
    count: int = 0


class Tally:
    """The refusals of one plugin; lives as long as whoever tells of them."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], _Kind] = {}

    @property
    def deadline(self) -> float | None:
        """When to call `expire`; None while nothing is counted."""
        return min((kind.due for kind in self._kinds.values()), default=None)

    def note(self, permission: str, what: str, count: int, now: float) -> tuple[Counted, ...]:
        """Count refusals; give what is to be told at once.

        Args:
            permission: One of the words of `[permissions]`: of these there are few.
        """
        key = (permission, _shortened(what))
        if key not in self._kinds and len(self._kinds) >= MAX_KINDS:
            key = (permission, OTHERS)
        kind = self._kinds.get(key)
        if kind is None:
            self._kinds[key] = _Kind(now + EVERY_S)
            return (Counted(*key, count),)
        kind.count += count
        return ()

    def expire(self, now: float) -> tuple[Counted, ...]:
        """Give the counts that are due; what did not happen again is forgotten."""
        due = {key: kind for key, kind in self._kinds.items() if kind.due <= now}
        for key, kind in due.items():
            if not kind.count:
                del self._kinds[key]
        told = tuple(Counted(*key, kind.count) for key, kind in due.items() if kind.count)
        for kind in due.values():
            kind.due, kind.count = now + EVERY_S, 0
        return told

    def rest(self) -> tuple[Counted, ...]:
        """Give what is counted and not told: nothing will follow."""
        left = {key: kind.count for key, kind in self._kinds.items() if kind.count}
        self._kinds.clear()
        return tuple(Counted(*key, count) for key, count in left.items())


def _shortened(what: str) -> str:
    # Escaped: a path may hold half a character, which cannot travel.
    text = what[: MAX_WHAT + 1].encode(errors="backslashreplace")
    if len(text) > MAX_WHAT:
        text = text[: MAX_WHAT - 3].decode(errors="ignore").encode() + b"..."
    return text.decode()
