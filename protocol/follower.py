"""Decide what a subscriber is given: in order, once, and with every hole named. No I/O, no clock.

next number         -> deliver
number seen before  -> nothing: a duplicate, sent again after a restart
a number is skipped -> hold what came, ask for a replay, deliver all in order, or name the gap
the hub knows more  -> ask for a replay, too: the last ones were lost, and none comes behind them
"""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protocol.feed import Missing, Replay, Run
from protocol.names import EVERYTHING, Topic

REPLAY_S: Final = 1.0
"""How long a hole may wait for its replay before it is called a gap, seconds."""

MAX_HELD: Final = 10_000
"""Events held behind one hole; beyond that it is a gap at once."""

MAX_LIVES: Final = 8
"""Lives of one source that are remembered for each type; a source that restarts for ever must
not make its subscribers grow."""

Delivery: TypeAlias = Run | Missing
_Key: TypeAlias = tuple[str, int, Topic]


@dataclass(slots=True)
class _Line:
    """The events of one type by one life of one source, as far as they have been seen."""

    seen: int
    held: list[Run] = field(default_factory=list)
    known: int = 0
    """The last number that the hub has told of."""
    give_up_at: float = 0.0

    @property
    def is_waiting(self) -> bool:
        return bool(self.held) or self.seen < self.known


def is_wanted(topic: Topic, wanted: Container[Topic]) -> bool:
    """Say whether a type is among the wanted ones, by name or as part of everything."""
    return topic in wanted or EVERYTHING in wanted


class Follower:
    """Follows every source's numbers; lives as long as its subscriber."""

    def __init__(self) -> None:
        self._lines: dict[_Key, _Line] = {}

    def arrive(self, run: Run, now: float) -> tuple[list[Delivery], Replay | None]:
        """Take in a run; give what to deliver, and what to ask the hub for."""
        key = (run.source, run.incarnation, run.topic)
        line = self._lines.get(key)
        if line is None:
            self._forget_old_lives(run)
            self._lines[key] = _Line(run.last)
            return [run], None
        if run.last <= line.seen:
            return [], None
        if line.held or run.first > line.seen + 1:
            return self._hold(key, line, run, now)
        fresh = run if run.first == line.seen + 1 else run.without(line.seen)
        line.seen = run.last
        return [fresh], None

    def replayed(self, key: _Key, runs: list[Run], last: int) -> list[Delivery]:
        """Take in the hub's answer: what it had of the hole that ends with number `last`."""
        line = self._lines.get(key)
        if line is None or not line.is_waiting or last <= line.seen:
            return []
        line.held += runs
        return self._release(key, line, last)

    def follows(self, key: _Key) -> bool:
        """Say whether anything of this line has been seen."""
        return key in self._lines

    def begin(self, key: _Key, first: int) -> None:
        """Follow a line from a number on, unless it is followed."""
        self._lines.setdefault(key, _Line(first - 1))

    def counted(self, key: _Key, last: int, now: float) -> Replay | None:
        """Take in how far the hub knows a line to go; give what to ask it for."""
        line = self._lines.get(key)
        if line is None:
            return None
        behind = max((run.last for run in line.held), default=line.seen)
        if last <= max(behind, line.known):
            return None
        line.known, line.give_up_at = last, now + REPLAY_S
        return Replay(*key, first=behind + 1, last=last)

    @property
    def deadline(self) -> float | None:
        """When to call `expire`; None while nothing is waited for."""
        waiting = (line.give_up_at for line in self._lines.values() if line.is_waiting)
        return min(waiting, default=None)

    def expire(self, now: float) -> list[Delivery]:
        """Name the holes whose replay has not come in time, and go on behind them."""
        out: list[Delivery] = []
        for key, line in self._lines.items():
            if line.is_waiting and line.give_up_at <= now:
                out += self._release(key, line, line.known)
        return out

    def forget_others(self, wanted: Container[Topic]) -> list[Delivery]:
        """Follow the wanted types only, so that a later subscription to another starts afresh."""
        out: list[Delivery] = []
        for key in [key for key in self._lines if not is_wanted(key[2], wanted)]:
            line = self._lines.pop(key)
            out += self._release(key, line, line.known)
        return out

    def _forget_old_lives(self, run: Run) -> None:
        mine = [key for key in self._lines if (key[0], key[2]) == (run.source, run.topic)]
        for key in sorted(mine, key=lambda key: key[1])[: -MAX_LIVES + 1]:
            del self._lines[key]

    def _hold(
        self, key: _Key, line: _Line, run: Run, now: float
    ) -> tuple[list[Delivery], Replay | None]:
        asked = line.is_waiting
        line.held.append(run)
        if sum(len(held.payloads) for held in line.held) > MAX_HELD:
            return self._release(key, line, line.seen), None
        if asked:
            return [], None
        line.give_up_at = now + REPLAY_S
        return [], Replay(*key, first=line.seen + 1, last=run.first - 1)

    def _release(self, key: _Key, line: _Line, last: int) -> list[Delivery]:
        held, line.held = line.held, []
        out: list[Delivery] = []
        # In the order of their numbers: an origin may have sent the earlier ones again meanwhile.
        for run in sorted(held, key=lambda run: run.first):
            self._append(key, line, run, out)
        if line.seen < last:
            out.append(self._missing(key, line.seen + 1, last))
            line.seen = last
        return out

    def _append(self, key: _Key, line: _Line, run: Run, out: list[Delivery]) -> None:
        if run.last <= line.seen:
            return
        if run.first > line.seen + 1:
            out.append(self._missing(key, line.seen + 1, run.first - 1))
        out.append(run.without(line.seen))
        line.seen = run.last

    @staticmethod
    def _missing(key: _Key, first: int, last: int) -> Missing:
        source, incarnation, topic = key
        return Missing(source, incarnation, topic, first, last)
