"""Decide what a silent node is: asked, named in an alarm, given up. No I/O, no clock.

ZeroMQ's heartbeats see a node whose process is stopped, and end its connection; only an answer of
the loop that starts and reaps workers shows that it does so. To end a node ends every worker on it,
so that takes long.
"""

from dataclasses import dataclass
from typing import Final

ASK_S: Final = 3.0
"""Silence after which a node is asked, seconds; a busy one says more often how its workers are."""

ALARM_S: Final = 6.0
"""Silence that an operator is told of, seconds."""

GIVE_UP_S: Final = 60.0
"""Silence after which it is ended and another one started, seconds: what it runs serves on, and a
person who has stopped it to look at it has time to say so."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a node has found.

    Attributes:
        silent_s: Seconds since it was heard, if that is worth an alarm, else 0.
    """

    is_to_be_asked: bool
    silent_s: float
    is_hopeless: bool


class NodeWatch:
    """When a node was heard last; lives as long as the daemon.

    Args:
        every_s: How often it is looked at, seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._late_s = 3.0 * every_s
        self._heard = self._looked = 0.0

    def heard(self, now: float) -> None:
        """It has said something."""
        self._heard = now

    def look(self, now: float) -> Look:
        """Look at it. Whoever was away itself begins anew: it could not have heard."""
        if now - self._looked > self._late_s:
            self._heard = now
        self._looked = now
        silent_s = now - self._heard
        return Look(
            is_to_be_asked=silent_s >= ASK_S,
            silent_s=silent_s if silent_s >= ALARM_S else 0.0,
            is_hopeless=silent_s >= GIVE_UP_S,
        )
