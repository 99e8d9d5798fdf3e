"""Move parameters against their gradients. Holds the moments, never the parameters themselves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plugin_worker import Plugin, PluginContext

Floats = NDArray[np.float32]


@dataclass(slots=True)
class Moments:
    """What Adam remembers of one parameter: decaying means of its gradient and of the square."""

    mean: Floats
    square: Floats
    steps: int = 0


class AdamService:
    """Adam, one set of moments for each parameter name.

    The defaults are the paper's but for the rate: with its 0.001 the digits need about 20 epochs
    to reach 0.95, with 0.003 about 9.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """

    def __init__(
        self, rate: float = 3e-3, decay: tuple[float, float] = (0.9, 0.999), tiny: float = 1e-8
    ) -> None:
        self._rate, self._decay, self._tiny = rate, decay, tiny
        self._moments: dict[str, Moments] = {}

    def step(self, name: str, value: Floats, gradient: Floats) -> Floats:
        """Return the parameter's next value, in the same shape."""
        kept = self._moments_of(name, value)
        slow, slower = self._decay
        kept.steps += 1
        kept.mean = slow * kept.mean + (1 - slow) * gradient
        kept.square = slower * kept.square + (1 - slower) * gradient**2
        # Both means start at zero and are too small at first; this takes the bias out.
        mean = kept.mean / (1 - slow**kept.steps)
        square = kept.square / (1 - slower**kept.steps)
        moved: Floats = value - self._rate * mean / (np.sqrt(square) + self._tiny)
        return moved

    def reset(self) -> None:
        """Forget every parameter, as before a second training."""
        self._moments.clear()

    def _moments_of(self, name: str, value: Floats) -> Moments:
        if name not in self._moments:
            self._moments[name] = Moments(np.zeros_like(value), np.zeros_like(value))
        return self._moments[name]


class OptimizersPlugin(Plugin):
    """Offers the service `optimizer`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Start with no moments at all."""
        ctx.register_service("optimizer", AdamService())
