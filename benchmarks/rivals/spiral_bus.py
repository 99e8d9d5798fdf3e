"""SpiralTorch's own event bus: callbacks of one process, called from within `publish`."""

import contextlib
from collections.abc import Iterator
from typing import Final

from spiraltorch import plugin

from benchmarks.rivals.roster import EVENT, Row
from benchmarks.rivals.work import Work, check

_TYPE: Final = "EpochEnd"


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    heard = 0

    def hear(_: object) -> None:
        nonlocal heard
        heard += 1

    def publish(count: int) -> None:
        nonlocal heard
        heard = 0
        for number in range(count):
            plugin.publish(_TYPE, {"epoch": number, "loss": 0.5})
        check(heard, count)

    subscription = plugin.subscribe(_TYPE, hear)
    publish(1)
    yield {EVENT: publish}
    plugin.unsubscribe(_TYPE, subscription)
