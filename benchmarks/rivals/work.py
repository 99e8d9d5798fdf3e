"""The work that all rivals do, and the two shapes in which most of them do it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from benchmarks.rivals.roster import DEPTH, ELEMENTS

SUM: Final = 3
"""What `add(1, 2)` gives."""

ENDS: Final = ELEMENTS - 1.0
"""The sum of the first and last of `new_array()`."""

Work = Callable[[int], object]
"""Does so many of what a row is about, and waits until they are done."""


class Arithmetic:
    """What is called."""

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def ends(self, array: Any) -> float:  # noqa: ANN401 - numpy's arrays, whatever their shape
        """Look at both ends of an array."""
        return float(array[0] + array[-1])

    def ends_of_bytes(self, raw: bytes | bytearray | memoryview) -> float:
        """Do the same where only bytes can travel."""
        return self.ends(np.frombuffer(raw, np.float64))

    def count_up(self, count: int) -> Iterator[int]:
        """Give the first integers."""
        yield from range(count)

    def call_back(self, function: Callable[[int], int]) -> int:
        """Call what was passed."""
        return function(1)


def new_array() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give an array whose pages are all there."""
    return np.arange(ELEMENTS, dtype=np.float64)


def one_by_one(gives: object, function: Callable[..., object], *arguments: object) -> Work:
    """Make each call when the one before has returned; the first is checked, here."""
    check(function(*arguments), gives)

    def work(count: int) -> None:
        for _ in range(count):
            function(*arguments)

    return work


def item_by_item(items: Callable[[int], Iterable[object]]) -> Work:
    """Take all items of a stream of so many; a short one is checked, here."""
    check(list(items(3)), [0, 1, 2])

    def work(count: int) -> None:
        deque(items(count), maxlen=0)

    return work


def check(result: object, gives: object) -> None:
    """Refuse to measure what does not do the work."""
    if result != gives:
        raise ValueError(f"{result!r} instead of {gives!r}")


def in_flight(submit: Callable[[], Any], result: Callable[[Any], object]) -> Work:
    """Make `DEPTH` calls, then take their results; the first call is checked, here.

    For most it is faster than to make a new call for each result: the other process is woken less.
    """
    check(result(submit()), SUM)

    def work(count: int) -> None:
        for _ in range(count // DEPTH):
            for future in [submit() for _ in range(DEPTH)]:
                result(future)

    return work
