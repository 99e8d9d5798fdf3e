"""Say what holds each limit of a worker: the kernel, its node, or nobody. No I/O.

rlimit      the kernel, for one process           cgroup   the kernel, for all of a plugin's
namespace   the kernel counts there               seccomp  the kernel: there is none at all
watch       the node looks, and ends the worker   node     the node reads no faster
library     the plugin's own side of the host, and the node behind it
"""

from collections.abc import Collection, Iterator
from dataclasses import fields
from math import inf

from protocol.limits import Limits

LimitWord = tuple[float | None, str]
"""A limit's value, None if there is none, and what holds it."""


def holding(
    limits: Limits, layers: Collection[str], grouped: Collection[str], *, may_fork: bool
) -> dict[str, LimitWord]:
    """Give every limit of a worker.

    Args:
        layers: Those that confine it.
        grouped: The limits that its group holds; empty if it has none.
        may_fork: Whether it was granted processes of its own.
    """
    found: dict[str, LimitWord] = {}
    for field in fields(limits):
        value = getattr(limits, field.name)
        by = ", ".join(_by(field.name, layers, grouped, may_fork=may_fork))
        found[field.name] = (None, "") if value == inf else (value, by)
    return found


def _by(
    limit: str, layers: Collection[str], grouped: Collection[str], *, may_fork: bool
) -> Iterator[str]:
    if limit in {"memory", "files", "file_size"} and "rlimits" in layers:
        yield "rlimit"
    if limit in grouped:
        yield "cgroup"
    if limit in {"threads", "processes"} and "namespaces" in layers:
        yield "namespace"
    if limit == "processes" and not may_fork and "seccomp" in layers:
        yield "seccomp"
    elif limit in {"memory", "cpu", "threads", "processes", "disk"} - set(grouped):
        yield "watch"
    if limit == "log_rate":
        yield "node"
    if limit in {"event_rate", "call_rate"}:
        yield "library"
