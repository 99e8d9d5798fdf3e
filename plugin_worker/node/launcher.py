"""What it takes to start a worker: the order, the answer, and who may be asked.

A fork of the zygote is ready in milliseconds; a fresh interpreter under bubblewrap is what `strict`
asks for. To everybody else they are the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgpack

from plugin_worker.node.guard import Guard
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.seccomp import compile_program


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker that lives; its descriptor is the receiver's to close.

    Attributes:
        pidfd: Held on it before its number could be another's; -1 if it is the node's own child.
        guard: The process above it that tells how it ends; None if it is the node's own child.
    """

    pid: int
    pidfd: int = -1
    guard: Guard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One worker to be started. The descriptors stay the caller's until `taken` is called.

    Attributes:
        confinement: What it may touch.
        environment: What it is started with, if it is not forked.
        frame: The same and all else that it is told, as the zygote reads it.
        descriptors: Umbilical, output, flight page, interest page.
    """

    incarnation: int
    confinement: Confinement
    environment: Mapping[str, str]
    frame: bytes
    descriptors: tuple[int, int, int, int]
    taken: Callable[[], None]
    started: Callable[[Started], None]
    failed: Callable[[str], None]


def program_frame(confinement: Confinement) -> bytes:
    """Give the filter that a worker needs, as whoever becomes or forks it is told."""
    variant = confinement.variant
    frame: bytes = msgpack.packb(
        {"kind": "program", "variant": sorted(variant), "program": compile_program(variant)}
    )
    return frame


class Launcher(Protocol):
    """Starts workers; every order is answered once, by `started` or `failed`.

    Who has `failed` without having `taken` them has left the descriptors to the caller.
    """

    def launch(self, order: Order) -> None:
        """Start a worker; returns at once."""
