"""Name what the application needs from its plugins. Implements none of it.

Each protocol types the stub of one service. The application never imports a plugin: whatever
offers a service of this name and shape will do.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spiral_host import Host

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PATIENCE = 10.0
"""Longest wait for a service, seconds; all are there once `initialize_all` has returned."""


class Data(Protocol):
    """Where samples come from: pixels of shape (n, 64), labels of shape (n,)."""

    def train_count(self) -> int: ...
    def train_batch(self, epoch: int, index: int, size: int) -> tuple[Floats, Labels]: ...
    def test_set(self) -> tuple[Floats, Labels]: ...


class Operators(Protocol):
    """What the layers are made of."""

    def affine(self, x: Floats, weight: Floats, bias: Floats) -> Floats: ...
    def affine_gradients(
        self, x: Floats, weight: Floats, upstream: Floats
    ) -> tuple[Floats, Floats, Floats]: ...
    def relu(self, x: Floats) -> Floats: ...
    def relu_gradient(self, x: Floats, upstream: Floats) -> Floats: ...


class Loss(Protocol):
    """How wrong the scores are, and which way is better."""

    def cross_entropy(self, scores: Floats, labels: Labels) -> tuple[float, Floats]: ...


class Optimizer(Protocol):
    """Where a parameter goes next."""

    def step(self, name: str, value: Floats, gradient: Floats) -> Floats: ...


class Telemetry(Protocol):
    """What the events said."""

    def report(self) -> dict[str, Any]: ...


class Chart(Protocol):
    """The curves of this training."""

    def picture(self) -> str | None: ...


class Saboteur(Protocol):
    """The plugin that will crash."""

    def pid(self) -> int: ...
    def read_null(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """One stub for each service; a call on any of them runs in another process."""

    data: Data
    operators: Operators
    loss: Loss
    optimizer: Optimizer
    telemetry: Telemetry
    chart: Chart


def find_services(host: Host) -> Services:
    """Get a stub for each service that training needs."""
    return Services(
        data=host.wait_service("data", PATIENCE),
        operators=host.wait_service("operators", PATIENCE),
        loss=host.wait_service("loss", PATIENCE),
        optimizer=host.wait_service("optimizer", PATIENCE),
        telemetry=host.wait_service("telemetry", PATIENCE),
        chart=host.wait_service("chart", PATIENCE),
    )
