"""Confine this process, in a just-forked worker, before any line of plugin code is imported.

There is no way back: what is applied here holds until the process ends. The policy itself is data,
in sandbox/policy.py; which layers a machine has is found out by sandbox/probe.py.
"""

import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from plugin_worker.sandbox import canary, kernel, landlock, seccomp
from plugin_worker.sandbox.confinement import UNLIMITED, Confinement
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.policy import (
    DEVICES,
    ENVIRONMENT,
    LAYER_NAMES,
    NETWORK_READ,
    NICE,
    OOM_SCORE_ADJ,
    PROGRAMS,
    RLIMITS,
    SYSTEM_READ,
)

__all__ = [
    "Confinement",
    "confine",
    "in_force",
    "readable",
    "scrubbed_environment",
    "writable",
]

_SIGKILL: Final = 9
_LAST_DESCRIPTOR: Final = 0x7FFFFFFF
_MORE_THAN_ALL_CAPABILITIES: Final = 64


def confine(confinement: Confinement, program: bytes, keep: frozenset[int]) -> None:
    """Apply everything to this process, seccomp last, and see that it holds.

    The process has one thread and is no group leader.

    Args:
        confinement: What it may touch.
        program: The filter as compiled, not yet patched; empty when seccomp is not asked for.
        keep: The descriptors that stay open besides 0, 1 and 2.

    Raises:
        ConfinementError: A step failed; the process must end without running plugin code.
    """
    _attempt("process", partial(_leave_the_zygote, confinement, keep))
    for layer, apply in _STEPS.items():
        if layer in confinement.layers:
            _attempt(layer, partial(apply, confinement, program))
    canary.sing(confinement)


def scrubbed_environment(tmp: str, home: str) -> dict[str, str]:
    """Give the whole environment of a worker: harmless variables, none of the node's own.

    Args:
        tmp: Its private folder for temporary files.
        home: Its data folder; what libraries cache there survives a restart.
    """
    cache = f"{home}/.cache"
    places = {"HOME": home, "TMPDIR": tmp, "XDG_CACHE_HOME": cache}
    return {**ENVIRONMENT, **places, "MPLCONFIGDIR": f"{cache}/matplotlib"}


def in_force(pid: int, limits: Mapping[str, int] = RLIMITS) -> tuple[str, ...]:
    """Say which layers the kernel confirms for a process, seen from outside; for its node.

    Landlock leaves no trace that another process could read, so it is never among them: it is
    known from the worker's word only (it says ready after `confine` returned). The same goes for
    not-dumpable when the worker runs as root; for others the owner of its /proc files tells.

    Raises:
        OSError: There is no such process.
    """
    status = _status(pid)
    bits = {name: int(status[name], 16) for name in status if name.startswith("Cap")}
    holds = {
        "namespaces": len(status["NSpid"].split()) > len(_status(os.getpid())["NSpid"].split()),
        "rlimits": all(_limit(name, pid)[1] <= value for name, value in limits.items()),
        "capabilities": not any(bits[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Amb"))
        and (not bits["CapBnd"] or status["NoNewPrivs"] == "1"),
        "not-dumpable": status["Uid"].split()[0] != "0"
        and Path(f"/proc/{pid}/environ").stat().st_uid == 0,
        "no-new-privs": status["NoNewPrivs"] == "1",
        "seccomp": status["Seccomp"] == "2",
    }
    return tuple(layer for layer in LAYER_NAMES if holds.get(layer))


def readable(confinement: Confinement) -> tuple[str, ...]:
    """Give every path that a worker may read and not write to, if it is there."""
    own = (*_own_read(confinement), *_own_run(confinement))
    return (*own, *confinement.granted_read)


def writable(confinement: Confinement) -> tuple[str, ...]:
    """Give every path that a worker may write to, devices included."""
    devices = (*DEVICES, *confinement.devices)
    return (*_own_write(confinement), *confinement.granted_write, *devices)


# --- what every worker does, whatever its layers --------------------------------------


def _leave_the_zygote(confinement: Confinement, keep: frozenset[int]) -> None:
    os.umask(0o077)
    os.setsid()
    _close_all_but(keep | {0, 1, 2})
    os.chdir(confinement.tmp)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != confinement.node_pid:
        message = f"the node {confinement.node_pid} is not the parent (it may have died)"
        raise OSError(message)
    with suppress(OSError):  # only a wish
        _write("/proc/self/oom_score_adj", b"%d" % OOM_SCORE_ADJ)
    os.nice(NICE)
    # A kernel that shares its time out by sessions, as most do by default, heeds only this. Users
    # who are not root may say it ten times a second, all together: of many that start, some.
    with suppress(OSError):
        _write("/proc/self/autogroup", b"%d" % NICE)
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names are all that is needed
    if threads != 1:
        message = f"{threads} threads; confinement reaches only the one that asks for it"
        raise OSError(message)


def _write(path: str, text: bytes) -> None:
    """Write without Python's file objects: they would import a codec in every worker, for 1 ms."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def _close_all_but(keep: frozenset[int]) -> None:
    first = 0
    for descriptor in sorted(keep):
        if first < descriptor:
            kernel.close_range(first, descriptor - 1)
        first = descriptor + 1
    kernel.close_range(first, _LAST_DESCRIPTOR)


# --- the layers -----------------------------------------------------------------------


def _lower_limits(confinement: Confinement, _: bytes) -> None:
    for name, wanted in confinement.limits.items():
        hard = _limit(name, 0)[1]
        value = min(wanted, hard)
        resource.setrlimit(_resource(name), (value, value))


def _drop_capabilities(_: Confinement, __: bytes) -> None:
    """Empty all five sets; the bounding one only with CAP_SETPCAP, else no_new_privs stands in."""
    with suppress(OSError):  # EINVAL after the last one that this kernel knows
        for capability in range(_MORE_THAN_ALL_CAPABILITIES):
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    kernel.drop_capability_sets()


def _forbid_dumps(_: Confinement, __: bytes) -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _forbid_new_privileges(_: Confinement, __: bytes) -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _restrict_files(confinement: Confinement, _: bytes) -> None:
    landlock.restrict(
        landlock.Reach(
            read=_own_read(confinement),
            run=_own_run(confinement),
            write=_own_write(confinement),
            devices=confinement.devices,
            granted_read=confinement.granted_read,
            granted_write=confinement.granted_write,
            identities=confinement.identities,
            ports=confinement.ports,
        )
    )


def _own_read(confinement: Confinement) -> tuple[str, ...]:
    network = NETWORK_READ if confinement.ports else ()
    environment = (_environment_file(),) if confinement.subprocess else ()
    return (*SYSTEM_READ, sys.base_prefix, *network, *environment, *confinement.read)


def _own_run(confinement: Confinement) -> tuple[str, ...]:
    programs = (*PROGRAMS, sys.base_prefix) if confinement.subprocess else ()
    return (*programs, *confinement.run)


def _own_write(confinement: Confinement) -> tuple[str, ...]:
    return (*confinement.write, confinement.tmp)


def _environment_file() -> str:
    """Give what tells a child that runs Python which environment it is in."""
    return f"{os.path.dirname(os.path.dirname(sys.executable))}/pyvenv.cfg"  # noqa: PTH120


def _filter_calls(confinement: Confinement, program: bytes) -> None:
    if not program:
        message = "the node sent no filter program"
        raise ValueError(message)
    # Who may start processes may signal them, so its filter pins nothing to one number.
    pinned = program if confinement.subprocess else seccomp.patch_pid(program, os.getpid())
    seccomp.load_program(pinned)


_STEPS: Final[Mapping[str, Callable[[Confinement, bytes], None]]] = MappingProxyType(
    {
        "rlimits": _lower_limits,
        "capabilities": _drop_capabilities,
        "not-dumpable": _forbid_dumps,
        "no-new-privs": _forbid_new_privileges,
        "landlock": _restrict_files,
        "seccomp": _filter_calls,
    }
)


def _attempt(layer: str, step: Callable[[], None]) -> None:
    try:
        step()
    except (OSError, ValueError) as error:
        raise ConfinementError(layer, str(error)) from error


def _resource(name: str) -> int:
    number: int = getattr(resource, f"RLIMIT_{name}")
    return number


def _limit(name: str, pid: int) -> tuple[int, int]:
    """Give soft and hard limit of a process (0: this one), infinity as a number."""
    soft, hard = resource.prlimit(pid, _resource(name))
    return tuple(UNLIMITED if v == resource.RLIM_INFINITY else v for v in (soft, hard))  # type: ignore[return-value]


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
