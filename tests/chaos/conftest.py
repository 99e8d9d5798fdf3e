"""How hard it is to be: by default what a test may take, and much more in `make chaos`."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import pytest

from tests.chaos.table import Row, lines
from tests.hosts import Run, new_run

Tell: TypeAlias = Callable[[str, list[Row]], None]
"""Has a table printed at the end, under a heading."""

_TOLD: Final[list[tuple[str, list[Row]]]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything; every field is an option, and as it stands here it takes seconds.

    Attributes:
        seed: Of what is left to chance: moments, victims, calls.
    """

    chaos_events: int = 300_000
    chaos_kills: int = 2
    worker_kills: int = 25
    daemon_kills: int = 3
    crash_cycles: int = 10
    stop_s: int = 1
    idle_s: int = 0
    packets: int = 20_000
    flood_s: int = 2
    seed: int = 0


_HELP: Final = {
    "chaos_events": "events in all",
    "chaos_kills": "kills of the daemon among the events",
    "worker_kills": "kills of workers among calls",
    "daemon_kills": "kills of the daemon among calls",
    "crash_cycles": "crashes before it is looked for leaks",
    "stop_s": "what stubborn plugins have for leaving, seconds; others have 5",
    "packets": "mutated packets, at all sockets together",
    "flood_s": "for how long six plugins flood, seconds",
    "idle_s": "for how long a hundred idle plugins are measured, seconds",
    "seed": "of what is left to chance; 0 is another each time",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `pytest tests/chaos`; a run of all tests takes the defaults."""
    group, usual = parser.getgroup("chaos"), Scale()
    for name, what in _HELP.items():
        option = f"--{name.replace('_', '-')}"
        group.addoption(option, type=int, help=f"{what} (default {getattr(usual, name):,})")
    group.addoption(
        "--failpoints", choices=("some", "all"), help="which passages fail (default some)"
    )


@pytest.fixture
def scale(pytestconfig: pytest.Config) -> Scale:
    """What was asked for."""
    asked = {name: pytestconfig.getoption(name, default=None) for name in _HELP}
    given = {name: value for name, value in asked.items() if value is not None}
    return Scale(**{**given, "seed": given.get("seed") or random.randrange(1, 1 << 32)})


@pytest.fixture
def run() -> Iterator[Run]:
    """A run directory of this test's own; afterwards nothing of it may be left."""
    with new_run() as run:
        yield run


@pytest.fixture
def tell() -> Tell:
    """What is told here is printed at the end, whether it was as promised or not."""
    return lambda heading, rows: _TOLD.append((heading, rows))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found."""
    for heading, rows in _TOLD:
        terminalreporter.section(heading)
        for line in lines(rows):
            terminalreporter.write_line(line)
