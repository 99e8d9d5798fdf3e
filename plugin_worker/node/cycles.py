"""Decide when a call can never be answered, because it waits for itself. No I/O, no clock.

A vertex is a call: its caller's incarnation and its number there, which no process uses twice.

    (a, 1) --> (b, 2)    b owes call 1 of a's an answer, and waits for its own call 2 first

Endpoints tell the edges themselves; nothing is polled. Whoever tells the one that closes a circle
is told to let its call fail, and nobody else is: one call is enough. An edge out of a call counts
only if the one who told it is the call's callee, in the word of the call's own caller. So a liar
can speak of its own calls and of calls made to it, which it may leave unanswered anyway; no edge
between others is its to add, and no circle of theirs to make.

An edge ends with the wait, when its endpoint says so. A call that is answered in time cannot be in
a circle before that, so an edge that is out of date closes none; but a call of the circle whose
caller gave up in that very moment, its word still on the way, does count once more.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protocol.messages import Deadlock, Held, WaitOver

MAX_TOLD: Final = 1024
"""Waits and edges of one endpoint: each of its 512 lanes may hold a call. What it tells beyond is
not heard; such a circle ends by the calls' deadlines."""

MAX_WAITS: Final = 32
"""Waits of one thread inside each other; no chain of calls is longer."""

MAX_STEPS: Final = 512
"""Calls looked at for one message, under 0.5 ms; a circle that is larger ends by deadline too. Only
who makes hundreds of calls at the same time, and has them held, can make a search as long."""

MAX_NAMES: Final = 8
"""Names in the text of a circle; of a longer one the middle is left out."""

Vertex: TypeAlias = tuple[int, int]
"""A call: its caller's incarnation, its number."""


@dataclass(slots=True)
class _Wait:
    """A call that an endpoint waits for, in its own words."""

    callee: int
    owed: set[Vertex] = field(default_factory=set)
    is_doomed: bool = False
    """Whether the endpoint was told to let it fail. Until it has, it makes no other call fail."""


@dataclass(slots=True)
class _Endpoint:
    """What one endpoint has told."""

    waits: dict[int, _Wait] = field(default_factory=dict)
    owed: dict[Vertex, set[int]] = field(default_factory=dict)
    """Calls made to it, each with the numbers of its own that have to be answered before."""
    told: int = 0


class Cycles:
    """Who waits for whom on this machine; lives as long as the node.

    Args:
        tied: Says whether two endpoints have a lane with each other.
        name_of: Gives an endpoint's name, as the daemon knows it.
    """

    def __init__(self, tied: Callable[[int, int], bool], name_of: Callable[[int], str]) -> None:
        self._tied = tied
        self._name_of = name_of
        self._endpoints: dict[int, _Endpoint] = {}

    def told(self, teller: int, message: Held | WaitOver) -> Deadlock | None:
        """Take in what an endpoint says; give what to tell it, if its call cannot be answered."""
        if isinstance(message, WaitOver):
            self._end(teller, message.waits)
            return None
        return self._circle(teller, message) if self._add(teller, message) else None

    def forget(self, incarnation: int) -> None:
        """Forget what an endpoint has told, because it is gone."""
        self._endpoints.pop(incarnation, None)

    def _add(self, teller: int, edge: Held) -> bool:
        """Add an edge; say whether it is a new one that counts."""
        if not (self._tied(teller, edge.holds_of) and self._tied(teller, edge.waits_for)):
            return False
        if self._callee((teller, edge.waits)) not in {None, edge.waits_for}:
            self._end(teller, edge.waits)  # a call sent again, to its callee's successor
        endpoint = self._endpoints.setdefault(teller, _Endpoint())
        known = endpoint.waits.get(edge.waits)
        call = (edge.holds_of, edge.holds)
        before = endpoint.owed.get(call, ())
        if known is not None and (known.is_doomed or call in known.owed):
            return False
        if endpoint.told + (2 if known is None else 1) > MAX_TOLD or len(before) >= MAX_WAITS:
            return False
        if known is None:
            known = endpoint.waits[edge.waits] = _Wait(edge.waits_for)
            endpoint.told += 1
        known.owed.add(call)
        endpoint.owed.setdefault(call, set()).add(edge.waits)
        endpoint.told += 1
        return True

    def _end(self, teller: int, number: int) -> None:
        endpoint = self._endpoints.get(teller)
        wait = endpoint.waits.pop(number, None) if endpoint else None
        if endpoint is None or wait is None:
            return
        self._drop_edges(endpoint, number, wait)
        endpoint.told -= 1
        if not endpoint.waits:
            del self._endpoints[teller]

    def _drop_edges(self, endpoint: _Endpoint, number: int, wait: _Wait) -> None:
        for call in wait.owed:
            endpoint.owed[call].discard(number)
            if not endpoint.owed[call]:
                del endpoint.owed[call]
        endpoint.told -= len(wait.owed)
        wait.owed.clear()

    # --- the search -------------------------------------------------------------------------------

    def _circle(self, teller: int, edge: Held) -> Deadlock | None:
        """Look for a way from the call that is waited for back to the one that is held."""
        first, last = (teller, edge.waits), (edge.holds_of, edge.holds)
        if self._callee(last) != teller:
            return None  # whoever made the call that is owed owes none itself, as most: no search
        came_from: dict[Vertex, Vertex | None] = {first: None}
        ahead = deque([first])
        while ahead and len(came_from) <= MAX_STEPS:
            call = ahead.popleft()
            if call == last:
                return self._doom(teller, edge.waits, _way(came_from, last))
            for further in self._waited_for(call):
                if further not in came_from:
                    came_from[further] = call
                    ahead.append(further)
        return None

    def _waited_for(self, call: Vertex) -> Iterator[Vertex]:
        """Give the calls that have to be answered before `call`, in the word of its callee."""
        callee = self._callee(call)
        endpoint = self._endpoints.get(callee) if callee is not None else None
        if endpoint is not None and callee is not None:
            for number in endpoint.owed.get(call, ()):
                yield callee, number

    def _callee(self, call: Vertex) -> int | None:
        """Say whom a call was made to, in the word of its caller; None while it has not said."""
        caller, number = call
        endpoint = self._endpoints.get(caller)
        wait = endpoint.waits.get(number) if endpoint else None
        return wait.callee if wait else None

    def _doom(self, teller: int, number: int, way: list[Vertex]) -> Deadlock:
        endpoint = self._endpoints[teller]
        wait = endpoint.waits[number]
        self._drop_edges(endpoint, number, wait)
        wait.is_doomed = True
        return Deadlock(number=number, circle=self._spelled([caller for caller, _ in way]))

    def _spelled(self, callers: list[int]) -> str:
        names = [self._name_of(caller) for caller in (*callers, callers[0])]
        if len(names) > MAX_NAMES:
            names[MAX_NAMES // 2 : -MAX_NAMES // 2] = ["..."]
        return " -> ".join(names)


def _way(came_from: dict[Vertex, Vertex | None], last: Vertex) -> list[Vertex]:
    way: list[Vertex] = []
    call: Vertex | None = last
    while call is not None:
        way.append(call)
        call = came_from[call]
    return way[::-1]
