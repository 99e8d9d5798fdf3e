"""Decide how fast plugins that fell may be started again, all together. No clock.

Each plugin has a backoff of its own; this is for the day when many of them fall at once, and a
machine that is busy starting them has no time to serve. First starts, and those that a person asks
for, are not counted.
"""

from typing import Final

RATE: Final = 10.0
"""Restarts a second, in the long run: a tenth of what one core can start."""

BURST: Final = 20.0

_WHOLE: Final = 1.0 - 1e-6
"""Or who comes back at the very moment of `next_at` would be sent away by a rounding error."""


class Pace:
    """A token bucket; lives as long as the supervisor."""

    def __init__(self) -> None:
        self._left = BURST
        self._since = 0.0

    def take(self, now: float) -> bool:
        """Take the right to one restart; say whether there was any left."""
        self._fill(now)
        if self._left < _WHOLE:
            return False
        self._left -= 1.0
        return True

    def next_at(self, now: float) -> float:
        """Say when there is a right again."""
        self._fill(now)
        return now + max(0.0, 1.0 - self._left) / RATE

    def _fill(self, now: float) -> None:
        self._left = min(BURST, self._left + max(0.0, now - self._since) * RATE)
        self._since = now
