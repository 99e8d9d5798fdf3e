"""What the host's unit tests may ask for."""

import pytest

from spiral_host import bus, code_watch, granting, questions, supervisor, views
from tests.clock import Clock
from tests.unit.spiral_host.fakes import House


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every module that reads one."""
    clock = Clock()
    for module in (bus, code_watch, granting, questions, supervisor, views):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def house(clock: Clock) -> House:
    """A daemon's parts around a fake node."""
    return House(clock)
