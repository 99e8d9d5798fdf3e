"""Decide which layers a worker gets: those of its profile, less what this machine lacks.

What is enforced is never taken away: there the daemon refuses the whole machine, or the worker
fails to start. With best effort it starts with what there is.
"""

from collections.abc import Mapping
from typing import Final

from plugin_worker.sandbox.policy import PROFILES

NAMESPACES: Final = "namespaces"
_NEED_NO_NEW_PRIVS: Final = frozenset({"landlock", "seccomp"})


class Profiles:
    """What each profile comes to on this machine; lives as long as the node.

    Args:
        missing: Layers that this machine has been found to lack, and why.
    """

    def __init__(self, missing: Mapping[str, str], *, best_effort: bool) -> None:
        self._missing = dict(missing)
        self._best_effort = best_effort
        self._has_namespaces = False
        """Whether a worker or a trial has got them."""

    def layers(self, profile: str) -> tuple[str, ...]:
        """Give the layers of a worker, in the order in which they are laid on."""
        held = tuple(layer for layer in PROFILES[profile] if layer not in self._missing)
        if "no-new-privs" in held:
            return held
        return tuple(layer for layer in held if layer not in _NEED_NO_NEW_PRIVS)

    def namespaces_held(self) -> None:
        """Note that a worker has got its namespaces: when another gets none, that is its own."""
        self._has_namespaces = True

    @property
    def are_namespaces_in_doubt(self) -> bool:
        """Whether it may be this machine's fault that a worker gets none: a trial says."""
        return not self._has_namespaces

    def does_without(self, found: str) -> bool:
        """Take in a trial: "" or what is in the way; say whether workers start without."""
        if not found:
            self._has_namespaces = True
        elif self._best_effort and not self._has_namespaces:
            self._missing[NAMESPACES] = found
        return NAMESPACES in self._missing
