"""One copy of the array into memory that is already there: the bound, not a rival."""

import contextlib
from collections.abc import Iterator

import numpy as np

from benchmarks.rivals.roster import ARRAY, Row
from benchmarks.rivals.work import Work, new_array, one_by_one


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    yield {ARRAY: one_by_one(None, np.copyto, new_array(), new_array())}
