"""Say what this machine can give: each layer of the sandbox, each profile, compiled calls."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from protocol.errors import SpiralHostError
from spiral_host.launch import child_environment

PROBE_S: Final = 30.0
"""How long the layers are tried, seconds; it takes a tenth of one."""

_PROBE: Final = "plugin_worker.examination"

_ONLY_STRICT: Final = frozenset({"namespaces"})
"""Layers that `standard` does without."""

LANDLOCK: Final = (
    (3, "files, truncation included"),
    (4, "TCP ports"),
    (5, "device controls"),
    (6, "signals and abstract sockets"),
    (9, "named sockets"),
    (10, "UDP ports"),
)
"""What Landlock holds, and the interface that it is held from on. Below the ninth, and without the
permission for TCP, seccomp holds the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found.

    Attributes:
        layers: Each layer, and why it does not hold here; empty where it does.
        landlock_abi: The interface that the kernel offers; 0 is none.
        groups: What control groups can limit here; without `pids` no plugin may start programs
            under `standard`.
        no_groups: Why there are none, if so.
        is_compiled: Whether what every call passes is compiled, or plain Python.
    """

    kernel: str
    machine: str
    python: str
    user: int
    is_compiled: bool
    landlock_abi: int
    groups: tuple[str, ...]
    no_groups: str
    layers: Mapping[str, str]

    def lacks(self, profile: str) -> list[str]:
        """Name the layers that a profile needs and this machine does not have."""
        spared = _ONLY_STRICT if profile == "standard" else frozenset()
        return [name for name, why in self.layers.items() if why and name not in spared]

    def landlock(self) -> list[tuple[str, bool]]:
        """Name what Landlock can hold, and say whether it does here."""
        return [(what, self.landlock_abi >= since) for since, what in LANDLOCK]


def examine() -> Examination:
    """Try every layer, in a process of its own, as a node does.

    Raises:
        SpiralHostError: The trial itself failed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=PROBE_S,
            env=child_environment(),
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SpiralHostError(f"the layers could not be tried: {error}; please report it") from None
    return Examination(**found)
