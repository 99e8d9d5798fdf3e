"""Decide what a subscriber is given: in order, once, and with every hole named. No I/O, no clock.

next number         -> deliver
number seen before  -> nothing: a duplicate, sent again after a restart
a number is skipped -> hold what came, ask for a replay, deliver all in order, or name the gap
the hub knows more  -> ask for a replay, too: the last ones were lost, and none comes behind them
the hub has died    -> name nothing: who published it may send it again to the next hub, which is
                       asked when that has had time
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

from protocol.feed import Replay
from protocol.names import Topic
from protocol.outbox import RING_S
from protocol.runs import Line, Missing, Run

REPLAY_S: Final = 1.0
"""How long a hole may wait for its replay before it is called a gap, seconds."""

RETURN_S: Final = 3.0
"""How long after a hub has been lost and found a hole waits for who sends it again, seconds: the
hub waits 2 s for others, and what it held takes its time."""

MAX_HELD: Final = 10_000
"""Events held behind one hole; beyond that it is a gap at once."""

MAX_LIVES: Final = 8
"""Lives of one source that are remembered for each type; a source that restarts for ever must
not make its subscribers grow."""

Delivery: TypeAlias = Run | Missing


@dataclass(slots=True)
class _Line:
    """The events of one type by one life of one source, as far as they have been seen."""

    seen: int
    begun: int
    """The first number that it is followed from."""
    held: list[Run] = field(default_factory=list)
    """In the order of their numbers: an origin may have sent the earlier ones again meanwhile."""
    known: int = 0
    """The last number that the hub has told of."""
    give_up_at: float = 0.0
    is_unasked: bool = False
    """The hub that was asked for the hole, if any was, has died."""

    @property
    def is_waiting(self) -> bool:
        return bool(self.held) or self.seen < self.known


class Follower:
    """Follows every source's numbers; lives as long as its subscriber."""

    def __init__(self) -> None:
        self._lines: dict[Line, _Line] = {}
        self._lives: dict[tuple[str, Topic], list[int]] = {}
        """Whose lines these are: a publisher may have thousands, so nobody looks through them."""
        self._away_until = -inf

    def arrive(self, run: Run, now: float) -> tuple[list[Delivery], Replay | None]:
        """Take in a run; give what to deliver, and what to ask the hub for."""
        key = run.head.line
        line = self._lines.get(key)
        if line is None:
            released = self._forget_old_lives(key)
            self._add(key, run.head.first - 1)
            self._lines[key].seen = run.head.last
            return [*released, run], None
        if run.head.last <= line.seen:
            return [], None
        if line.held or run.head.first > line.seen + 1:
            return self._hold(key, line, run, now)
        fresh = run if run.head.first == line.seen + 1 else run.without(line.seen)
        line.seen = run.head.last
        return [fresh], None

    def near(self, run: Run) -> list[Delivery]:
        """Take in a run that has just been numbered here: what its line lacks nobody has."""
        deliveries, wanted = self.arrive(run, 0.0)
        if wanted is None:
            return deliveries
        key = run.head.line
        return self._release(key, self._lines[key], run.head.last)

    def replayed(
        self, key: Line, runs: list[Run], last: int, now: float
    ) -> tuple[list[Delivery], Replay | None]:
        """Take in the hub's answer: what it had of the hole that ends with number `last`."""
        line = self._lines.get(key)
        if line is None or not line.is_waiting or last <= line.seen:
            return [], None
        line.held = sorted([*line.held, *runs], key=_first_of)
        if line.is_unasked:
            return self._fill(line), None  # a dead hub's last word: it names nothing
        return self._go_on(key, line, last, now)

    def lost(self, now: float) -> None:
        """The hub is gone: holes wait for the next one for as long as anybody keeps what it was."""
        self._away_until = now + RING_S
        self._ask_later(self._away_until)

    def found(self, now: float) -> None:
        """There is a hub again: holes wait until all has come that is sent again."""
        self._away_until = -inf
        self._ask_later(now + RETURN_S)

    def _ask_later(self, when: float) -> None:
        for line in self._lines.values():
            if line.is_waiting:
                line.is_unasked, line.give_up_at = True, when

    def follows(self, key: Line) -> bool:
        """Say whether anything of this line has been seen."""
        return key in self._lines

    def begin(self, key: Line, first: int) -> list[Delivery]:
        """Follow a line from a number on; of one that is followed from a later on, name the rest.

        That it comes behind what was delivered is better than that nobody hears of it.
        """
        line = self._lines.get(key)
        if line is None:
            self._add(key, first - 1)
            return []
        begun, line.begun = line.begun, min(first, line.begun)
        return [Missing(*key, first, begun - 1)] if first < begun else []

    def counted(self, key: Line, last: int, now: float) -> Replay | None:
        """Take in how far the hub knows a line to go; give what to ask it for."""
        line = self._lines.get(key)
        if line is None:
            return None
        behind = max((run.head.last for run in line.held), default=line.seen)
        if last <= max(behind, line.known):
            return None
        was_unasked = line.is_waiting and line.is_unasked
        line.known = last
        if was_unasked:
            return None
        self._wait(line, now)
        return Replay(*key, first=behind + 1, last=last)

    @property
    def deadline(self) -> float | None:
        """When to call `expire`; None while nothing is waited for."""
        waiting = (line.give_up_at for line in self._lines.values() if line.is_waiting)
        return min(waiting, default=None)

    def expire(self, now: float) -> tuple[list[Delivery], list[Replay]]:
        """Name the holes whose replay has not come in time; give those to ask for only now."""
        out: list[Delivery] = []
        asked: list[Replay] = []
        for key, line in self._lines.items():
            if not line.is_waiting or line.give_up_at > now:
                continue
            if line.is_unasked:
                self._wait(line, now)
                asked.append(self._hole(key, line))
            else:
                out += self._release(key, line, line.known)
        return out, asked

    def forget_others(self, is_wanted: Callable[[Topic], bool]) -> list[Delivery]:
        """Follow the wanted types only, so that a later subscription to another starts afresh."""
        out: list[Delivery] = []
        for key in [key for key in self._lines if not is_wanted(key[2])]:
            out += self._forget(key)
        return out

    def _add(self, key: Line, seen: int) -> None:
        source, incarnation, topic = key
        self._lines[key] = _Line(seen, seen + 1)
        self._lives.setdefault((source, topic), []).append(incarnation)

    def _forget(self, key: Line) -> list[Delivery]:
        source, incarnation, topic = key
        line = self._lines.pop(key)
        lives = self._lives[source, topic]
        lives.remove(incarnation)
        if not lives:
            del self._lives[source, topic]
        return self._release(key, line, line.known)

    def _forget_old_lives(self, key: Line) -> list[Delivery]:
        source, _, topic = key
        out: list[Delivery] = []
        for life in sorted(self._lives.get((source, topic), ()))[: -MAX_LIVES + 1]:
            out += self._forget((source, life, topic))
        return out

    def _hold(
        self, key: Line, line: _Line, run: Run, now: float
    ) -> tuple[list[Delivery], Replay | None]:
        asked = line.is_waiting
        insort(line.held, run, key=_first_of)
        if run.head.first <= line.seen + 1:
            return self._fill(line), None
        if sum(held.head.events for held in line.held) > MAX_HELD:
            return self._release(key, line, line.seen), None
        if asked:
            return [], None
        self._wait(line, now)
        return [], self._hole(key, line)

    def _wait(self, line: _Line, now: float) -> None:
        line.is_unasked = now < self._away_until
        line.give_up_at = self._away_until if line.is_unasked else now + REPLAY_S

    @staticmethod
    def _hole(key: Line, line: _Line) -> Replay:
        """Give the first hole of a line that waits."""
        last = line.held[0].head.first - 1 if line.held else line.known
        return Replay(*key, first=line.seen + 1, last=last)

    def _fill(self, line: _Line) -> list[Delivery]:
        """Go on as far as there is no hole."""
        out: list[Delivery] = []
        while line.held and line.held[0].head.first <= line.seen + 1:
            self._append(line, line.held.pop(0), out)
        return out

    def _go_on(
        self, key: Line, line: _Line, last: int, now: float
    ) -> tuple[list[Delivery], Replay | None]:
        """Name what is missing up to a number, and ask for the next hole behind it, if any."""
        out: list[Delivery] = []
        held = line.held
        for place, run in enumerate(held):
            self._miss(key, line, min(last, run.head.first - 1), out)
            if run.head.first > line.seen + 1:
                line.held = held[place:]
                self._wait(line, now)
                return out, self._hole(key, line)
            self._append(line, run, out)
        line.held = []
        self._miss(key, line, last, out)
        if not line.is_waiting:
            return out, None
        self._wait(line, now)
        return out, self._hole(key, line)

    def _release(self, key: Line, line: _Line, last: int) -> list[Delivery]:
        """Name all that is missing, and wait for nothing any more."""
        held, line.held = line.held, []
        out: list[Delivery] = []
        for run in held:
            self._miss(key, line, run.head.first - 1, out)
            self._append(line, run, out)
        self._miss(key, line, last, out)
        return out

    @staticmethod
    def _append(line: _Line, run: Run, out: list[Delivery]) -> None:
        if run.head.last > line.seen:
            out.append(run.without(line.seen))
            line.seen = run.head.last

    @staticmethod
    def _miss(key: Line, line: _Line, last: int, out: list[Delivery]) -> None:
        if line.seen < last:
            out.append(Missing(*key, line.seen + 1, last))
            line.seen = last


def _first_of(run: Run) -> int:
    return run.head.first
