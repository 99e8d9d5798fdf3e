"""What the current thread, and the current call, are in the middle of.

A thread that waits runs nothing but calls that its own call has led to (A calls B, B calls A);
whatever else comes is held until it waits no longer. The chain of calls in each frame tells the
two apart. The call being served is a context variable, so that each task of an event loop, and
what `asyncio.to_thread` runs for it, has its own.
"""

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from protocol.callbacks import Callback
    from protocol.line import Line
    from protocol.reactor import Reactor

Link: TypeAlias = list[object]
"""One call of a chain: its caller's incarnation, its number there, its caller's name."""

MAX_CHAIN: Final = 32
"""Calls in one chain; plugins that call each other deeper than this are calling in a circle."""

NUMBERS: Final = count(1)
"""Numbers of this process's calls; the chain needs them to differ from lane to lane."""


def _no_stream(_: int) -> None:
    """Give credit to a call that has no stream, or none any more: harmless."""


class Current:
    """One call while it is being served.

    Attributes:
        deadline: When its caller stops waiting, `time.monotonic()` seconds.
        line: Where it came from, and `number` its number there.
        led: The calls that led to it, outermost first.
    """

    __slots__ = (
        "_chain",
        "callbacks",
        "deadline",
        "is_cancelled",
        "led",
        "line",
        "more",
        "number",
        "slot",
        "stop",
    )

    def __init__(
        self, led: Sequence[Link] | None, deadline: float, line: "Line | None", number: int
    ) -> None:
        self.led = led
        self.deadline = deadline
        self.line = line
        self.number = number
        self.is_cancelled = False
        """Whether its caller has said that it no longer wants the answer, or has died."""
        self.stop: Callable[[], object] | None = None
        """Ends what serves it, where that does not have to ask: a task, a suspended stream."""
        self.more: Callable[[int], object] = _no_stream
        """Takes in that a stream's reader wants so many items more."""
        self.slot = -1
        """Its place in the flight page."""
        self.callbacks: Sequence[Callback] = ()
        """The functions that came as its arguments; they hold as long as it runs."""
        self._chain: tuple[Link, ...] | None = None

    @property
    def chain(self) -> tuple[Link, ...]:
        """The calls that lead to whatever it calls: itself last. Most calls make no others."""
        if self._chain is None:
            self._chain = self._led_on()
        return self._chain

    def _led_on(self) -> tuple[Link, ...]:
        line, led = self.line, tuple(self.led or ())
        return led if line is None else (*led, [line.peer, self.number, line.peer_name])

    def cancel(self) -> None:
        """Note that nobody wants the answer; harmless when said again."""
        if not self.is_cancelled:
            self.is_cancelled = True
            if self.stop is not None:
                self.stop()


NOBODY: Final = Current((), float("inf"), None, 0)
"""What a thread that serves no call is in the middle of."""
CURRENT: Final = ContextVar("CURRENT", default=NOBODY)


class _Turn(threading.local):
    """One thread's place; `reactor` is the loop that goes on while the thread waits, if any."""

    def __init__(self) -> None:
        self.waiting: dict[int, int] = {}
        """The calls that it waits for, each inside the one before, and the callee of each."""
        self.in_flight: set[int] = set()
        """Its futures; it waits for none of them now, but what they lead to belongs to it."""
        self.held: list[tuple[int, int]] = []
        """The calls of others that it owes an answer first: caller's incarnation, number."""
        self.later: list[Callable[[], None]] = []
        """What it does when it waits no longer: it would run a plugin's code."""
        self.told: set[int] = set()
        """Those of `waiting` of which the node has been told."""
        self.reactor: Reactor | None = None
        self.at_end: list[Callable[[], None]] = []
        """Called when a serving thread ends, by itself: lanes belong to their thread."""


TURN: Final = _Turn()


def belongs(chain: Sequence[Link] | None, own: int) -> bool:
    """Say whether a chain contains a call that this thread has made and not ended.

    Args:
        own: This process's incarnation.
    """
    return chain is not None and any(
        link[0] == own and (link[1] in TURN.waiting or link[1] in TURN.in_flight) for link in chain
    )


def spelled(chain: Sequence[Link], *last: str) -> str:
    """Write a chain for people: `a -> b -> a`."""
    return " -> ".join([*(str(link[2]) for link in chain), *last])
