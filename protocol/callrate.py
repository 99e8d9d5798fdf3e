"""Hold calls to a rate: those that this process makes, and those that come from each caller.

A caller's own library refuses first. The callee allows twice as much, so that what was held up on
the way and comes at once harms nobody but who goes behind the library's back.
"""

import threading
from time import monotonic
from typing import Final

from protocol.bucket import Bucket
from protocol.errors import Overloaded

MAX_CALLERS: Final = 1024
"""Callers whose rates a process keeps; fewer have lanes to it. A lane that is closed and opened
again is no way to a new rate."""


def overloaded(call: str, bucket: Bucket, rate: float) -> Overloaded:
    """Say that a call was one too many, and which limit that was."""
    wait_s = max(0.001, round(bucket.wait_s(1.0), 3))
    return Overloaded(call, wait_s, f"its caller may make {rate:g} calls a second (call_rate)")


class CallRate:
    """The rate of the calls that a plugin makes; lives as long as its worker."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._bucket = Bucket(rate)
        self._counting = threading.Lock()

    def take(self, call: str) -> None:
        """Count a call that is about to be made.

        Raises:
            Overloaded: There were too many in the last second; nothing was sent.
        """
        with self._counting:
            if not self._bucket.take(monotonic()):
                raise overloaded(call, self._bucket, self._rate)


class CallerRates:
    """The rates of those that call a process; lives as long as its connection."""

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}

    def of(self, caller: int, rate: float) -> Bucket:
        """Give the bucket of a caller, one for all its lanes."""
        bucket = self._buckets.pop(caller, None) or Bucket(2 * rate)
        while len(self._buckets) >= MAX_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[caller] = bucket
        return bucket


def refusal(bucket: Bucket, call: str) -> Overloaded | None:
    """Count a call that has come; give the error if it was one too many."""
    if bucket.take(monotonic()):
        return None
    return overloaded(call, bucket, bucket.rate / 2)
