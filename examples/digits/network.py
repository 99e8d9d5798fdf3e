"""Learn to tell ten digits apart with one hidden layer. Owns the parameters, computes nothing.

    pixels (n, 64) --affine--> relu --> hidden (n, 64) --affine--> scores (n, 10)

Every arrow is a call to the operators plugin and is announced as a `TensorOp` event.
"""

from collections.abc import Callable

import numpy as np
from services import Floats, Labels, Services

from spiral_host import PluginEvent

PIXELS, HIDDEN, DIGITS = 64, 64, 10
SEED = 7


class Network:
    """A perceptron of 64-64-10 units whose arithmetic happens in plugins."""

    def __init__(self, services: Services, publish: Callable[[PluginEvent], None]) -> None:
        self._services = services
        self._publish = publish
        random = np.random.default_rng(SEED)
        self._parameters: dict[str, Floats] = {
            "hidden.weight": _he_normal(random, PIXELS, HIDDEN),
            "hidden.bias": np.zeros(HIDDEN, np.float32),
            "output.weight": _he_normal(random, HIDDEN, DIGITS),
            "output.bias": np.zeros(DIGITS, np.float32),
        }

    def accuracy(self, pixels: Floats, labels: Labels) -> float:
        """Return the share of samples that are read right, in [0, 1]."""
        hidden = self._relu(self._affine("hidden", pixels))
        return float((self._affine("output", hidden).argmax(axis=1) == labels).mean())

    def learn(self, pixels: Floats, labels: Labels) -> float:
        """Improve every parameter on one batch; return the loss before that, in nats."""
        operators = self._services.operators
        raw = self._affine("hidden", pixels)
        hidden = self._relu(raw)
        scores = self._affine("output", hidden)
        loss, slope = self._services.loss.cross_entropy(scores, labels)
        slope = operators.relu_gradient(raw, self._descend("output", hidden, slope))
        self._descend("hidden", pixels, slope)
        return loss

    def _affine(self, layer: str, x: Floats) -> Floats:
        weight, bias = self._parameters[f"{layer}.weight"], self._parameters[f"{layer}.bias"]
        return self._announced("affine", x, self._services.operators.affine(x, weight, bias))

    def _relu(self, x: Floats) -> Floats:
        return self._announced("relu", x, self._services.operators.relu(x))

    def _descend(self, layer: str, x: Floats, upstream: Floats) -> Floats:
        """Move one layer against its gradient; return the gradient for the layer before it."""
        weight = f"{layer}.weight"
        down, *own = self._services.operators.affine_gradients(
            x, self._parameters[weight], upstream
        )
        for name, gradient in zip((weight, f"{layer}.bias"), own, strict=True):
            value = self._parameters[name]
            self._parameters[name] = self._services.optimizer.step(name, value, gradient)
        return self._announced("affine_gradients", upstream, down)

    def _announced(self, operation: str, source: Floats, result: Floats) -> Floats:
        self._publish(
            PluginEvent.TensorOp(
                op_name=operation,
                input_shape=list(source.shape),
                output_shape=list(result.shape),
            )
        )
        return result


def _he_normal(random: np.random.Generator, inputs: int, outputs: int) -> Floats:
    """Draw first weights that keep a rectified signal's variance from layer to layer (He, 2015)."""
    return random.normal(0.0, np.sqrt(2.0 / inputs), (inputs, outputs)).astype(np.float32)
