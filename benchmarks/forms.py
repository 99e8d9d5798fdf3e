"""The other forms of a call: of an `async def`, with a callback, and a stream's items."""

from collections.abc import Callable, Sequence

from benchmarks.comparison import ASYNC_CALLS, CALLBACKS, STREAMS, Comparison
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rivals.callers import Caller, callers
from benchmarks.rounds import medians


def measure() -> list[Figure]:
    """Measure worker to worker, all confined."""
    rows = (ASYNC_CALLS, CALLBACKS, STREAMS)
    with (
        host_with("adder", "async_adder", "caller") as host,
        callers(*(row.row for row in rows)) as others,
    ):
        watch = host.get_service("stopwatch")
        return [
            *_compare("add(1, 2) of an async def", watch.time_async_adds, ASYNC_CALLS, others),
            *_compare("a call with one callback", watch.time_callbacks, CALLBACKS, others),
            *_compare("items of a stream", watch.time_items, STREAMS, others),
        ]


def _compare(
    what: str, ours: Callable[[int], float], row: Comparison, others: Sequence[Caller]
) -> list[Figure]:
    seen = medians({"ours": lambda: row.value(ours(row.count)), **row.measures(others)})
    return row.figures(what, seen["ours"], others, seen)
