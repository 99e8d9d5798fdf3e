"""How peers ended, as far back as anybody may still ask."""

from typing import Final

from protocol.messages import Cause

CAUSE_S: Final = 0.5
"""How long a caller that sees the end of a lane waits for the node's word on why, seconds. It
comes in 1 ms where a core is free. A busy machine takes longer to let the node speak, and the two
processes above a worker in namespaces before it. Whoever closes a lane and lives on has its caller
wait for so long in vain, and with that all that runs in the same loop."""

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
