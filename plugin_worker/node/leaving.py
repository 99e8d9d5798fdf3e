"""Let a node leave: in order when it has been left alone, at once when it is told to.

    no daemon for so long -> every plugin stops -> SIGTERM -> SIGKILL -> the node ends

A daemon that stops does all this itself, dependents first. A node knows of no dependents; it asks
all at the same time. A daemon that comes while the node leaves is not greeted any more, and starts
another node.
"""

from typing import Final

from plugin_worker.node.saying import say
from plugin_worker.node.workers import Workers
from protocol import failpoints
from protocol.messages import TO_WORKER, EndWorker, StopPlugin
from protocol.reactor import Reactor, Timer

DRAIN_S: Final = 20.0
"""How long a worker may finish what is running and run `on_unload`, seconds: the longest that a
manifest may ask for, because the node knows of none."""

TERMINATE_S: Final = 1.5
"""How long a worker may take from SIGTERM to its end, seconds; as the supervisor has it."""


class Leaving:
    """A node's end; lives as long as the node.

    Args:
        alone_s: How long the node goes on without any daemon, seconds.
    """

    def __init__(self, reactor: Reactor, workers: Workers, alone_s: float) -> None:
        self.is_begun = False
        self._reactor = reactor
        self._workers = workers
        self._alone_s = alone_s
        self._timer = Timer(0.0, None)

    @property
    def is_over(self) -> bool:
        """Whether the node may end: it is to, and no worker lives."""
        return self.is_begun and not self._workers.living

    def left_alone(self) -> None:
        """Wait for a daemon, for so long."""
        if not self.is_begun:
            self._timer.cancel()
            self._timer = self._reactor.call_later(self._alone_s, self._drain)

    def found(self) -> None:
        """Stay: there is a daemon."""
        if not self.is_begun:
            self._timer.cancel()

    def at_once(self) -> None:
        """End every worker by force, then the node."""
        if failpoints.ARMED:
            failpoints.hit("leave.heard")
        self.is_begun = True
        self._timer.cancel()
        self._workers.end_all("the node stops")

    def _drain(self) -> None:
        say(f"no daemon for {self._alone_s:g} s: every plugin stops, then this node ends")
        self.is_begun = True
        for incarnation in tuple(self._workers.living):
            self._workers.relay(incarnation, TO_WORKER.encode(StopPlugin()))
        self._timer = self._reactor.call_later(DRAIN_S, self._terminate)

    def _terminate(self) -> None:
        for incarnation in tuple(self._workers.living):
            rule = f"did not stop within {DRAIN_S:g} s"
            self._workers.end(EndWorker(incarnation, rule, force=False))
        self._timer = self._reactor.call_later(TERMINATE_S, self.at_once)
