"""How peers ended, as far back as anybody may still ask."""

from typing import Final

from protocol.messages import Cause

UNASKED_S: Final = 0.02
"""How long whoever sees the end of a lane waits for its node's word on why before it asks, seconds.
It comes by itself in 1 ms where a core is free; a question only keeps the node from it."""

WORD_S: Final = 10.0
"""How long it waits in all, seconds. The word comes late on a machine that is busy, and never from
a node that is stopped."""

REMEMBERED: Final = 1024
"""A caller asks within milliseconds; a plugin that crashes for ever must not fill the memory."""


class Deaths:
    """The last deaths that a process heard of; lives as long as its connection."""

    def __init__(self) -> None:
        self._causes: dict[int, Cause] = {}

    def note(self, incarnation: int, cause: Cause) -> None:
        """Remember a death, and forget the oldest if there are many."""
        self._causes[incarnation] = cause
        if len(self._causes) > REMEMBERED:
            del self._causes[next(iter(self._causes))]

    def __contains__(self, incarnation: int) -> bool:
        return incarnation in self._causes

    def cause(self, incarnation: int) -> Cause:
        """Say how a peer ended, if it is known."""
        return self._causes.get(incarnation, Cause(kind="unknown"))
