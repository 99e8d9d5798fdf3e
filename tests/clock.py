"""A hand-fed clock, and a reactor whose timers follow it and whose descriptors are never read."""

import heapq
from collections.abc import Callable

from protocol.reactor import Reactor, Timer


class Clock:
    """Stands still until somebody moves it; put in a module's place of `time`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class HandReactor(Reactor):
    """Calls back when the test says that time has passed, or that a descriptor is ready."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.close()
        self.watched: dict[int, Callable[[], None]] = {}
        self._clock = clock

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.watched[fd] = callback

    def forget(self, fd: int) -> None:
        del self.watched[fd]

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(self._clock.now + delay_s, callback)

    @property
    def due(self) -> list[float]:
        """When the timers that nobody has cancelled are due, soonest first."""
        return sorted(when for when, _, timer in self._timers if timer.callback is not None)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; every timer is called at its own moment, those it sets too."""
        until = self._clock.now + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self._clock.now = max(self._clock.now, when)
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()
        self._clock.now = until
