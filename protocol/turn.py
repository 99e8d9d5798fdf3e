"""What the current thread is in the middle of: whose calls led here, and which it waits for.

A thread that waits runs nothing but calls that its own call has led to (A calls B, B calls A);
whatever else comes is held until it waits no longer. The chain of calls in each frame tells the
two apart.
"""

import threading
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.reactor import Reactor

Link: TypeAlias = list[object]
"""One call of a chain: its caller's incarnation, its number there, its caller's name."""

MAX_CHAIN: Final = 32
"""Calls in one chain; plugins that call each other deeper than this are calling in a circle."""

NUMBERS: Final = count(1)
"""Numbers of this process's calls; the chain needs them to differ from lane to lane."""


class _Turn(threading.local):
    """One thread's place; `reactor` is the loop that goes on while the thread waits, if any."""

    def __init__(self) -> None:
        self.chain: tuple[Link, ...] = ()
        self.deadline = float("inf")
        self.waiting: list[int] = []
        self.reactor: Reactor | None = None
        self.at_end: list[Callable[[], None]] = []
        """Called when a serving thread ends, by itself: lanes belong to their thread."""


TURN: Final = _Turn()


def belongs(chain: list[Link] | None, own: int) -> bool:
    """Say whether a chain contains a call that this thread waits for.

    Args:
        own: This process's incarnation.
    """
    return chain is not None and any(link[0] == own and link[1] in TURN.waiting for link in chain)


def spelled(chain: Sequence[Link], *last: str) -> str:
    """Write a chain for people: `a -> b -> a`."""
    return " -> ".join([*(str(link[2]) for link in chain), *last])
