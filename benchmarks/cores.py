"""Which cores the processes that are measured may use; whatever they start inherits it."""

import contextlib
import os
from collections.abc import Iterator


def pin() -> None:
    """Stay on one core: a wake-up between cores would measure the machine."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextlib.contextmanager
def using(count: int) -> Iterator[int]:
    """Use so many cores for a while, or as many as there are; give their number."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # those that are not ours are left out
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])
        yield len(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)
