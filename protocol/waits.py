"""Wait for a call, and have the node told when that wait holds up others: it finds the circles.

A thread that waits owes answers: to the call that it is in the middle of, and to those that it
holds. Who waits a little longer says so, and the node fails a call that waits for itself
(A -> B beside B -> A), which no side alone can see. What is told here is told again to nobody:
a short wait, and nearly all are, costs nothing.
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from protocol.listen import read
from protocol.messages import Held, WaitOver
from protocol.turn import CURRENT, TURN

if TYPE_CHECKING:
    from protocol.line import Line

PATIENCE_S: Final = 0.05
"""How long a wait is before the node is told, seconds: what people call at once, and a thousand
times as long as a small call."""

DOOMED: Final[dict[int, str]] = {}
"""This process's calls that the node has found to wait for themselves, and the circle of each."""


class DeadlockError(Exception):
    """The call waits for itself; the text is the circle."""


def attend(line: "Line", number: int, deadline: float, is_over: Callable[[], bool]) -> None:
    """Have a line read until something is so, as the wait for one of this thread's calls.

    Raises:
        TimeoutError: It is not so by `deadline`, `time.monotonic()` seconds.
        DeadlockError: The call waits for itself.
        Cancelled, PeerGone, RemoteProtocolError: As `listen.read`.
    """
    turn, current = TURN, CURRENT.get()
    outer = turn.waiting.get(number)  # what it serves meanwhile may wait for the same call
    turn.waiting[number] = line.peer
    patience = monotonic() + PATIENCE_S
    try:
        while not is_over():
            if number in DOOMED:
                raise DeadlockError(DOOMED.pop(number))
            try:
                read(line, min(patience, deadline), current)
            except TimeoutError:
                if monotonic() >= deadline:
                    raise
                patience = deadline
                _tell(line, number)
    finally:
        if outer is None:
            turn.waiting.pop(number, None)
            if turn.told:
                settle(line, number)


def settle(line: "Line", number: int) -> None:
    """Have the node told that a wait is over, if it was told of it."""
    if number in TURN.told:
        TURN.told.discard(number)
        DOOMED.pop(number, None)
        line.home.tell_node(WaitOver(number))


def owe(line: "Line", number: int) -> None:
    """Note that this thread owes a call an answer and waits for one of its own first."""
    turn = TURN
    waits, waits_for = next(reversed(turn.waiting.items()))
    if not waits:  # it waits for nobody, only for a moment
        return
    turn.told.add(waits)
    line.home.tell_node(Held(waits=waits, waits_for=waits_for, holds=number, holds_of=line.peer))


def _tell(line: "Line", number: int) -> None:
    """Tell of all that this thread owes while it waits for a call."""
    turn, current = TURN, CURRENT.get()
    owed = [*turn.held]
    if current.line is not None:
        owed.append((current.line.peer, current.number))
    for holds_of, holds in owed:
        turn.told.add(number)
        line.home.tell_node(Held(waits=number, waits_for=line.peer, holds=holds, holds_of=holds_of))
