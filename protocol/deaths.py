"""How peers ended, as far back as anybody may still ask."""

from typing import Final

from protocol.messages import Cause

WORD_S: Final = 10.0
"""How long whoever asks its node how a peer ended waits at most for its word, seconds. It comes in
1 ms where a core is free, later on a machine that is busy, and never from a node that is stopped.
"""

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
