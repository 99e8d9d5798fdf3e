"""Have a worker import a plugin only to say its metadata, and give the answer when it has come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.messages import Broken, Described, DescribePlugin, EndWorker, PluginSource, ToNode
from protocol.reactor import Reactor, Timer

DESCRIBE_S: Final = 60.0
"""How long a plugin may take to be imported for its metadata, seconds."""


LEAVE_S: Final = 5.0
"""How long its worker may take to leave once it has answered, seconds: as long as any other's."""


@dataclass(slots=True)
class _Asked:
    source: PluginSource
    then: Callable[[Described | Broken], None]
    timer: Timer


class Describing:
    """Workers that are only asked for metadata; lives as long as the supervisor.

    Args:
        spawn: Starts a worker for such a question.
        tell_worker: Sends a lifecycle message to it.
    """

    def __init__(
        self,
        reactor: Reactor,
        tell_node: Callable[[ToNode], None],
        spawn: Callable[[int, PluginSource], None],
        tell_worker: Callable[[int, DescribePlugin], None],
    ) -> None:
        self._reactor = reactor
        self._tell_node = tell_node
        self._spawn = spawn
        self._tell_worker = tell_worker
        self._asked: dict[int, _Asked] = {}

    def __contains__(self, incarnation: int) -> bool:
        return incarnation in self._asked

    def ask(
        self, incarnation: int, source: PluginSource, then: Callable[[Described | Broken], None]
    ) -> None:
        """Begin to ask."""
        late = EndWorker(incarnation, "describe timeout", force=True)
        timer = self._reactor.call_later(DESCRIBE_S, lambda: self._tell_node(late))
        self._asked[incarnation] = _Asked(source, then, timer)
        self._spawn(incarnation, source)

    def confined(self, incarnation: int) -> bool:
        """A worker may be told what to import; False if it is none of these."""
        asked = self._asked.get(incarnation)
        if asked is not None:
            self._tell_worker(incarnation, DescribePlugin(source=asked.source))
        return asked is not None

    def said(self, incarnation: int, answer: Described | Broken) -> None:
        """A worker has answered. It leaves by itself, unless what it imported keeps it."""
        if incarnation in self._asked:
            stays = EndWorker(incarnation, "it stayed behind its answer", force=True)
            self._reactor.call_later(LEAVE_S, lambda: self._tell_node(stays))
        self.answered(incarnation, answer)

    def answered(self, incarnation: int, answer: Described | Broken) -> None:
        """Give an answer; harmless if nobody waits for it any more."""
        asked = self._asked.pop(incarnation, None)
        if asked is not None:
            asked.timer.cancel()
            asked.then(answer)

    def lost(self, incarnation: int, why: str) -> None:
        """A worker will never answer."""
        self.answered(incarnation, Broken(stage="start", error=why, traceback=""))

    def all_lost(self, why: str) -> None:
        """None of them will."""
        for incarnation in tuple(self._asked):
            self.lost(incarnation, why)

    def resume(self, living: set[int]) -> None:
        """Start those again that nobody was there to start."""
        for incarnation, asked in self._asked.items():
            if incarnation not in living:
                self._spawn(incarnation, asked.source)
