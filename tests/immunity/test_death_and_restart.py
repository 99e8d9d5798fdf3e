"""Deaths: each is seen, with its own status, once; what follows is bounded and leaks nothing."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

import psutil
import pytest

from spiral_host import Host, PluginInfo, WorkerLost, supervisor
from spiral_host.lifecycle import (
    Exited,
    Lifecycle,
    Loaded,
    Silent,
    Spawn,
    StartAsked,
    State,
    StopAsked,
)
from spiral_host.pace import BURST, RATE
from spiral_host.policy import Policy
from tests.clock import Clock
from tests.hosts import DEADLINE, all_ready, eventually, kill
from tests.immunity.parts import Gated, children, descriptors, node_of, stopped, write_plugin
from tests.unit.spiral_host.fakes import House, manifest

MANY = 12

GONE = """
import os
from plugin_worker import Plugin


class Service:
    def leave(self, status):
        os._exit(status)


class Made(Plugin):
    def on_load(self, ctx):
        ctx.register_service(ctx.plugin_id, Service())
"""


@pytest.fixture(scope="module")
def crowd(shared: Host, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Plugins whose death is to be noticed."""
    folder = tmp_path_factory.mktemp("crowd")
    paths = [write_plugin(folder, f"one{number}", GONE) for number in range(MANY)]
    assert all_ready(shared.load(paths))
    return [Path(path).name for path in paths]


def lives(host: Host) -> dict[str, tuple[int, str]]:
    """Say how often each plugin was started again, and how it is."""
    return {info.id: (info.restarts, info.state) for info in host.list_plugins()}


@pytest.fixture
def mourned(shared: Host, crowd: list[str]) -> Iterator[list[str]]:
    """The same; afterwards each has one new life, and the node has no dead children."""
    before = lives(shared)
    yield crowd
    after = {name: (restarts + (name in crowd), "ready") for name, (restarts, _) in before.items()}
    eventually(lambda: lives(shared) == after)
    eventually(lambda: not any(map(is_zombie, children(node_of(shared)))))


def is_zombie(process: psutil.Process) -> bool:
    """Say whether it is dead and nobody has reaped it."""
    with suppress(psutil.NoSuchProcess):  # it is reaped just now
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return False


def test_none_of_many_deaths_at_once_is_missed(shared: Host, mourned: list[str]) -> None:
    """containerd/containerd#13544, #13539, #12678: signals of several children's deaths became one,
    and what was missed counted as running for ever. Here each worker has a descriptor of its own.
    """
    pids = [info.pid or 0 for info in shared.list_plugins() if info.id in mourned]
    with stopped(node_of(shared)):
        for pid in pids:
            kill(pid)


def test_each_of_many_deaths_has_its_own_status(shared: Host, mourned: list[str]) -> None:
    """python/cpython#86276, #151179: watchers raced for a child's status, and some were told 255.
    Here one process reaps, and each report has what its own worker ended with.
    """
    before = {name: shared.get(name) for name in mourned}
    stubs = {name: shared.get_service(name) for name in mourned}
    together = threading.Barrier(MANY)

    def end(name: str, status: int) -> None:
        together.wait()
        with suppress(WorkerLost):
            stubs[name].leave(status)

    threads = [threading.Thread(target=end, args=pair) for pair in numbered(mourned)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    told = {name: eventually(partial(cause_of, shared, before[name])) for name in mourned}
    assert told == {name: f"exit status {status}" for name, status in numbered(mourned)}


def cause_of(host: Host, plugin: PluginInfo) -> str:
    """Say how this life of a plugin ended, or nothing as long as only an earlier one is told of."""
    report = host.report(plugin.id)
    return report.cause if report and report.incarnation == plugin.incarnation else ""


def numbered(names: list[str]) -> list[tuple[str, int]]:
    """Give each a status of its own; none leaves as if all were well."""
    return [(name, status) for status, name in enumerate(names, 1)]


def test_an_exit_while_the_daemon_is_busy_is_not_lost(shared: Host, mourned: list[str]) -> None:
    """containerd/containerd#6771, #3177: an exit while the daemon was busy or away was dropped, and
    the task hung for ever. Here the node says it until the daemon has acknowledged it.
    """
    pids = [info.pid or 0 for info in shared.list_plugins() if info.id in mourned]
    with stopped(shared.status()["pid"]):
        for pid in pids:
            kill(pid)


def figures(*pids: int) -> list[object]:
    """Count what processes hold, and what there is of them."""
    held = [sorted(_kind(name) for name in descriptors(pid).values()) for pid in pids]
    return [held, [psutil.Process(pid).num_threads() for pid in pids]]


def _kind(name: str) -> str:
    return name.partition(":")[0]


def has_restarted(host: Host, times: int) -> bool:
    return lives(host)["polite"] == (times, "ready")


def test_deaths_leave_nothing_behind_in_the_host(shared: Host) -> None:
    """hashicorp/go-plugin#291: each abnormal exit left memory in the host, until there was none.
    Here daemon and node hold what they held before: descriptors, threads, files and memory.
    """
    pids = shared.status()["pid"], node_of(shared)

    def die(times: int) -> int:
        first = lives(shared)["polite"][0] + 1
        for number in range(first, first + times):
            assert shared.restart("polite").ok  # a person forgives what came before
            kill(shared.get("polite").pid or 0)
            eventually(partial(has_restarted, shared, number))
        return sum(psutil.Process(pid).memory_info().rss for pid in pids)

    memory = die(8)
    eventually(partial(is_calm, shared))
    before, files = figures(*pids), files_of(shared)
    grown = die(24) - memory
    eventually(lambda: figures(*pids) == before)
    eventually(lambda: files_of(shared) == files)
    assert grown < 1 << 20


def is_calm(host: Host) -> bool:
    """Say whether the node has cleared away after the dead and made a spare, which it holds too."""
    alive = sum(bool(info.pid) for info in host.list_plugins())
    held = [*descriptors(node_of(host)).values()].count("anon_inode:[pidfd]")
    folders = [*Path(host.status()["run_dir"], "tmp").iterdir()]  # the zygote has one, no spare has
    return held == len(folders) == alive + 1


def files_of(host: Host) -> list[str]:
    """Name what lies in the run directory, but for crash reports, which have a bound of their own,
    and with a worker's own folder under whatever number it has.
    """
    run_dir = str(host.status()["run_dir"])
    # Not by `rglob`, which does not bear that a folder is removed while it looks.
    found = [f"{where}/{name}" for where, *both in os.walk(run_dir) for name in chain(*both)]
    names = [path.removeprefix(run_dir) for path in found if "crashes" not in path]
    return sorted("".join(c for c in name if not c.isdigit()) for name in names)


def test_restarts_make_no_storm() -> None:
    """systemd/systemd#30804, FRRouting/frr#11038: what died as soon as it lived was started again
    without a limit, a hundred thousand times a minute. Here the waits double, and then it is over.
    """
    lifecycle, now, spawned = Lifecycle(Policy()), 1000.0, 0
    while lifecycle.state is not State.QUARANTINED:
        spawned += lifecycle.handle(StartAsked(), now).count(Spawn())
        lifecycle.handle(Exited("exit status 1"), now)
        if lifecycle.deadline is not None:
            now = lifecycle.deadline
            lifecycle.expire(now)
    assert spawned <= 6
    assert now - 1000.0 > 1.0


def test_a_crowd_that_falls_is_started_again_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd/systemd#30804, FRRouting/frr#11038: the same of many services at once, each within
    its own limit. Here all restarts together have one pace.
    """
    clock = Clock()
    monkeypatch.setattr(supervisor, "time", clock)
    house = House(clock)
    house.add_ready(*(manifest(f"p{number}") for number in range(100)))
    assert len(house.node.spawned()) == 100
    for number in range(100):
        house.end(f"p{number}")
    started = len(house.node.spawned())
    for _ in range(20):
        house.reactor.pass_time(0.1)
        started += len(house.node.spawned())
    assert BURST <= started <= BURST + 2 * RATE + 1
    house.reactor.pass_time(60.0)
    assert started + len(house.node.spawned()) == 100


def test_restarts_that_a_person_asks_for_are_never_refused(shared: Host, tmp_path: Path) -> None:
    """owntone#968, opensvc/multipath-tools#100: what limits crashes counted a
    person's restarts too, and refused the next. Here these count nothing, and free from quarantine.
    """
    gated = Gated(shared, tmp_path)
    assert all_ready(shared.load(gated.path))
    for _ in range(12):
        assert shared.restart("gated").ok
    assert shared.get("gated").restarts == 0
    gated.hold("reason")
    assert shared.restart("gated").state == "quarantined"
    gated.let_go("reason")
    assert shared.restart("gated").ok
    shared.unload("gated")


def test_a_worker_that_is_being_stopped_is_not_revived(shared: Host, tmp_path: Path) -> None:
    """jupyter/jupyter_client#607: a kernel that was shut down on purpose was found dead and started
    again. Here what is wanted is asked before anything is started.
    """
    gated = Gated(shared, tmp_path, "leaving")
    assert all_ready(shared.load(gated.path))
    gated.hold("unload")
    worker = shared.get("leaving").pid or 0
    thread = threading.Thread(target=shared.unload, args=("leaving",))
    thread.start()
    eventually(lambda: shared.get("leaving").state == "draining")
    kill(worker, signal.SIGSEGV)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert gated.lives == 1
    assert "leaving" not in {info.id for info in shared.list_plugins()}


@pytest.mark.parametrize("state", [State.STARTING, State.SUSPECT, State.DRAINING, State.STOPPING])
def test_no_wait_for_a_worker_is_without_end(state: State) -> None:
    """Kludex/uvicorn#632: the supervisor waited for workers that had died already, for ever. Here
    every state in which something is waited for has a deadline, and says its order again.
    """
    lifecycle, now = brought_to(state)
    assert lifecycle.state is state
    for _ in range(5):
        assert lifecycle.deadline is not None
        now = lifecycle.deadline
        assert lifecycle.expire(now)


def brought_to(state: State) -> tuple[Lifecycle, float]:
    """Give a lifecycle in a state in which it waits, and the time."""
    lifecycle = Lifecycle(Policy())
    lifecycle.handle(StartAsked(), 0.0)
    if state is not State.STARTING:
        lifecycle.handle(Loaded(), 0.0)
    if state is State.SUSPECT:
        lifecycle.handle(Silent("it says nothing"), 0.0)
    if state in {State.DRAINING, State.STOPPING}:
        lifecycle.handle(StopAsked(), 0.0)
    if state is State.STOPPING:
        lifecycle.expire(lifecycle.deadline or 0.0)
    return lifecycle, lifecycle.deadline or 0.0
