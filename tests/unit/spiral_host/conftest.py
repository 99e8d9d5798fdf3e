"""What the host's unit tests may ask for."""

import pytest

from spiral_host import (
    bus,
    code_watch,
    fingerprint,
    granting,
    patience,
    questions,
    supervisor,
    views,
)
from tests.clock import Clock
from tests.unit.spiral_host.fakes import House


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, nobody's disk is taken for one that does not answer."""
    for name in ("PATIENCE_S", "BUDGET_S"):
        monkeypatch.setattr(patience, name, 10.0)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon, for tests of what is slow."""
    assert patient is None
    for name in ("PATIENCE_S", "BUDGET_S"):
        monkeypatch.setattr(patience, name, 0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every module that reads one."""
    clock = Clock()
    for module in (bus, code_watch, fingerprint, granting, questions, supervisor, views):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def house(clock: Clock) -> House:
    """A daemon's parts around a fake node."""
    return House(clock)
