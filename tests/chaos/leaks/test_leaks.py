"""However often workers crash: daemon and node keep nothing of them, nothing outlives the run."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from spiral_host import Host, PluginInfo
from spiral_host.crash_files import KEPT
from spiral_host.rundir import CRASHES
from tests.chaos.conftest import Scale, Tell
from tests.chaos.copies import copies_of
from tests.chaos.leaks.census import Census, marked, slope, take
from tests.chaos.table import Row
from tests.hosts import Run, all_ready, eventually, kill

QUIET: Final = Path(__file__).parents[1] / "plugins" / "quiet"
PLUGINS: Final = 4
WARM: Final = 12
"""Crashes after which everything is there that stays: the bounded logs, the pools, the caches."""

PATIENCE_S: Final = 30.0
SETTLE_S: Final = 20.0
MOST_BYTES: Final = 65536.0
"""For each crash. What is kept of the last ones, and of the last events, is bounded: a short run
sees it grow."""


def test_crashes_leave_nothing(
    run: Run, tmp_path: Path, scale: Scale, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process, zombie, descriptor, memfd, thread, file or cgroup more than before."""
    mark = f"chaos-{tmp_path.name}-{scale.seed}"
    monkeypatch.setenv("SPIRAL_CHAOS_MARK", mark)
    host = run.start()
    assert all_ready(host.load(list(copies_of(QUIET, PLUGINS, tmp_path))))
    stubs = {plugin.id: host.get_service(f"quiet.{plugin.id}") for plugin in host.list_plugins()}

    def count() -> Census:
        status = host.status()
        return take({"daemon": status["pid"], "node": status["node_pid"]}, run.run_dir, CRASHES)

    for _ in range(WARM // PLUGINS):
        crash_all(host, stubs)
    eventually(lambda: has_spare(count()))
    before, memory = count(), list[dict[str, int]]()
    for _ in range(max(2, scale.crash_cycles // PLUGINS)):
        crash_all(host, stubs)
        memory.append(count().memory)
    crashes, grown = len(memory) * PLUGINS, settled(count, before)
    slopes = {it: slope([float(one[it]) for one in memory]) / PLUGINS for it in before.memory}
    reports = [len(list(folder.iterdir())) for folder in (run.run_dir / CRASHES).iterdir()]
    assert set(marked(mark)) >= {host.status()["pid"], host.status()["node_pid"]}
    host.close()
    run.daemon.terminate()
    assert run.daemon.wait(PATIENCE_S) == 0
    orphans = marked(mark)
    tell(
        f"{crashes} crashes, one after the other",
        [
            Row(what="kinds of things that are more than before", found=len(grown), most=0),
            *(Row(what=f"  {what}", found=count, most=0) for what, count in grown.items()),
            Row(what="leaks", found=sum(grown.values()), of=crashes, most=0),
            *(
                Row(what=f"memory of the {part}, a crash", found=it, unit="bytes", most=MOST_BYTES)
                for part, it in slopes.items()
            ),
            Row(what="crash reports of one plugin", found=max(reports), most=KEPT),
            Row(what="orphans", found=len(orphans), of=crashes, most=0),
        ],
    )
    assert grown == {}
    assert orphans == []
    assert max(reports) <= KEPT
    assert run.files() == []
    assert max(slopes.values()) < MOST_BYTES


def crash_all(host: Host, stubs: dict[str, Any]) -> None:
    """Kill each, and wait until it answers in its next life."""
    for plugin_id, stub in stubs.items():
        before = host.get(plugin_id)
        kill(before.pid or 0)
        eventually(partial(is_next, host, before), PATIENCE_S)
        assert stub.pid() != before.pid


def has_spare(census: Census) -> bool:
    """Say whether there is a spare, which comes when nobody has wanted a worker for a moment, and
    the node holds it as it holds the workers; the zygote is a child, too.
    """
    held = census.counts["node: anon_inode:[pidfd]"]
    return census.counts["node: children"] == held + 1 == PLUGINS + 2


def is_next(host: Host, before: PluginInfo) -> bool:
    """Say whether a plugin is ready in a later life."""
    now = host.get(before.id)
    return now.state == "ready" and now.incarnation != before.incarnation


def settled(count: Callable[[], Census], before: Census) -> dict[str, int]:
    """Give what has become more and stays: some things are let go of a moment later."""
    grown = [count().grown(before)]

    def is_over() -> bool:
        grown[0] = count().grown(before)
        return not grown[0]

    with suppress(AssertionError):  # what has grown says more
        eventually(is_over, SETTLE_S)
    return grown[0]
