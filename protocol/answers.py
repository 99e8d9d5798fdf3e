"""Keep what became of an event behind the peer that published it, until the hub asks. No I/O.

Subscribers behind that peer are given the event before the hub has it, and may be done before the
hub waits for them; and the hub that comes after a killed one asks again.
"""

from typing import Final

from protocol.feed import Ran

MAX_ANSWERS: Final = 1024
"""Events of which it is kept what became of them; the hub waits for no more of one peer."""

_Event = tuple[int, int]


class Answers:
    """What the subscribers behind one peer have said of its own events; lives as long as it."""

    def __init__(self) -> None:
        self._said: dict[_Event, list[Ran]] = {}
        self._asked: set[_Event] = set()

    def __len__(self) -> int:
        return len(self._said)

    def published(self, incarnation: int, report: int) -> None:
        """Keep what is said of an event from now on."""
        while len(self._said) >= MAX_ANSWERS:
            self.over(*next(iter(self._said)))
        self._said[incarnation, report] = []

    def ran(self, ran: Ran) -> bool:
        """Take in an answer; say whether the hub should be told at once."""
        event = (ran.incarnation, ran.report)
        said = self._said.get(event)
        if said is None:
            return True
        said.append(ran)
        return event in self._asked

    def asked(self, incarnation: int, report: int) -> tuple[Ran, ...]:
        """The hub asks; give what has been said so far."""
        event = (incarnation, report)
        if event not in self._said:
            return ()
        self._asked.add(event)
        return tuple(self._said[event])

    def over(self, incarnation: int, report: int) -> None:
        """Nobody waits for this one any more."""
        self._said.pop((incarnation, report), None)
        self._asked.discard((incarnation, report))
