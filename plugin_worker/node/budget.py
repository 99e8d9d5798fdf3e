"""Decide how much one worker may say to its node and the daemon. No I/O, no clock.

A token bucket: what is saved up may go at once, then only what trickles in. Who has spent all
waits, and its words stay in its own socket. Events have bounds of their own (feeds.py).
"""

from typing import Final

BURST: Final = 4 << 20
RATE: Final = 2 << 20
"""Bytes, and bytes a second. A worker that starts says a few hundred bytes, one that fails a
traceback; this lets a thousand questions a second through and no flood."""

COST: Final = 512
"""What a message costs beside its bytes: many small ones are as much work as a large one."""


class Budget:
    """One worker's budget; lives as long as the worker."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._since = 0.0

    def spend(self, size: int, now: float) -> bool:
        """Count a message; say whether the worker has to wait."""
        self._left = min(BURST, self._left + (now - self._since) * RATE) - size - COST
        self._since = now
        return self._left < 0

    def wait_s(self, now: float) -> float:
        """Say how long until the debt is paid, seconds."""
        return max(0.0, -self._left / RATE - (now - self._since))
