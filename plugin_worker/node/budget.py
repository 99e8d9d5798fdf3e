"""Decide how much one worker may say or print. No I/O, no clock.

A token bucket: what is saved up may go at once, then only what trickles in. Who has spent all
waits, and its words stay in its own socket or pipe. Events have bounds of their own (feeds.py).
"""

from typing import Final

BURST: Final = 4 << 20
RATE: Final = 2 << 20
"""Bytes, and bytes a second. A worker that starts says a few hundred bytes, one that fails a
traceback; this lets a thousand questions a second through and no flood."""

COST: Final = 512
"""What a message costs beside its bytes: many small ones are as much work as a large one."""


class Budget:
    """What one worker may still say, or print; lives as long as the worker.

    Args:
        burst: Bytes that may be saved up.
        rate: Bytes that trickle in each second.
    """

    def __init__(self, burst: int = BURST, rate: int = RATE) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._since = 0.0

    def spend(self, size: int, now: float) -> bool:
        """Count a message, or one reading of output; say whether the worker has to wait."""
        saved_up = min(self._burst, self._left + (now - self._since) * self._rate)
        self._left = saved_up - size - COST
        self._since = now
        return self._left < 0

    def wait_s(self, now: float) -> float:
        """Say how long until the debt is paid, seconds."""
        return max(0.0, -self._left / self._rate - (now - self._since))
