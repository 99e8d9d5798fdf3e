"""One small call, `add(1, 2)`: the bound is its own bytes through a bare socket pair."""

from dataclasses import replace
from typing import Final

from benchmarks.comparison import SMALL_CALLS
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rivals.callers import callers
from benchmarks.rounds import medians, seconds

ROUNDS: Final = 25


def measure() -> list[Figure]:
    """Measure worker to worker and application to worker, all confined."""
    row = SMALL_CALLS
    with host_with("adder", "caller") as host, callers(row.row) as others:
        stopwatch, adder = host.get_service("stopwatch"), host.get_service("adder")
        seen = medians(
            {
                "worker": lambda: row.value(stopwatch.time_adds(row.count)),
                "application": lambda: row.value(seconds(lambda: adder.add(1, 2), row.count)),
                **row.measures(others),
            },
            ROUNDS,
        )
    return [
        *row.figures("add(1, 2), worker to worker", seen["worker"], others, seen),
        *replace(row, goals={}).figures(
            "add(1, 2), application to worker", seen["application"], others, seen
        ),
    ]
