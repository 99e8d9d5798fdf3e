"""How hard it is to be: by default what a test may take, and much more in `make chaos`."""

import random
from collections.abc import Iterator
from typing import Final

import pytest

from tests.chaos.storm import Outcome, Plan
from tests.chaos.table import rows
from tests.hosts import Run, new_run

EVENTS: Final = 500_000
KILLS: Final = 2

_OUTCOMES: Final[list[Outcome]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `pytest tests/chaos`; a run of all tests takes the defaults."""
    group = parser.getgroup("chaos")
    group.addoption("--chaos-events", type=int, help=f"events in all (default {EVENTS:,})")
    group.addoption("--chaos-kills", type=int, help=f"kills of the daemon (default {KILLS})")
    group.addoption(
        "--seed", type=int, help="of the moments of the kills (default: another each time)"
    )


@pytest.fixture
def plan(pytestconfig: pytest.Config) -> Plan:
    """What was asked for."""

    def asked(name: str, default: int) -> int:
        value = pytestconfig.getoption(name, default=None)
        return default if value is None else int(value)

    return Plan(
        events=asked("--chaos-events", EVENTS),
        kills=asked("--chaos-kills", KILLS),
        seed=asked("--seed", random.randrange(1 << 32)),
    )


@pytest.fixture
def run() -> Iterator[Run]:
    """A run directory of this test's own; afterwards nothing of it may be left."""
    with new_run() as run:
        yield run


@pytest.fixture
def outcomes() -> list[Outcome]:
    """What is added here is printed at the end."""
    return _OUTCOMES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what happened, whether it was as promised or not."""
    if _OUTCOMES:
        terminalreporter.section("the daemon killed among events")
        for row in rows(_OUTCOMES):
            terminalreporter.write_line(row)
