"""Decide when a worker is asked for a sign of life, and when it counts as silent.

    heard --nothing for 2 s--> asked --answered, or it counts--> heard
                                 +----nothing for 1.5 s-------> silent --a sign of life--> heard

Sends nothing and reads no clock. Busy is not dead: while a call of the flight page is inside its
deadline, or the plugin has said that it is busy, nobody has to answer. A call that has outstayed
its deadline makes its worker silent whatever its loop answers: another thread may be stuck.
"""

from dataclasses import dataclass
from typing import Final

from protocol.flight import FlightPage, Running

LOOK_S: Final = 2.0
"""How often a worker's page is looked at, seconds; 7 us each."""

QUIET_S: Final = 2.0
"""How long a worker that was busy may say nothing before it is asked, seconds."""

SELDOM_S: Final = 10.0
"""How long one may that only ever answers, seconds. With a hundred of them, looks and measurements
included, a node takes 0.3 % of a core."""

CENSUS_S: Final = 30.0
"""How often one is asked that shows signs of life by itself, seconds: for its descriptors."""

ANSWER_S: Final = 1.5
"""How long the answer may take, seconds. It takes less than 1 ms where a core is free; a machine
with ten times more work than cores takes a second."""

OVERDUE_S: Final = 2.0
"""How long a call may outstay its deadline, seconds; a plain handler hears of it by asking."""

LATE_S: Final = 1.0
"""So much later than it asked for it is looked at where the node itself stood still, seconds."""

_MUCH: Final = 1 << 20
"""Descriptors: no worker has more, whatever it says."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look has come to.

    Attributes:
        ping: The number of a ping that is to be sent, or 0.
        silence: Why the worker counts as silent now, or empty.
        has_changed: Whether that differs from what was found before.
    """

    ping: int
    silence: str
    has_changed: bool


class Pulse:
    """One worker's signs of life, since it was loaded; lives as long as the worker.

    Args:
        alone: Whether one thread does all its work, so that what it counts is a sign of life.
    """

    def __init__(self, *, alone: bool, now: float) -> None:
        self.due = now + LOOK_S
        """When it is to be looked at."""
        self.silence = ""
        """Why it counts as silent, or empty."""
        self.descriptors: int | None = None
        """How many it has open, by its last word."""
        self._alone = alone
        self._counted = (-1, -1, -1)
        self._since = now
        """Since when its answer is waited for; later if it was excused, or we stood still."""
        self._heard = self._asked = now
        self._late_from = 0.0
        self._quiet_s = QUIET_S
        self._pings = 0
        self._is_waiting = False

    def answered(self, number: int, descriptors: int, now: float) -> bool:
        """Take in a pong; say whether it answers the last ping."""
        if number != self._pings:
            return False
        self.descriptors = max(0, min(descriptors, _MUCH))
        if self._is_waiting:
            self._quiet_s = min(self._quiet_s * 1.5, SELDOM_S)
            self._hear(now)
        return True

    def look(self, page: FlightPage, now: float) -> Findings:
        """Take in its flight page. Early looks are harmless; after a late one it has more time."""
        if now > self.due + LATE_S:
            self._since = self._heard = self._late_from = now
        self._count(page, now)
        silence = self._judge(page, now)
        has_changed = bool(silence) != bool(self.silence)
        if has_changed or not silence:
            self.silence = silence
        ping = 0
        if not self._is_waiting and self._has_to_be_asked(now):
            self._pings += 1
            self._is_waiting, self._since, self._asked, ping = True, now, now, self._pings
        self.due = now + (ANSWER_S if ping else LOOK_S)
        return Findings(ping, self.silence, has_changed)

    def _has_to_be_asked(self, now: float) -> bool:
        return now - self._heard >= self._quiet_s or now - self._asked >= CENSUS_S

    def _hear(self, now: float) -> None:
        self._since = self._heard = now
        self._is_waiting = False

    def _count(self, page: FlightPage, now: float) -> None:
        counted = (page.calls, page.errors, page.events)
        if counted == self._counted:
            return
        self._counted = counted
        self._quiet_s = QUIET_S
        if self._alone:
            self._hear(now)

    def _judge(self, page: FlightPage, now: float) -> str:
        if page.is_busy(now):
            self._since = self._late_from = now
            return ""
        inside = [one for one in page.running if now < one.deadline]
        late = [
            one
            for one in page.running
            if self._is_late(one, now) and not (self._alone and _waits(one, inside))
        ]
        if late:
            return f"{late[0].label or 'a call'} goes on {OVERDUE_S:g} s after its deadline"
        if inside:
            self._since = now
        elif self._is_waiting and now - self._since >= ANSWER_S:
            return f"its loop has not answered for {ANSWER_S:g} s"
        return ""

    def _is_late(self, one: Running, now: float) -> bool:
        """Say whether a call has had its time, and this long again since our own clock stood."""
        return not one.is_stream and now - max(one.deadline, self._late_from) > OVERDUE_S


def _waits(late: Running, inside: list[Running]) -> bool:
    """Say whether the one thread there is may be in another call, which has not outstayed.

    It is in the innermost one. Below an `async def` it may be in any other; below a plain call in
    none that is `async def`: these run when all plain ones have returned.
    """
    return any(late.is_async or not one.is_async for one in inside)
