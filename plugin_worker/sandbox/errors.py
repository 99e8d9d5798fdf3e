"""What is said when a layer of confinement is missing or does not hold."""

from typing import Final

from plugin_worker.sandbox.policy import CURES
from protocol.errors import SpiralHostError

EXIT_UNCONFINED: Final = 70
"""Exit status of a worker that could not confine itself, so that no plugin code ran in it.
`EX_SOFTWARE` of sysexits.h; a plugin that exits with 70 by itself has written no such line."""


class ConfinementError(SpiralHostError):
    """A step of confinement failed; the worker ends before any plugin code runs.

    Attributes:
        layer: A name of `policy.LAYERS`, or "process" for what every worker does.
        why: What the kernel, or the step, said.
    """

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(layer, why)
        self.layer = layer
        self.why = why

    def __str__(self) -> str:
        cure = CURES.get(self.layer)
        return f"{self.layer}: {self.why}" + (f"; cure: {cure}" if cure else "")


class MissingLayer(ConfinementError):
    """This machine, or this installation, does not have the layer at all."""
