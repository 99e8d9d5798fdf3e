"""Arrays: 64 MB as an argument against one copy of it, and whether all of the memory comes back."""

import contextlib
import time
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.comparison import LARGE_ARRAYS, SMALL_CALLS
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rivals.callers import callers
from benchmarks.rivals.roster import ELEMENTS
from benchmarks.rounds import medians, seconds
from spiral_host import Host

SMALL: Final = 8 * 1024
"""64 KiB of float64, for information."""

SEEN: Final = 16
"""Arrays that are sent to see whether they are freed: 1 GB, twice what a lane may hold."""

PATIENCE_S: Final = 2.0
"""For the word that a lane is closed, and for what follows from it."""

_SEGMENT: Final = "/memfd:segment"


def measure() -> list[Figure]:
    """Send them from worker to worker, all confined; what is sent back is a number."""
    large, small = LARGE_ARRAYS, SMALL_CALLS
    array = np.ones(SMALL)
    target = np.empty_like(array)
    with host_with("adder", "caller") as host, callers(large.row) as others:
        watch = host.get_service("stopwatch")
        seen = medians(
            {
                "ours": lambda: large.value(watch.time_arrays(large.count, ELEMENTS)),
                "shared": lambda: small.value(watch.time_shared(small.count, ELEMENTS)),
                "small": lambda: small.value(watch.time_adds(small.count)),
                "echo": lambda: small.value(watch.time_echoes(small.count, SMALL)),
                "copy": lambda: small.value(seconds(lambda: np.copyto(target, array), small.count)),
                **large.measures(others),
            }
        )
        leaks = _leaks(host)
    return [
        *large.figures("64 MB argument", seen["ours"], others, seen),
        Figure(
            what="64 MB argument, already shared",
            value=seen["shared"],
            unit=small.unit,
            baseline="add(1, 2), worker to worker",
            baseline_value=seen["small"],
            goal=2.0,
            goal_is_ratio=True,
        ),
        Figure(
            what="64 KiB array, there and back",
            value=seen["echo"],
            unit=small.unit,
            baseline="one memcpy of it",
            baseline_value=seen["copy"],
        ),
        *leaks,
    ]


def _leaks(host: Host) -> list[Figure]:
    """Count what is still there when nothing should be."""
    adder, node_pid = host.get_service("adder"), host.status()["node_pid"]
    host.get_service("stopwatch").show(SEEN, ELEMENTS)
    alive = Figure(what="arrays never freed", value=adder.count_alive(), unit="", goal=0)
    reader = host.get("adder").pid
    assert reader is not None
    try:
        while_open = _mapped(reader)
    except PermissionError:  # a confined process shows its mappings to root alone
        return [alive]
    host.unload("caller")
    deadline = time.monotonic() + PATIENCE_S
    while (left := _mapped(reader) + _held(node_pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [
        alive,
        Figure(
            what="segments left after their lane closed",
            value=left,
            unit="",
            goal=0,
            note=f"mapped by the callee or held by the node; {while_open} while it was open",
        ),
    ]


def _mapped(pid: int) -> int:
    """Count the segments that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(_SEGMENT in line for line in lines)


def _held(pid: int) -> int:
    """Count the descriptors of segments that a process has."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            count += _SEGMENT in str(fd.readlink())
    return count
