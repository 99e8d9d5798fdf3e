"""One row of the comparison with others: what to measure, and what it says of ours."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.figures import Figure
from benchmarks.rivals.callers import Caller
from benchmarks.rivals.roster import (
    ADD,
    ARRAY,
    ASYNC,
    CALLBACK,
    EVENT,
    PIPELINE,
    STREAM,
    Kind,
    Row,
)

FIRST: Final = 1.0
"""The goal beside every library: to be faster than it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One kind of work, done by others.

    Attributes:
        count: How much of it in one round.
        unit: `us` or `ms` for each, or `/s`.
        goals: Of the ratio to those who are no libraries, by their module's name.
    """

    row: Row
    count: int
    unit: str
    goals: Mapping[str, float] = field(default_factory=dict)

    def measures(self, callers: Iterable[Caller]) -> dict[str, Callable[[], float]]:
        """Give what measures each of the others who can do this, by their module's name."""
        return {
            caller.entry.module: lambda caller=caller: self.value(  # type: ignore[misc]
                caller.seconds(self.row, self.count)
            )
            for caller in callers
            if self.row in caller.entry.rows
        }

    def value(self, seconds: float) -> float:
        """Express in its unit how long a whole round took."""
        if self.unit == "/s":
            return self.count / seconds
        return seconds / self.count * {"us": 1e6, "ms": 1e3}[self.unit]

    def figures(
        self, what: str, value: float, callers: Iterable[Caller], seen: Mapping[str, float]
    ) -> list[Figure]:
        """Put ours beside each of the others."""
        return [
            self._figure(what, value, caller, seen[caller.entry.module])
            for caller in callers
            if self.row in caller.entry.rows
        ]

    def _figure(self, what: str, value: float, caller: Caller, others: float) -> Figure:
        entry, is_lost = caller.entry, math.isnan(others)
        unlike = entry.unlike.get(self.row)
        goal = FIRST if entry.kind is Kind.LIBRARY else self.goals.get(entry.module)
        return Figure(
            what=what,
            value=value,
            unit=self.unit,
            baseline=f"{entry.title}: {caller.failure}" if is_lost else entry.named(self.row),
            baseline_value=None if is_lost else others,
            goal=goal,
            goal_is_ratio=True,
            more_is_better=self.unit == "/s",
            note=f"beside {entry.named(self.row)}: {unlike}" if unlike else "",
        )


SMALL_CALLS: Final = Comparison(row=ADD, count=500, unit="us", goals={"echo": 1.6})
"""15 ms of ours in a round, so that a disturbance spoils one round and not all."""

PIPELINED_CALLS: Final = Comparison(row=PIPELINE, count=1000, unit="/s", goals={"zeromq": 1.5})

LARGE_ARRAYS: Final = Comparison(row=ARRAY, count=2, unit="ms", goals={"memcpy": 1.25})

ASYNC_CALLS: Final = Comparison(row=ASYNC, count=500, unit="us")

CALLBACKS: Final = Comparison(row=CALLBACK, count=300, unit="us")

STREAMS: Final = Comparison(row=STREAM, count=2000, unit="/s")
"""Long enough that opening the stream does not count."""

PLUGIN_EVENTS: Final = Comparison(row=EVENT, count=100_000, unit="/s")

ALL: Final = (
    SMALL_CALLS,
    PIPELINED_CALLS,
    LARGE_ARRAYS,
    ASYNC_CALLS,
    CALLBACKS,
    STREAMS,
    PLUGIN_EVENTS,
)
