"""What the tests of calls may ask for."""

import time
from collections.abc import Iterator

import pytest

from protocol import aio, callbacks, caller, future, gathering, line, lines, running, serving, waits
from tests.clock import Clock
from tests.unit.protocol.lines_parts import Callee, Process, Scripted, Wire


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every module that reads one for its calls."""
    clock = Clock(time.monotonic())  # near the real one, which the loops' timers go by
    for module in (aio, callbacks, caller, future, gathering, line, lines, running, serving, waits):
        monkeypatch.setattr(module, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def wire(clock: Clock) -> Iterator[Wire]:
    """Our end of a lane, and a peer that does as it is told."""
    wire = Wire(clock)
    yield wire
    wire.close()


@pytest.fixture
def callee(clock: Clock) -> Iterator[Callee]:
    """A process that may offer services."""
    callee = Callee(clock)
    yield callee
    callee.close()


@pytest.fixture
def process(clock: Clock, callee: Callee) -> Iterator[Process]:
    """A process whose stubs reach `callee`."""
    process = Process(clock)
    process.callee = callee
    yield process
    process.caller.close()


@pytest.fixture
def scripted(clock: Clock) -> Iterator[Scripted]:
    """A process whose stubs reach peers that do as they are told."""
    scripted = Scripted(clock)
    yield scripted
    scripted.close()
