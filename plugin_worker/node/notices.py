"""Tell the daemon what this machine's workers were refused: a few messages, however often it was.

What a worker says of itself is cut to bounds, and is worth a line for the operator, nothing more.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.messages import Denied, WasDenied
from protocol.names import shown
from protocol.permissions import WORDS
from protocol.reactor import Reactor, Timer
from protocol.tally import Counted, Tally

MAX_COUNT: Final = 1 << 32
"""Refusals that one message of a worker may tell of."""


class Notices:
    """The refusals of every worker of this machine; lives as long as the node."""

    def __init__(self, reactor: Reactor, tell_daemon: Callable[[Denied], None]) -> None:
        self._reactor = reactor
        self._tell_daemon = tell_daemon
        self._tallies: dict[int, Tally] = {}
        self._timer: Timer | None = None

    def said(self, incarnation: int, said: WasDenied) -> None:
        """Take in what a worker says that it was refused.

        Raises:
            RemoteProtocolError: There is no such permission, or it counts what nobody can count.
        """
        if said.permission not in WORDS or not 0 < said.count <= MAX_COUNT:
            raise RemoteProtocolError(f"refused {said.count} times {shown(said.permission)}")
        self.note(incarnation, said.permission, said.what, said.count)

    def note(self, incarnation: int, permission: str, what: str, count: int = 1) -> None:
        """Count refusals, and tell them if it is time."""
        tally = self._tallies.setdefault(incarnation, Tally())
        self._tell(incarnation, tally.note(permission, what, count, time.monotonic()))
        if self._timer is None:
            self._arm()

    def forget(self, incarnation: int) -> None:
        """Tell what is left to be told of a worker that is gone."""
        tally = self._tallies.pop(incarnation, None)
        if tally is not None:
            self._tell(incarnation, tally.rest())

    def _tell(self, incarnation: int, told: Iterable[Counted]) -> None:
        for counted in told:
            self._tell_daemon(Denied(incarnation, *counted))

    def _arm(self) -> None:
        due = [tally.deadline for tally in self._tallies.values()]
        soonest = min((when for when in due if when is not None), default=None)
        self._timer = None if soonest is None else self._reactor.call_at(soonest, self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        for incarnation, tally in tuple(self._tallies.items()):
            self._tell(incarnation, tally.expire(now))
            if tally.deadline is None:
                del self._tallies[incarnation]
        self._arm()
