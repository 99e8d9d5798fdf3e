"""Keep the interest page true: what the hub says is wanted, and what is wanted on this machine."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocol.interest import InterestWriter
from protocol.names import Topic
from protocol.reactor import Reactor, Timer
from protocol.wanted import Wanted

if TYPE_CHECKING:
    from protocol.feed import Interest


class NodeInterest:
    """What one node's workers may take for wanted; lives as long as the node."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._wanted = Wanted()
        self._page = InterestWriter()
        self._own: Iterable[Topic] = ()
        self._timer: Timer | None = None
        self._is_stale = False

    @property
    def fd(self) -> int:
        """The page, for workers to read."""
        return self._page.fd

    def told(self, change: "Interest") -> None:
        """Take in what the hub says; every publisher knows it when this returns."""
        added, removed = map(Topic, change.added), map(Topic, change.removed)
        now = time.monotonic()
        if self._wanted.told(change.generation, (*added,), (*removed,), change.full, now):
            self._write()

    def own(self, patterns: Iterable[Topic]) -> None:
        """Take in all that the workers of this machine subscribe to, `patterns` being a view.

        The page says so after this turn of the loop, once for all changes of it. A subscription is
        confirmed later than that.
        """
        self._own = patterns
        if not self._is_stale:
            self._is_stale = True
            self._reactor.call_later(0.0, self._own_changed)

    def _own_changed(self) -> None:
        self._is_stale = False
        if self._wanted.own(self._own):
            self._write()

    def hub_lost(self) -> None:
        """Drop nothing until the next hub has told what is wanted there."""
        self._wanted.hub_lost()
        self._arm()

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()

    def _write(self) -> None:
        self._page.write(self._wanted.patterns)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._wanted.deadline
        self._timer = None if due is None else self._reactor.call_at(due, self._expire)

    def _expire(self) -> None:
        if self._wanted.expire(time.monotonic()):
            self._write()
