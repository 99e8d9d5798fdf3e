"""Say what the permissions in force are to the kernel of this machine, or why one cannot be given.

Of the permissions, these five are the kernel's to hold: read, write, network, subprocess, gpu. The
others are the node's and the daemon's.
"""

import os
import sys
from dataclasses import dataclass, replace
from glob import glob

from plugin_worker.sandbox import landlock
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.policy import (
    GPU_DEVICES,
    GPU_READ,
    LANDLOCK_PORTS,
    LANDLOCK_SIGNALS,
    PROGRAMS,
)
from protocol.permissions import Permissions, is_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides whether a permission can be given.

    Attributes:
        landlock_abi: The interface that this kernel offers.
        gpu: Device files of accelerators, and what their drivers' libraries read.
        has_cgroup: Whether the worker has a group of its own, by which all its processes end.
    """

    landlock_abi: int
    gpu: tuple[tuple[str, ...], tuple[str, ...]]
    has_cgroup: bool = False


def this_machine(permissions: Permissions, *, has_cgroup: bool = False) -> Machine:
    """Look at what this machine has, as far as the permissions need it."""
    return Machine(
        landlock_abi=landlock.abi() if permissions.network or permissions.subprocess else 0,
        gpu=(_existing(GPU_DEVICES), _existing(GPU_READ)) if permissions.gpu else ((), ()),
        has_cgroup=has_cgroup,
    )


def identify(confinement: Confinement) -> Confinement:
    """Look at what was granted, so that the worker takes nothing else for it.

    Raises:
        ConfinementError: It is not there; it names the permission, the path and the cure.
    """
    if "landlock" not in confinement.layers:
        return confinement
    found = {}
    for permission in ("read", "write"):
        for path in getattr(confinement, f"granted_{permission}"):
            handle = landlock.open_granted(permission, path)
            found[path] = landlock.identity_of(handle)
            os.close(handle)
    return replace(confinement, identities=found)


def permit(confinement: Confinement, permissions: Permissions, machine: Machine) -> Confinement:
    """Add to what a worker may touch what its plugin has been permitted.

    A layer that is not in force refuses nothing, so nothing has to be asked of it.

    Raises:
        ConfinementError: One of them cannot be given here; it names the permission and the cure.
    """
    if "landlock" in confinement.layers:
        _check_network(permissions, machine)
        _check_programs(permissions)
    if "seccomp" in confinement.layers:
        _check_subprocess(confinement, permissions, machine)
    devices, read = machine.gpu if permissions.gpu else ((), ())
    if permissions.gpu and not devices:
        why = f"this machine has no accelerator: none of {', '.join(GPU_DEVICES)} exists"
        raise ConfinementError("gpu", f"{why}; install its driver, or revoke the grant")
    return replace(
        confinement,
        read=(*confinement.read, *read),
        granted_read=permissions.read,
        granted_write=permissions.write,
        ports=permissions.network,
        subprocess=permissions.subprocess,
        devices=devices,
    )


def _check_network(permissions: Permissions, machine: Machine) -> None:
    if permissions.network and machine.landlock_abi < LANDLOCK_PORTS:
        why = f"this kernel's Landlock (ABI {machine.landlock_abi}) cannot tell TCP ports apart"
        raise ConfinementError("network", f"{why}; boot Linux >= 6.7, or revoke the grant")


def _check_subprocess(confinement: Confinement, permissions: Permissions, machine: Machine) -> None:
    """Whoever starts processes may leave some behind, and signal whom nothing else protects."""
    if not permissions.subprocess or "namespaces" in confinement.layers:
        return
    cure = "start the host with --sandbox strict, or revoke the grant"
    if not machine.has_cgroup:
        why = "nothing here would end the processes that the plugin leaves behind"
        raise ConfinementError("subprocess", f"{why}; {cure}")
    if machine.landlock_abi < LANDLOCK_SIGNALS:
        why = f"this kernel's Landlock (ABI {machine.landlock_abi}) does not hold back signals"
        raise ConfinementError("subprocess", f"{why}; {cure}")


def _check_programs(permissions: Permissions) -> None:
    """Whoever may start programs may not write them, nor what the others import."""
    if not permissions.subprocess:
        return
    for folder in map(os.path.realpath, (*PROGRAMS, sys.base_prefix)):
        for path in permissions.write:
            if is_within(path, folder) or is_within(folder, path):
                why = f"{path} holds programs that subprocess may start, or lies in {folder}"
                raise ConfinementError("write", f"{why}; revoke one of the two")


def _existing(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for pattern in patterns for path in sorted(glob(pattern)))  # noqa: PTH207
