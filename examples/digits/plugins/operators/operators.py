"""Compute the layers of a network, forwards and backwards. Keeps no state and no parameters."""

import numpy as np
from numpy.typing import NDArray

from plugin_worker import Plugin, PluginContext

Floats = NDArray[np.float32]


class OperatorsService:
    """Pure functions of arrays; `n` below is the number of samples in a batch."""

    def matmul(self, a: Floats, b: Floats) -> Floats:
        """Multiply shape (n, k) by (k, m)."""
        return a @ b

    def affine(self, x: Floats, weight: Floats, bias: Floats) -> Floats:
        """Map x, shape (n, k), by weight, shape (k, m), and bias, shape (m,), to shape (n, m)."""
        return self.matmul(x, weight) + bias

    def affine_gradients(
        self, x: Floats, weight: Floats, upstream: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return the gradients of `affine` for x, weight and bias, from that of its result."""
        return self.matmul(upstream, weight.T), self.matmul(x.T, upstream), upstream.sum(axis=0)

    def relu(self, x: Floats) -> Floats:
        """Replace what is negative by zero."""
        return np.maximum(x, np.float32(0))

    def relu_gradient(self, x: Floats, upstream: Floats) -> Floats:
        """Let the gradient pass where x was positive."""
        return upstream * (x > 0)

    def softmax(self, scores: Floats) -> Floats:
        """Turn each row of scores into probabilities that sum to one."""
        # The largest score is taken off first: exp() of a large one would overflow.
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: Floats = powers / powers.sum(axis=1, keepdims=True)
        return result


class OperatorsPlugin(Plugin):
    """Offers the service `operators`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the operators to the application and to other plugins."""
        ctx.register_service("operators", OperatorsService())
