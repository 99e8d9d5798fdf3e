"""`concurrent.futures.ProcessPoolExecutor` with one process.

The process is spawned, not forked: how it began makes no difference to a call.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from benchmarks.rivals.roster import ADD, ARRAY, PIPELINE, Row
from benchmarks.rivals.work import ENDS, SUM, Arithmetic, Work, in_flight, new_array, one_by_one

_ADDER: Final = Arithmetic()


def _add(a: int, b: int) -> int:
    """Add two numbers; a function travels by name, which is less than an object's method."""
    return _ADDER.add(a, b)


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    array = new_array()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield {
            ADD: one_by_one(SUM, lambda: pool.submit(_add, 1, 2).result()),
            PIPELINE: in_flight(lambda: pool.submit(_add, 1, 2), Future.result),
            ARRAY: one_by_one(ENDS, lambda: pool.submit(_ADDER.ends, array).result()),
        }
