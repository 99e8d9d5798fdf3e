"""Decide whether a rate is kept: a bucket that tokens trickle into. No I/O, no clock."""

from math import inf


class Bucket:
    """What is left of a rate for one that has to keep it; lives as long as that one.

    Args:
        rate: Tokens a second; what is saved up for one second may go at once.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._most = max(rate, 1.0)
        self._left = self._most
        self._since = -inf

    def take(self, now: float) -> bool:
        """Take one token if it is there."""
        self._fill(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def owe(self, count: int, now: float) -> bool:
        """Take so many, there or not; say whether some are owed now."""
        self._fill(now)
        self._left -= count
        return self._left < 0.0

    def wait_s(self, wanted: float = 0.0) -> float:
        """Say how long it takes, from when it was last asked, until so many are there, seconds."""
        return max(0.0, (wanted - self._left) / self.rate)

    def _fill(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._since) * self.rate)
        self._since = now
