"""Decide whether callers and callees tell the same story of every call. No I/O.

    the caller says           the callees may have carried it out
    OK                        once, and not never
    WorkerLost, a deadline    at most once: nobody can know
    not available             never: that is what the error says
    nothing                   at most once, and only where the caller's own process was killed

An idempotent call may be carried out three times. The rest is for people: which outcomes there
were, and how long after their deadlines they came.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.calls.records import OK

IDEMPOTENT: Final = "again"
"""The form of calls that may be made again."""

MOST_ATTEMPTS: Final = 3

REFUSED: Final = frozenset({"ServiceUnavailable", "Overloaded"})
"""Outcomes which say that nothing was carried out."""

_OF_A_DEATH: Final = ("WorkerLost", "ServiceUnavailable", "DeadlineExceeded", "Cancelled")

EXPECTED: Final = frozenset({OK, *_OF_A_DEATH, *(f"RemoteError:{it}" for it in _OF_A_DEATH)})
"""What a call may come to while its callees die; a callee's own calls may come to it, too."""

LATE_S: Final = 0.05
"""After its deadline: promised where the machine has time for the caller's thread."""

NEVER_S: Final = 5.0
"""After its deadline: an outcome that comes then was none for whoever waited."""


class LedgerError(Exception):
    """A log says what no log can say: the harness is broken."""


@dataclass(frozen=True, slots=True)
class Life:
    """What one process has written, and whether it was killed."""

    name: str
    lines: list[str]
    was_killed: bool


@dataclass(slots=True)
class Account:
    """What became of calls.

    Attributes:
        outcomes: How often each, by name.
        runs: How often anything was carried out.
        unknown: Calls whose caller was killed before it had an outcome.
        late_s: How long after its deadline each call came that came after it.
        lost: Answered, but never carried out.
        doubled: Carried out more often than it may be.
        ran_refused: Carried out, though the caller was told that it was not.
        unresolved: Without an outcome, or with one that came far too late.
        unexpected: With an outcome that a death does not explain.
        vanished: Lives that ended, though nobody had killed them and nobody had asked.
        wrong: Of all these, what and which call or life.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    unknown: int = 0
    late_s: list[float] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    ran_refused: int = 0
    unresolved: int = 0
    unexpected: int = 0
    vanished: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def note(self, what: str, which: str) -> None:
        """Count something that is not to be."""
        setattr(self, what, getattr(self, what) + 1)
        self.wrong.append((what, which))

    @property
    def calls(self) -> int:
        """How many had an outcome."""
        return self.outcomes.total()

    @property
    def late(self) -> int:
        """How many outcomes came later than they may."""
        return sum(late_s > LATE_S for late_s in self.late_s)


@dataclass(slots=True)
class _Call:
    form: str
    deadline: float
    outcome: str = ""
    late_s: float = 0.0


def balance(lives: Iterable[Life]) -> Account:
    """Compare what all of them have written.

    Raises:
        LedgerError: It cannot be read.
    """
    account, runs = Account(), Counter[str]()
    calls: dict[str, _Call] = {}
    for life in lives:
        sent, has_left = _read(life, runs)
        if calls.keys() & sent.keys():
            raise LedgerError("two lives have made the same call")
        calls |= sent
        waiting = [name for name, call in sent.items() if not call.outcome]
        if life.was_killed and not has_left:
            account.unknown += len(waiting)
            continue
        for name in waiting:
            account.note("unresolved", name)
        if not has_left:
            account.note("vanished", life.name)
    if unheard := runs.keys() - calls.keys():
        raise LedgerError(f"carried out, but never made: {sorted(unheard)[:3]}")
    account.runs = runs.total()
    for name, call in calls.items():
        for what in _enter(account, call, runs[name]):
            account.note(what, f"{name} ({call.form}: {call.outcome}, ran {runs[name]} times)")
    return account


def _read(life: Life, runs: Counter[str]) -> tuple[dict[str, _Call], bool]:
    """Give the calls that were made, and whether the process left in order; count what ran."""
    calls: dict[str, _Call] = {}
    has_left = False
    for line in _whole(life):
        match line.rstrip("\n").split("\t"):
            case ["sent", call, form, at, timeout]:
                calls[call] = _Call(form, float(at) + float(timeout))
            case ["came", call, outcome, at] if call in calls and not calls[call].outcome:
                calls[call].outcome = outcome
                calls[call].late_s = max(0.0, float(at) - calls[call].deadline)
            case ["ran", call]:
                runs[call] += 1
            case ["left"]:
                has_left = True
            case _:
                raise LedgerError(f"{life.name}: this cannot be read: {line!r}")
    return calls, has_left


def _whole(life: Life) -> list[str]:
    """Leave out the last line of one that was killed while it wrote it."""
    is_torn = life.was_killed and life.lines and not life.lines[-1].endswith("\n")
    return life.lines[:-1] if is_torn else life.lines


def _enter(account: Account, call: _Call, runs: int) -> Iterator[str]:
    """Count a call; name what is wrong with it."""
    is_idempotent = call.form == IDEMPOTENT
    if runs > (MOST_ATTEMPTS if is_idempotent else 1):
        yield "doubled"
    if not call.outcome:
        return
    account.outcomes[call.outcome] += 1
    if call.late_s:
        account.late_s.append(call.late_s)
    if call.outcome == OK and not runs:
        yield "lost"
    if call.outcome in REFUSED and runs and not is_idempotent:
        yield "ran_refused"
    if call.outcome not in EXPECTED:
        yield "unexpected"
    if call.late_s > NEVER_S:
        yield "unresolved"
