"""What bubblewrap is told for one worker, and what its answers mean. Starts nothing.

In its namespaces a worker sees only what it may touch, under the same paths as everywhere else, so
that settings, tracebacks and permissions read alike in every profile:

    system, Python, its own code, what it may read      bound, read-only
    what it may write                                   bound
    its private folder                                  empty, in memory, with a size
    everything else                                     is not there

No network but its own loopback, unless a port was granted. bubblewrap's own init is process 1 and
reaps what the worker leaves; the worker is its child, and everything ends with either of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from plugin_worker.confine import readable
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.policy import CURES
from protocol.permissions import is_within

PROGRAM: Final = "bwrap"
MINIMUM: Final = (0, 8)
"""The first version that knows --disable-userns: without it a worker could make namespaces of its
own, and be root in them."""

USER: Final = "1000"
"""Who a worker is inside, user and group. The number says nothing: outside it is the node's own,
whose files its data folder holds. Not 65534: files of unknown owners show that."""

TMP_SIZE: Final = 256 << 20
"""Bytes of memory that its private folder takes at most."""

LINKS: Final = ("/etc/alternatives",)
"""Where links lead that the system's libraries are found by. It holds nothing but links."""

_INIT: Final = 1
_OURS: Final = 2
"""bubblewrap's init and the worker itself: the kernel counts both."""
_OWN_MOUNTS: Final = ("/proc", "/dev")

_ALWAYS: Final = (
    *("--unshare-user", "--disable-userns", "--uid", USER, "--gid", USER, "--cap-drop", "ALL"),
    *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--hostname", "plugin", "--die-with-parent", "--chdir", "/"),
)


def arguments(confinement: Confinement, links: Mapping[str, str]) -> tuple[str, ...]:
    """Give bubblewrap's arguments for a worker, without the command that is run.

    Args:
        confinement: What it may touch. What it may read and is not there is left out.
        links: The system's folders that are links on this machine, and where they lead.
    """
    mounts = {
        "/proc": ("--proc", "/proc"),
        "/dev": ("--dev", "/dev"),
        confinement.tmp: ("--size", str(TMP_SIZE), "--tmpfs", confinement.tmp),
        **dict(_binds(confinement, links)),
    }
    ordered = sorted(mounts, key=_depth)
    return (
        *_ALWAYS,
        # With a port it keeps the machine's network; Landlock and seccomp say which.
        *(() if confinement.ports else ("--unshare-net",)),
        *(word for path in ordered for word in mounts[path]),
        # What bubblewrap mounts itself is memory without a size.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
    )


def in_namespaces(confinement: Confinement, tasks: int) -> Confinement:
    """Give what changes for a worker there: whom it must not outlive, what it has alone.

    Args:
        tasks: How many processes and threads it may have, besides its own first one.
    """
    return replace(
        confinement,
        node_pid=_INIT,
        limits={**confinement.limits, "NPROC": tasks + _OURS},
    )


def _binds(
    confinement: Confinement, links: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give path and arguments of what is bound; nothing twice, and nothing that is there anyway."""
    writable = dict.fromkeys((*LINKS, *readable(confinement)), False)
    writable |= dict.fromkeys((*confinement.write, *confinement.granted_write), True)
    bound: dict[str, bool] = {}
    for path in sorted(writable.keys() - {confinement.tmp}, key=_depth):
        above = max((other for other in bound if is_within(path, other)), key=_depth, default=None)
        is_there = above is not None and (bound[above] or not writable[path])
        if is_there or any(is_within(path, own) for own in _OWN_MOUNTS):
            continue
        if path in links:
            yield path, ("--symlink", links[path], path)
            continue
        bound[path] = writable[path]
        yield path, ("--bind" if writable[path] else "--ro-bind-try", path, path)
    for path in confinement.devices:
        yield path, ("--dev-bind", path, path)


def _depth(path: str) -> tuple[int, str]:
    """Sort folders before what is in them."""
    return len([part for part in path.split("/") if part]), path


# --- what it answers ----------------------------------------------------------------------------

_CURES: Final = (
    (
        re.compile(r"uid map: Permission denied|loopback: .*Operation not permitted"),
        "let bwrap make user namespaces, by an AppArmor profile (apt install apparmor-profiles)",
    ),
    (
        re.compile(r"[Nn]o permissions to creat\w+ new namespace|new namespace failed"),
        "let users make namespaces (sysctl kernel.unprivileged_userns_clone=1), containers too",
    ),
    (
        re.compile(r"mount proc on .*not permitted"),
        "let the container mount /proc (docker run --security-opt systempaths=unconfined)",
    ),
)


def cure(words: str) -> str:
    """Say what to do about what bubblewrap has said."""
    found = (cure for pattern, cure in _CURES if pattern.search(words))
    return next(found, CURES["namespaces"])


def version_of(said: str) -> tuple[int, ...]:
    """Read what `bwrap --version` prints; nothing where it is something else."""
    found = re.search(r"\b(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(part) for part in found.groups("0")) if found else ()


def complaint(said: str, code: int) -> str:
    """Give what bubblewrap has said, in a line; its exit where it has said nothing."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-3:]) or f"bwrap ended with {code}"


def ended(code: int) -> tuple[str, int]:
    """Tell from bubblewrap's exit how the worker has ended: ("exit", status) or ("signal", number).

    It says 128 + n for signal n. A worker that exits with such a status looks the same here.
    """
    return ("signal", code - 128) if 128 < code <= 128 + 64 else ("exit", code)
