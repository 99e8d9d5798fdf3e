"""Have the answers to calls that came together leave together; none waits long for a handler.

Nobody knows beforehand how long a handler will take. So answers that are ready wait for the next
one only if its method was quick the last few times, and only until the oldest is `HOLD_S` old.
A method that was always quick and once is not holds them up once. A thread that waits, or asks
whether its call was cancelled, sends them first: what it waits for may need them.
"""

from time import monotonic
from typing import TYPE_CHECKING, Final

from protocol.running import DOUBT, Target, run
from protocol.turn import TURN

if TYPE_CHECKING:
    from protocol.calls import Call
    from protocol.line import Line
    from protocol.reactor import Reactor

QUICK_S: Final = 0.0002
"""What a quick handler takes at most: to send an answer by itself costs a hundredth of it."""

HOLD_S: Final = 0.0005
"""How old an answer may be when the next handler begins, seconds."""


def release_gathered() -> None:
    """Send what this thread has gathered, before it waits for something that is no call."""
    reactor = TURN.reactor
    if reactor is not None:
        reactor.send_unsent()


class Gathering:
    """The answers on one line that leave together; one for each thread that serves."""

    def __init__(self, reactor: "Reactor") -> None:
        self.line: Line | None = None
        """Whose answers are gathered, if any are."""
        self._reactor = reactor
        self._since = self._last = 0.0
        """When it began, and when the last handler was over."""

    def begin(self, line: "Line") -> None:
        """Gather what is sent on a line from now on."""
        self.line = line
        self._since = self._last = monotonic()
        line.lane.gather()
        self._reactor.unsent[self] = self.release

    def release(self) -> None:
        """Send what was gathered, if anything is, and gather no more."""
        line, self.line = self.line, None
        if line is not None:
            self._reactor.unsent.pop(self, None)
            line.release()

    def run(self, line: "Line", call: "Call", target: Target) -> None:
        """Run a plain handler among others."""
        if target.doubt:
            self.release()
            self._last = monotonic()
            run(line, call, target, self._last)
            target.doubt = DOUBT if monotonic() - self._last > QUICK_S else target.doubt - 1
            self.begin(line)
            return
        run(line, call, target, self._last)
        now = monotonic()
        if now - self._last > QUICK_S:
            target.doubt = DOUBT
        self._last = now
        if now - self._since > HOLD_S:
            self.release()
            self.begin(line)
