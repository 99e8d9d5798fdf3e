"""A 64 KiB array there and back inside frames, against one copy of it. For information."""

from typing import Final

import numpy as np

from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rounds import medians, per_call_us

SIZE: Final = 64 * 1024
COUNT: Final = 200


def measure() -> list[Figure]:
    """Send it from worker to worker."""
    array = np.arange(SIZE // 8, dtype=np.float64)
    target = np.empty_like(array)
    with host_with("adder", "caller") as host:
        stopwatch = host.get_service("stopwatch")
        seen = medians(
            {
                "calls": lambda: stopwatch.time_echoes(array, COUNT),
                "memcpy": lambda: per_call_us(lambda: np.copyto(target, array), COUNT),
            }
        )
    return [
        Figure(
            what="64 KiB array, there and back",
            value=seen["calls"],
            unit="us",
            baseline="one memcpy",
            baseline_value=seen["memcpy"],
        )
    ]
