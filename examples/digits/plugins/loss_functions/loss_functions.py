"""Say how wrong the scores are. Shows how one plugin uses another: softmax is the Operators'.

The manifest asks for `operators >= 1.0.0`, so that plugin is ready before this one is loaded, and
`ctx.get_service` finds what it offers. Each call then goes from worker to worker, past the host.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plugin_worker import Plugin, PluginContext

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

TINY = np.float32(1e-12)
"""Keeps log() finite where a probability has been rounded to zero."""


class Softmax(Protocol):
    """The part of the service `operators` that is needed here."""

    def softmax(self, scores: Floats) -> Floats:
        """Turn each row of scores into probabilities."""
        ...


class LossService:
    """Loss functions over scores of shape (n, classes) and labels of shape (n,)."""

    def __init__(self, operators: Softmax) -> None:
        self._operators = operators

    def cross_entropy(self, scores: Floats, labels: Labels) -> tuple[float, Floats]:
        """Return the mean cross entropy in nats, and its gradient for the scores."""
        probabilities = self._operators.softmax(scores)
        rows = np.arange(len(labels))
        loss = -np.log(probabilities[rows, labels] + TINY).mean()
        gradient = probabilities.copy()  # arrays from another process are read-only
        gradient[rows, labels] -= 1
        return float(loss), gradient / np.float32(len(labels))


class LossFunctionsPlugin(Plugin):
    """Offers the service `loss`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Find the operators, then offer the loss functions that are built on them."""
        operators = ctx.get_service("operators")
        if operators is None:
            message = "nobody offers the service 'operators'; load the plugin of that name as well"
            raise RuntimeError(message)
        ctx.register_service("loss", LossService(operators))
