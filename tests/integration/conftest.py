"""What every test may ask for."""

from collections.abc import Iterator
from typing import Final

import pytest

from spiral_host import Host
from tests.hosts import Run, new_run

RUNS: Final = 6
STEPS: Final = 12
A_TEST: Final = 3
"""Runs of one test: few enough for its deadline."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `pytest tests/integration/test_state_machine.py`; else the defaults hold."""
    group = parser.getgroup("state machine")
    group.addoption("--machine-runs", type=int, help=f"runs of the machine (default {RUNS})")
    group.addoption("--machine-steps", type=int, help=f"steps of each run (default {STEPS})")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Share the runs of the state machine among tests; each seed has the same steps always."""
    if "machine_seed" in metafunc.fixturenames:
        runs = metafunc.config.getoption("--machine-runs", default=None) or RUNS
        steps = metafunc.config.getoption("--machine-steps", default=None) or STEPS
        shares = [min(A_TEST, runs - first) for first in range(0, runs, A_TEST)]
        rows = [(number, steps, share) for number, share in enumerate(shares)]
        metafunc.parametrize(("machine_seed", "machine_steps", "machine_runs"), rows)


@pytest.fixture
def run() -> Iterator[Run]:
    """A run directory of this test's own; afterwards nothing of it may be left."""
    with new_run() as run:
        yield run


@pytest.fixture(scope="module")
def shared() -> Iterator[Host]:
    """One host for all tests of a file that leave it as it was, with the polite plugin in it."""
    with new_run() as run:
        yield run.embed("polite")
