"""Small calls with a hundred in flight: futures in a worker, and coroutines in another."""

from benchmarks.comparison import PIPELINED_CALLS
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rivals.callers import callers
from benchmarks.rivals.roster import DEPTH
from benchmarks.rounds import medians


def measure() -> list[Figure]:
    """Measure worker to worker, all confined."""
    row = PIPELINED_CALLS
    with (
        host_with("adder", "caller", "async_caller") as host,
        callers(row.row) as others,
    ):
        by_futures = host.get_service("stopwatch").time_submits
        by_coroutines = host.get_service("async_stopwatch").time_gathers
        seen = medians(
            {
                "submit": lambda: row.value(by_futures(row.count, DEPTH)),
                "gather": lambda: row.value(by_coroutines(row.count, DEPTH)),
                **row.measures(others),
            }
        )
    return [
        *row.figures(f"{DEPTH} in flight, submit()", seen["submit"], others, seen),
        *row.figures(f"{DEPTH} in flight, gather() of aio", seen["gather"], others, seen),
    ]
