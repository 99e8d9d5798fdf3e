"""No clock that jumps decides anything, and a late look is no verdict."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.names import Topic
from protocol.outbox import RING_S, Outbox
from protocol.runs import Publication, pack_body
from spiral_host.lifecycle import Exited, Lifecycle, StartAsked, State
from spiral_host.policy import Memory, Policy

ROOT = Path(__file__).parents[2]

WALL_CLOCKS = {"time.time", "time.time_ns", "time.localtime", "datetime.now", "datetime.utcnow"}

WALL_CLOCK_READ = {
    "plugin_worker/node/saying.py": "a line of the node's log",
    "protocol/peer.py": "the stamp of an event",
    "spiral_host/bus.py": "the stamp of an event",
    "spiral_host/crash_writer.py": "when somebody died, for whoever reads the report",
    "spiral_host/store.py": "a number for what follows a lost store; only has to be large",
}
"""Where it is read, and for what: people and stamps. Whoever waits, waits by `time.monotonic`."""


def wall_clocks() -> Iterator[tuple[str, int]]:
    """Give each place at which our packages read a clock that can be set."""
    for package in ("protocol", "plugin_worker", "spiral_host"):
        for module in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                named = isinstance(node, ast.Attribute) and ast.unparse(node) in WALL_CLOCKS
                imported = isinstance(node, ast.ImportFrom) and any(
                    f"{node.module}.{alias.name}" in WALL_CLOCKS for alias in node.names
                )
                if isinstance(node, ast.Attribute | ast.ImportFrom) and (named or imported):
                    yield str(module.relative_to(ROOT)), node.lineno


def test_no_wait_is_measured_by_a_clock_that_can_be_set() -> None:
    """SafirSDK/safir-sdk-core#54, sonic-net/sonic-buildimage#2589: time-outs were measured by the
    wall clock, and a step of it ended or prolonged them. Here it is read for stamps and people.
    """
    read = {module for module, _ in wall_clocks()}
    assert read == set(WALL_CLOCK_READ), sorted(wall_clocks())


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_a_step_of_the_clock_loses_no_event(step_s: float) -> None:
    """SafirSDK/safir-sdk-core#54: the same in one place, where it was our own bug. Here events that
    wait for a daemon are kept as long as they are, whatever day their stamps say.
    """
    outbox = Outbox()
    said = Publication(Topic("Kept"), pack_body([b"\xc0"]), 1)
    for number in range(10):
        outbox.put("p", 1, said, 1e9 + (step_s if number > 4 else 0.0))
    outbox.expire(50.0)
    outbox.expire(50.0 + RING_S - 1.0)
    assert len(outbox) == 10


def test_a_clock_that_began_anew_makes_no_crash_worse() -> None:
    """jetbrains-cc-gui#1553, lg-webos-mqtt#164: after a sleep or a reboot an old time-stamp counted
    as an age, and each new process was ended for it. Here an age is never less than none.
    """
    lifecycle = Lifecycle(Policy(), Memory(crashes=1.0, last_crash=1e6))
    lifecycle.handle(StartAsked(), 5.0)
    lifecycle.handle(Exited("SIGSEGV"), 6.0)
    assert lifecycle.state is State.BACKOFF
    assert lifecycle.deadline is not None
    assert 6.0 <= lifecycle.deadline < 7.0
