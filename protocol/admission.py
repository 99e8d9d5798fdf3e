"""Hold a plugin to what it may call, and how often: where its calls are made, and where they come.

A caller's own daemon and library refuse first. The callee looks again, because a lane serves all
services of its callee; it allows twice the rate, so that what was held up on the way and comes at
once harms nobody but who goes behind the library's back.
"""

import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from protocol.bucket import Bucket
from protocol.errors import Overloaded, PermissionDenied, SpiralHostError
from protocol.names import EVERYTHING, shown
from protocol.patterns import matches

if TYPE_CHECKING:
    from protocol.calls import Call
    from protocol.messages import LaneOpened

MAX_CALLERS: Final = 1024
"""Callers whose rates a process keeps; fewer have lanes to it. A lane that is closed and opened
again is no way to a new rate."""

MAX_KNOWN: Final = 256
"""Services of which it is remembered that they may be called: as many as a process offers."""


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
                raise _overloaded(call, self._bucket, self._rate)


class Admissions:
    """Those who call a process; lives as long as its connection."""

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}

    def of(self, opened: "LaneOpened") -> "Admission | None":
        """Give what the calls on a lane are held to; None where it is to nothing."""
        has_rate = opened.call_rate != inf
        if EVERYTHING in opened.services and not has_rate:
            return None
        return Admission(opened, self._bucket(opened) if has_rate else None)

    def _bucket(self, opened: "LaneOpened") -> Bucket:
        """Give a caller's, one for all its lanes."""
        bucket = self._buckets.pop(opened.peer, None) or Bucket(2 * opened.call_rate)
        while len(self._buckets) >= MAX_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[opened.peer] = bucket
        return bucket


class Admission:
    """What the calls on one lane are held to; lives as long as it."""

    def __init__(self, opened: "LaneOpened", bucket: Bucket | None) -> None:
        self._caller = opened.peer_name
        self._services = opened.services
        self._rate = opened.call_rate
        self._bucket = bucket
        self._known: set[str] = set()

    def refusal(self, call: "Call") -> SpiralHostError | None:
        """Count a call that has come; give the error if it may not be, or is one too many.

        Functions that came as arguments may be called as often as their call lasts.
        """
        service = call[1]
        if not service:
            return None
        if service not in self._known:
            if not any(matches(pattern, service) for pattern in self._services):
                return PermissionDenied("services", shown(service), self._caller)
            if len(self._known) < MAX_KNOWN:
                self._known.add(service)
        if self._bucket is None or self._bucket.take(monotonic()):
            return None
        return _overloaded(f"{service}.{call[2]}", self._bucket, self._rate)


def _overloaded(call: str, bucket: Bucket, rate: float) -> Overloaded:
    wait_s = max(0.001, round(bucket.wait_s(1.0), 3))
    return Overloaded(call, wait_s, f"its caller may make {rate:g} calls a second (call_rate)")
