"""What a host takes, and how soon it acts, while nothing else happens. Only by `--idle-s`."""

import pytest

from benchmarks import crashes, fleet
from benchmarks.figures import Figure
from benchmarks.hosts import copies_of, host_with
from tests.chaos.conftest import Scale, Tell
from tests.chaos.table import Row

CRASHES = 100


@pytest.fixture(autouse=True)
def _only_when_asked(scale: Scale) -> None:
    if not scale.idle_s:
        pytest.skip("figures of an idle machine; --idle-s says for how long")


def show(tell: Tell, heading: str, figures: list[Figure], n: int) -> None:
    """Have figures printed."""
    rows = [
        Row(what=it.what, found=float(it.value), unit=it.unit, of=n, most=it.goal) for it in figures
    ]
    tell(heading, rows)


def test_idling_costs_nothing(scale: Scale, tell: Tell) -> None:
    """Daemon and node together, with a hundred plugins: a hundredth of a core at most."""
    with copies_of("victim", fleet.COUNT) as folder, host_with(folder) as host:
        figure = fleet.idle(host, scale.idle_s)
    show(tell, f"{scale.idle_s} s of idling", [figure], fleet.COUNT)
    assert figure.verdict == "reached"


def test_a_crash_is_noticed_at_once(tell: Tell) -> None:
    """By the caller, by those who have calls under way, and the service is back soon."""
    figures = crashes.measure(CRASHES)
    show(tell, "crashes while nothing else happens", figures, CRASHES)
    assert not [figure.what for figure in figures if figure.verdict == "FAR OFF"]
