"""Show what became of the events of a storm, one row for each auditor."""

from collections.abc import Iterable, Iterator
from typing import Final

from tests.chaos.storm import Outcome

_HEADINGS: Final = (
    *("seed", "kills", "events", "heard", "gaps", "named", "lost", "out of order", "doubled"),
    *("misnumbered", "seconds", "events/s"),
)
_BOUND: Final = 3.0
"""Of something that was never seen in n trials: rarer than 3/n, with 95 % confidence."""


def rows(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Give the lines of the table, and what its zeros are worth."""
    outcomes = list(outcomes)
    yield _line(_HEADINGS)
    for outcome in outcomes:
        for account in outcome.accounts:
            yield _line(
                (
                    str(outcome.plan.seed),
                    *(f"{n:,}" for n in (outcome.plan.kills, outcome.published, account.heard)),
                    *(f"{n:,}" for n in (account.gaps, account.named, *account.wrongs)),
                    f"{outcome.seconds:.1f}",
                    f"{outcome.published / outcome.seconds:,.0f}",
                )
            )
    checked = sum(account.heard for outcome in outcomes for account in outcome.accounts)
    if checked and not any(any(it.wrongs) for outcome in outcomes for it in outcome.accounts):
        yield (
            f"each 0 of {checked:,} events heard: fewer than 1 in {checked / _BOUND:,.0f} "
            "with 95 % confidence (3/n)"
        )


def _line(cells: Iterable[str]) -> str:
    return "  ".join(
        cell.rjust(max(10, len(heading))) for cell, heading in zip(cells, _HEADINGS, strict=True)
    )
