"""However often the daemon is killed: calls between those who have a lane go on, all of them."""

import random
import time
from pathlib import Path
from typing import Final

from spiral_host import Host, NoDaemon
from tests.chaos.calls.crowd import PATIENCE_S, SERVICES, crowd, pids
from tests.chaos.calls.figures import rows
from tests.chaos.calls.load import Plan
from tests.chaos.conftest import Scale, Tell
from tests.chaos.table import Row
from tests.hosts import Run, eventually

START_S: Final = 0.6
"""A daemon is up and has taken over within so long; some of the kills fall into it."""

SERVE_S: Final = 0.3


def answers(run: Run, host: Host) -> bool:
    """Say whether there is a daemon that answers."""
    assert run.daemon.poll() is None, run.daemon.last_words()
    try:
        return bool(host.status())
    except NoDaemon:
        return False


def test_no_call_notices(run: Run, tmp_path: Path, scale: Scale, tell: Tell) -> None:
    """No call fails, no process ends, nothing is started again."""
    plan = Plan(SERVICES, 2, pause_s=0.001, timeout_s=20.0, impatient=0.0, seed=scale.seed)
    rng = random.Random(scale.seed)
    with crowd(run, tmp_path, plan) as callers:
        host = callers.host
        before = pids(host)
        for _ in range(scale.daemon_kills):
            run.kill_daemon()
            time.sleep(rng.choice([0.0, rng.uniform(0.0, SERVE_S)]))
            run.start_daemon()
            if rng.random() < 0.5:
                time.sleep(rng.uniform(0.0, START_S))
            else:
                eventually(lambda: answers(run, host), PATIENCE_S)
                assert pids(host) == before
                time.sleep(rng.uniform(0.0, SERVE_S))
        eventually(lambda: answers(run, host), PATIENCE_S)
        after, restarts = pids(host), sum(it.restarts for it in host.list_plugins())
        account = callers.stop(killed=())
    failed = account.calls - account.outcomes["OK"]
    lost = sum(after.get(name) != pid for name, pid in before.items())
    held = len(before) * scale.daemon_kills
    tell(
        f"the daemon killed among calls (seed {scale.seed})",
        [
            Row(what="the daemon killed", found=scale.daemon_kills),
            Row(what="workers that were not kept", found=lost, of=held, most=0),
            *rows(account),
            Row(what="failed", found=failed, of=account.calls, most=0),
        ],
    )
    assert after == before
    assert restarts == 0
    assert account.wrong == []
    assert failed == 0, account.outcomes
