"""Decide when it is known what became of an event whose publisher waits. No I/O, no clock.

    fanned out --> each peer names whom it concerns --> each of these answers --> Finished
                   |                                    |
                   +-- or is gone: it had nobody        +-- or is gone, or late: one failure

Whatever a peer says, in whatever order or number, a publisher is told once, at its deadline at the
latest, and what it is told adds up.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.publishing import CROWDED, LATE

if TYPE_CHECKING:
    from protocol.names import Topic
    from protocol.runs import Head

MAX_WITHIN_MS: Final = 600_000
"""How long anybody may wait, milliseconds: ten minutes, as long as the longest call may take."""

MAX_NAMES: Final = 1024
"""Subscribers that one peer may name for one event; the others of a liar are not waited for."""

MAX_REPORTS: Final = 1024
"""Reports under way for one publishing peer; beyond that one ends early: the oldest of whichever
of its plugins waits for most, so that the others do not notice."""

MAX_COUNT: Final = 1_000_000
"""Callbacks that one subscriber may claim to have run for one event."""

MAX_TEXTS: Final = 16
MAX_TEXT: Final = 300
"""Failures that one report quotes, and the characters of each, of a subscriber's name too. All are
counted."""

GONE: Final = "has gone"

_Key: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Tell a peer what became of an event that it fanned out.

    Attributes:
        matched: Callbacks that ran or should have; a subscriber that did not answer counts as one.
        delivered: Those that did not fail.
        failures: Subscriber and text; at most `MAX_TEXTS`, while `matched - delivered` failed.
    """

    peer: bytes
    incarnation: int
    report: int
    event_type: "Topic"
    matched: int
    delivered: int
    failures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    matched: int
    failed: int
    texts: tuple[str, ...]


@dataclass(slots=True)
class _Concerned:
    """What one peer has said: who has still to answer, None while it has not named anybody."""

    waiting: dict[str, None] | None = None
    early: dict[str, _Answer] = field(default_factory=dict)
    """Answers that came before their names did."""


@dataclass(slots=True, eq=False)
class _Report:
    peer: bytes
    key: _Key
    event_type: "Topic"
    serial: int
    peers: dict[bytes, _Concerned]
    missing: int
    """What is still to be said: by peers, whom it concerns, and by these, what became of it."""
    matched: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def take(self, waiting: dict[str, None], name: str, answer: _Answer) -> None:
        """Count an answer, if it is one that is waited for."""
        if name not in waiting:
            return
        del waiting[name]
        self.missing -= 1
        self.matched += answer.matched
        self.failed += answer.failed
        self.failures = [*self.failures, *((name, text) for text in answer.texts)][:MAX_TEXTS]

    def give_up(self, concerned: _Concerned, why: str) -> None:
        """Count whoever has not answered as one callback that failed."""
        waiting = concerned.waiting
        if waiting is None:
            self.missing -= 1
            return
        told, self.failures = self.failures, []
        for name in list(waiting):
            self.take(waiting, name, _Answer(1, 1, (why,)))
        # First, so that they are told: who waits has to know that not all have answered.
        self.failures = [*self.failures, *told][:MAX_TEXTS]


class Reports:
    """Collects the reports of one hub; lives as long as it."""

    def __init__(self) -> None:
        self._reports: dict[_Key, _Report] = {}
        self._begun_by: dict[bytes, dict[int, dict[_Key, None]]] = {}
        """By peer, and by life of the publisher behind it."""
        self._under_way: dict[bytes, int] = {}
        self._due: list[tuple[float, int, _Key]] = []
        """A heap; an entry whose report has ended means nothing."""
        self._begun = 0

    def __len__(self) -> int:
        """Count the reports under way."""
        return len(self._reports)

    @property
    def deadline(self) -> float | None:
        """When to call `expire`; None while nothing is waited for."""
        return self._due[0][0] if self._due else None

    def begin(
        self, peer: bytes, head: "Head", peers: Iterable[bytes], now: float
    ) -> list[Finished]:
        """Collect what becomes of an event that somebody waits for, unless nobody does.

        Args:
            peer: Who published it and will be told.
            peers: Everybody it was fanned out to; each has to say whom it concerns.
        """
        key = (head.incarnation, head.report)
        if not head.report or key in self._reports:
            return []
        ended = self._make_room(peer)
        due = now + min(max(head.within_ms, 0), MAX_WITHIN_MS) / 1000
        self._begun += 1
        concerned = {other: _Concerned() for other in peers}
        report = _Report(peer, key, head.topic, self._begun, concerned, len(concerned))
        self._reports[key] = report
        self._begun_by.setdefault(peer, {}).setdefault(head.incarnation, {})[key] = None
        self._under_way[peer] = self._under_way.get(peer, 0) + 1
        heapq.heappush(self._due, (due, report.serial, key))
        return [*ended, *self._settle(report)]

    def expected(
        self, peer: bytes, incarnation: int, report: int, names: Sequence[str]
    ) -> list[Finished]:
        """Take in whom an event concerns among a peer's own, perhaps nobody; it says so once."""
        known, concerned = self._find(peer, incarnation, report)
        if known is None or concerned is None or concerned.waiting is not None:
            return []
        concerned.waiting = dict.fromkeys(name[:MAX_TEXT] for name in names[:MAX_NAMES])
        known.missing += len(concerned.waiting) - 1
        early, concerned.early = concerned.early, {}
        for name, answer in early.items():
            known.take(concerned.waiting, name, answer)
        return self._settle(known)

    def answered(
        self,
        peer: bytes,
        incarnation: int,
        report: int,
        name: str,
        matched: int,
        failed: int,
        texts: Sequence[str],
    ) -> list[Finished]:
        """Take in that a subscriber has run its callbacks; the first answer of each counts.

        Args:
            matched: Callbacks that it ran.
            failed: Those that raised.
            texts: What some or all of these said.
        """
        known, concerned = self._find(peer, incarnation, report)
        if known is None or concerned is None:
            return []
        matched = min(max(matched, 0), MAX_COUNT)
        failed = min(max(failed, 0), matched)
        quoted = tuple(text[:MAX_TEXT] for text in texts[: min(failed, MAX_TEXTS)])
        answer = _Answer(matched, failed, quoted)
        if concerned.waiting is not None:
            known.take(concerned.waiting, name[:MAX_TEXT], answer)
        elif len(concerned.early) < MAX_NAMES:
            concerned.early.setdefault(name[:MAX_TEXT], answer)
        return self._settle(known)

    def left(self, peer: bytes) -> list[Finished]:
        """Wait for a peer no longer: whom it has named has gone with it."""
        ended: list[Finished] = []
        for report in list(self._reports.values()):
            concerned = report.peers.pop(peer, None)
            if concerned is not None:
                report.give_up(concerned, GONE)
                ended += self._settle(report)
        return ended

    def expire(self, now: float) -> list[Finished]:
        """End the reports whose time has run out; early and late calls are harmless."""
        ended: list[Finished] = []
        while self._due and self._due[0][0] <= now:
            ended.append(self._end(self._reports[self._due[0][2]], LATE))
        return ended

    def _find(
        self, peer: bytes, incarnation: int, report: int
    ) -> tuple[_Report | None, _Concerned | None]:
        known = self._reports.get((incarnation, report))
        return known, None if known is None else known.peers.get(peer)

    def _make_room(self, peer: bytes) -> list[Finished]:
        if self._under_way.get(peer, 0) < MAX_REPORTS:
            return []
        most = max(self._begun_by[peer].values(), key=len)
        return [self._end(self._reports[next(iter(most))], CROWDED)]

    def _settle(self, report: _Report) -> list[Finished]:
        return [] if report.missing else [self._end(report, "")]

    def _end(self, report: _Report, why: str) -> Finished:
        for concerned in report.peers.values():
            report.give_up(concerned, why)
        del self._reports[report.key]
        self._forget_begun(report.peer, report.key)
        self._forget_ended()
        return Finished(
            peer=report.peer,
            incarnation=report.key[0],
            report=report.key[1],
            event_type=report.event_type,
            matched=report.matched,
            delivered=report.matched - report.failed,
            failures=tuple(report.failures),
        )

    def _forget_begun(self, peer: bytes, key: _Key) -> None:
        begun = self._begun_by[peer]
        del begun[key[0]][key]
        if not begun[key[0]]:
            del begun[key[0]]
        self._under_way[peer] -= 1
        if not begun:
            del self._begun_by[peer], self._under_way[peer]

    def _forget_ended(self) -> None:
        if len(self._due) > 2 * len(self._reports) + 64:
            self._due = [entry for entry in self._due if self._is_under_way(entry)]
            heapq.heapify(self._due)
        while self._due and not self._is_under_way(self._due[0]):
            heapq.heappop(self._due)

    def _is_under_way(self, entry: tuple[float, int, _Key]) -> bool:
        # The same key may have begun again since.
        report = self._reports.get(entry[2])
        return report is not None and report.serial == entry[1]
