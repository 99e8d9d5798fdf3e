"""No clock that jumps decides anything, and a late look is no verdict."""

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.names import Topic
from protocol.outbox import RING_S, Outbox
from protocol.runs import Publication, pack_body
from spiral_host.lifecycle import Exited, Lifecycle, Loaded, Silent, StartAsked, State
from spiral_host.policy import Memory, Policy
from tests.actors import Aside
from tests.hosts import Run, eventually
from tests.immunity.parts import Gated, stopped

ROOT = Path(__file__).parents[2]

START_S = 5.0
"""Long enough for a busy machine to begin a start, and to end it while the daemon stands still."""

WALL_CLOCKS = {"time.time", "time.time_ns", "time.localtime", "datetime.now", "datetime.utcnow"}

WALL_CLOCK_READ = {
    "plugin_worker/node/saying.py": "a line of the node's log",
    "protocol/peer.py": "the stamp of an event",
    "spiral_host/audit.py": "a line of the audit log",
    "spiral_host/bus.py": "the stamp of an event",
    "spiral_host/crash_writer.py": "the moment of a crash, by both clocks",
    "spiral_host/fingerprint.py": "how long ago a file was changed, by the clock that stamps it",
    "spiral_host/granting.py": "when a grant was given",
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
    """SafirSDK#54, sonic-buildimage#2589: time-outs were measured by the
    wall clock, and a step of it ended or prolonged them. Here it is read for stamps and people.
    """
    others = [place for place in wall_clocks() if place[0] not in WALL_CLOCK_READ]
    assert others == [], "if it is for people or a stamp, and no wait: add it above"
    assert list(wall_clocks()), "nothing was found at all"


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_a_step_of_the_clock_loses_no_event(step_s: float) -> None:
    """SafirSDK#54: the same in one place, where it was our own bug. Here events that
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


def test_a_supervisor_that_comes_late_blames_nobody(run: Run, tmp_path: Path) -> None:
    """jetbrains-cc-gui#1553, lg-webos-mqtt#164: after the machine had slept, whatever was starting
    counted as too late, and was ended. Here a daemon that stood still hears the news first.
    """
    host = run.start("polite")  # so that there is a zygote, and a start takes no time
    gated = Gated(host, tmp_path, supervision=f"start_s = {START_S}")
    gated.hold("load")
    loading = Aside(lambda: host.load(gated.path))
    eventually(lambda: gated.lives)
    with stopped(run.daemon.pid):
        gated.let_go("load")
        time.sleep(START_S + 0.1)  # past the moment by which it has to be ready, and was
    (result,) = loading.outcome()
    assert result.ok, result
    assert (gated.lives, host.get("gated").restarts) == (1, 0)


def test_a_slow_start_is_no_hang() -> None:
    """spyder-ide/spyder#3429, Kludex/uvicorn#2506, #2500, sgl-project/sglang#25040: what was slow
    to start missed its heartbeats, was killed, and began again, for ever. Here silence counts only
    once a plugin is ready; until then it has the whole of its time to start.
    """
    lifecycle = Lifecycle(Policy())
    lifecycle.handle(StartAsked(), 0.0)
    lifecycle.handle(Silent("it imports"), 1.0)
    assert lifecycle.expire(Policy().start - 0.1) == []
    assert lifecycle.state is State.STARTING
    lifecycle.handle(Loaded(), Policy().start - 0.1)
    assert (lifecycle.state, lifecycle.deadline) == (State.READY, None)
