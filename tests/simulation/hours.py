"""Time that passes when the simulation says so, and pipes that deliver late and in order."""

import heapq
from collections import deque
from collections.abc import Callable
from random import Random

from protocol.reactor import Timer
from tests.clock import Clock, HandReactor


class Hours(HandReactor):
    """Everybody's timers; called one after the other, each at its own moment."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.clock = clock

    @property
    def now(self) -> float:
        """What every clock shows."""
        return self.clock.now

    def step(self, until: float) -> bool:
        """Call the next timer; False when none is due until then, and then it is then."""
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self.clock.now = max(self.clock.now, when)
                callback, timer.callback = timer.callback, None
                callback()
                return True
        self.clock.now = max(self.clock.now, until)
        return False


class Life(HandReactor):
    """The timers of one process: none is called after its death."""

    def __init__(self, hours: Hours) -> None:
        super().__init__(hours.clock)
        self.is_over = False
        self._hours = hours

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self._hours.call_at(when, lambda: None if self.is_over else callback())


class Pipe:
    """One direction of a connection."""

    def __init__(self, hours: Hours, rng: Random, deliver: Callable[[bytes], None]) -> None:
        self._hours = hours
        self._rng = rng
        self._deliver = deliver
        self._last = 0.0
        self._under_way: deque[Timer] = deque()

    def send(self, body: bytes) -> None:
        """Have it arrive a little later, after whatever was sent before."""
        delay = self._rng.expovariate(1 / 0.002)
        self._last = max(self._last, self._hours.now + delay)
        self._under_way.append(self._hours.call_at(self._last, lambda: self._arrive(body)))

    def _arrive(self, body: bytes) -> None:
        self._under_way.popleft()
        self._deliver(body)

    def cut(self) -> float:
        """Its writer is dead: some of what is under way arrives, the rest never does.

        Returns:
            When the last of it arrives.
        """
        kept = self._rng.randint(0, len(self._under_way))
        last = self._hours.now
        for number, timer in enumerate(self._under_way):
            if number < kept:
                last = max(last, timer.when)
            else:
                timer.cancel()
        return last

    def close(self) -> None:
        """Its reader is dead: nothing arrives."""
        for timer in self._under_way:
            timer.cancel()


class Connection:
    """What ties a node or client to one daemon, under an id that is never used again."""

    def __init__(
        self,
        hours: Hours,
        rng: Random,
        key: bytes,
        to_daemon: Callable[[bytes, list[bytes]], None],
        to_peer: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self.key = key
        self.is_open = True
        self._hours = hours
        self._lost = lost
        self._up = Pipe(hours, rng, lambda body: to_daemon(key, [body]))
        self._down = Pipe(hours, rng, to_peer)

    def say(self, body: bytes) -> None:
        """Send to the daemon."""
        if self.is_open:
            self._up.send(body)

    def tell(self, body: bytes) -> None:
        """Send to the peer."""
        self._down.send(body)

    def daemon_died(self) -> None:
        """The daemon's end is gone; the peer notices once it has read what had been sent."""
        self.is_open = False
        self._up.close()
        self._hours.call_at(self._down.cut(), self._lost)

    def peer_died(self) -> None:
        """The peer's end is gone; what it had said may still arrive."""
        self.is_open = False
        self._up.cut()
        self._down.close()
