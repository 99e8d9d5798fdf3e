"""Measure several things in turns, so that what disturbs the machine disturbs all of them."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Final

ROUNDS: Final = 7


def medians(measures: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Give the median of each measure, after one round that does not count."""
    for measure in measures.values():
        measure()
    seen: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            seen[name].append(measure())
    return {name: median(values) for name, values in seen.items()}


def seconds(call: Callable[[], object], count: int) -> float:
    """Give how long `count` calls take, one after the other."""
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - begin
