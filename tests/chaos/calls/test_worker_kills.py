"""However often workers are killed: every call has one outcome, and it is true."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from spiral_host import Host
from tests.chaos.calls.crowd import PATIENCE_S, SERVICES, WARM, crowd
from tests.chaos.calls.figures import rows
from tests.chaos.calls.load import Plan
from tests.chaos.calls.reaper import Reaper
from tests.chaos.conftest import Scale, Tell
from tests.chaos.table import Row
from tests.hosts import Run, eventually

IMPATIENT: Final = 0.01


def test_every_call_has_one_outcome(run: Run, tmp_path: Path, scale: Scale, tell: Tell) -> None:
    """Nothing answered was not done, nothing was done twice, nobody waits for ever."""
    plan = Plan(SERVICES, 2, pause_s=0.001, timeout_s=2.0, impatient=IMPATIENT, seed=scale.seed)
    with crowd(run, tmp_path, plan) as callers:
        reaper, began = Reaper(callers.host, run.run_dir, scale.seed), time.monotonic()
        reaper.reap(scale.worker_kills)
        seconds = time.monotonic() - began
        eventually(lambda: callers.least_made() > WARM, PATIENCE_S)  # all is well again
        with suppress(AssertionError):  # how many they are says more
            eventually(lambda: not zombies_of(callers.host))
        zombies = zombies_of(callers.host)
        account = callers.stop(reaper.killed)
    kills = len(reaper.killed)
    tell(
        f"workers killed among calls (seed {scale.seed})",
        [
            Row(what="workers killed", found=kills),
            Row(what="a second", found=kills / seconds, unit="/s"),
            *rows(account),
            Row(what="zombies", found=zombies, of=kills, most=0),
            Row(what="deaths that nobody caused", found=account.vanished, most=0),
        ],
    )
    assert account.wrong == []
    assert zombies == 0
    assert any("WorkerLost" in outcome for outcome in account.outcomes), "no kill fell into a call"


def test_a_fault_would_be_found(run: Run, tmp_path: Path) -> None:
    """One provider's single errors of three kinds show in the books, and nothing else does."""
    plan = Plan(SERVICES, 1, pause_s=0.001, timeout_s=10.0, impatient=0.0, seed=1)
    with crowd(run, tmp_path, plan, "double lose misanswer") as callers:
        account = callers.stop(killed=())
    assert sorted(what for what, _ in account.wrong) == ["doubled", "lost", "unexpected"]


def zombies_of(host: Host) -> int:
    """Count the node's dead children that it has not reaped."""
    found = 0
    for child in psutil.Process(host.status()["node_pid"]).children():
        with suppress(psutil.NoSuchProcess):  # it is reaped just now
            found += child.status() == psutil.STATUS_ZOMBIE
    return found
