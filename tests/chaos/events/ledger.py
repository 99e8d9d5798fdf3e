"""Decide whether every event is accounted for: heard once and in order, or named in a gap. No I/O.

Publishers count what they publish, from 1, for each type; that number is the truth here.

    the number expected     heard, or named by a gap that begins with it
    a later one             leaves a hole: lost, as long as nobody fills it
    an earlier one          fills a hole, too late: out of order; what fills none is doubled

Copied into the auditor's folder, so it imports nothing of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """What became of events; every field but the first three has to stay 0.

    Attributes:
        gaps: How many gaps were named, and `named` how many events they stand for.
        lost: Neither heard nor named.
        out_of_order: Heard or named after a later one.
        doubled: Heard or named more than once.
        misnumbered: Stamped with another number than their publisher's, or published by nobody.
    """

    heard: int = 0
    gaps: int = 0
    named: int = 0
    lost: int = 0
    out_of_order: int = 0
    doubled: int = 0
    misnumbered: int = 0

    @property
    def wrongs(self) -> tuple[int, int, int, int]:
        """Everything that has to be 0."""
        return self.lost, self.out_of_order, self.doubled, self.misnumbered


@dataclass(slots=True)
class _Line:
    """The events of one type from one source: the next number, and what was skipped."""

    expected: int = 1
    holes: list[tuple[int, int]] = field(default_factory=list)


class Ledger:
    """Follows what one subscriber is given; lives as long as it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self._account = Account()

    def hear(self, source: str, event_type: str, seq: int, number: int) -> None:
        """Take in an event: its stamps, and the number that its publisher gave it."""
        line = self._lines.get((source, event_type)) or self._begin(source, event_type)
        if number != seq:
            self._account.misnumbered += 1
        if number == line.expected:
            line.expected += 1
            self._account.heard += 1
        else:
            self._account.heard += self._enter(line, number, number)

    def name(self, source: str, event_type: str, first: int, last: int) -> None:
        """Take in a gap: these cannot be had any more."""
        line = self._lines.get((source, event_type)) or self._begin(source, event_type)
        self._account.gaps += 1
        if first < 1 or last < first:
            self._account.misnumbered += 1
        else:
            self._account.named += self._enter(line, first, last)

    def close(self, published: Mapping[tuple[str, str], int]) -> Account:
        """Balance it: what has not come by now is lost, what nobody published is misnumbered."""
        account = Account(*(getattr(self._account, name) for name in Account.__slots__))
        for key in published.keys() | self._lines.keys():
            line, count = self._lines.get(key, _Line()), published.get(key, 0)
            account.lost += sum(last - first + 1 for first, last in line.holes)
            account.lost += max(0, count + 1 - line.expected)
            account.misnumbered += max(0, line.expected - 1 - count)
        return account

    def behind(self, published: Mapping[tuple[str, str], int]) -> int:
        """Say how many of the published ones have not been reached yet."""
        return sum(
            max(0, count + 1 - self._lines.get(key, _Line()).expected)
            for key, count in published.items()
        )

    def _begin(self, source: str, event_type: str) -> _Line:
        return self._lines.setdefault((source, event_type), _Line())

    def _enter(self, line: _Line, first: int, last: int) -> int:
        """Account for a range of numbers; say how many of them had not been accounted for."""
        if first > line.expected:
            line.holes.append((line.expected, first - 1))
            line.expected = first
        late = self._fill(line, first, min(last, line.expected - 1))
        fresh = max(0, last + 1 - line.expected)
        self._account.out_of_order += late
        self._account.doubled += last - first + 1 - late - fresh
        line.expected += fresh
        return late + fresh

    @staticmethod
    def _fill(line: _Line, first: int, last: int) -> int:
        filled, holes = 0, []
        for begin, end in line.holes:
            low, high = max(begin, first), min(end, last)
            if low > high:
                holes.append((begin, end))
                continue
            filled += high - low + 1
            holes += [part for part in ((begin, low - 1), (high + 1, end)) if part[0] <= part[1]]
        line.holes = holes
        return filled
