"""However often the daemon is killed: no event is lost unsaid, out of order or doubled."""

from pathlib import Path

import pytest

from tests.chaos.conftest import Scale, Tell
from tests.chaos.events.storm import Plan, Storm
from tests.hosts import Run

FEW = 3000


def test_every_event_is_accounted_for(run: Run, tmp_path: Path, scale: Scale, tell: Tell) -> None:
    """Published is heard plus named in gaps, for every subscriber, and in the order of numbers."""
    plan = Plan(events=scale.chaos_events, kills=scale.chaos_kills, seed=scale.seed)
    outcome = Storm(run, tmp_path, plan).rage()
    tell(f"the daemon killed among events (seed {scale.seed})", outcome.rows)
    for account in outcome.accounts:
        assert account.wrongs == (0, 0, 0, 0), account
        assert account.heard + account.named == outcome.published
    assert all(outcome.heard_last), "nothing was heard after the last kill"


@pytest.mark.parametrize(
    ("fault", "wrongs"),
    [("lose", (1, 0, 0, 0)), ("swap", (0, 1, 0, 2)), ("double", (0, 0, 1, 1))],
)
def test_a_fault_would_be_found(
    run: Run, tmp_path: Path, fault: str, wrongs: tuple[int, ...]
) -> None:
    """One publisher's single error at the end shows in every subscriber's books."""
    plan = Plan(events=FEW, kills=0, seed=0, fault=fault, quiet_s=3.0)
    outcome = Storm(run, tmp_path, plan).rage()
    assert [account.wrongs for account in outcome.accounts] == [wrongs] * len(outcome.accounts)
