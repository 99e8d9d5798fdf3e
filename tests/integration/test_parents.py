"""Who is whose parent: workers outlive their zygote, end with their node, are reaped exactly."""

import os
import signal

import psutil
import pytest

from protocol.failpoints import LOG, SPEC
from spiral_host import Host, WorkerLost, nodes
from spiral_host.config import DaemonConfig
from tests.hosts import (
    DEADLINE,
    SANDBOX,
    Run,
    Watch,
    all_ready,
    eventually,
    kill,
    plugin,
    zygote_of,
)


def node_pid(host: Host) -> int:
    pid: int = host.status()["node_pid"]
    return pid


def wait_lives_anew(host: Host, *before: int | None) -> None:
    """Wait until every plugin is ready in another process than any of these."""

    def is_anew() -> bool:
        plugins = host.list_plugins()
        return all(one.state == "ready" and one.pid not in {None, *before} for one in plugins)

    eventually(is_anew)


def test_the_node_is_the_real_parent(run: Run) -> None:
    """Workers and the zygote are its children, side by side."""
    host = run.embed("polite", "relay")
    for info in host.list_plugins():
        assert psutil.Process(info.pid).ppid() == node_pid(host)
    assert psutil.Process(zygote_of(host)).ppid() == node_pid(host)
    assert psutil.Process(node_pid(host)).ppid() == host.status()["pid"]


def test_workers_outlive_their_zygote(run: Run) -> None:
    """Calls go on, and the next spawn is by a new zygote."""
    host = run.embed("polite", "relay", "crasher")
    pids = [info.pid for info in host.list_plugins()]
    relay, old = host.get_service("relay"), zygote_of(host)
    kill(old)
    assert relay.call("polite", "add", 1, 2) == {"value": 3}
    assert [info.pid for info in host.list_plugins()] == pids
    assert all_ready(host.load(plugin("publisher")))
    assert zygote_of(host) != old
    assert [info.pid for info in host.list_plugins()[:3]] == pids
    # The status of a worker that the dead zygote had forked is exact all the same.
    with pytest.raises(WorkerLost, match="exit status 3"):
        host.get_service("crasher").leave(3)
    assert host.wait_service("crasher", DEADLINE).pid() not in pids


def test_a_zygote_killed_again_and_again(run: Run) -> None:
    """Each spawn finds one, whenever the last one was killed."""
    host = run.embed("polite")
    for _ in range(3):
        kill(zygote_of(host))
        assert host.restart("polite").ok
    assert host.get_service("polite").add(1, 1) == 2


def test_no_worker_outlives_its_node(run: Run) -> None:
    """With the node its workers end; the daemon starts another and what is wanted runs again."""
    host = run.embed("polite", "relay")
    polite, relay = host.get_service("polite"), host.get_service("relay")
    assert relay.call("polite", "add", 1, 2) == {"value": 3}
    old = node_pid(host)
    before = {info.id: info.pid for info in host.list_plugins()}
    watches = [Watch(pid or 0) for pid in (*before.values(), zygote_of(host))]
    kill(old)
    assert all(watch.has_ended() for watch in watches)
    wait_lives_anew(host, *before.values())
    assert node_pid(host) not in {None, old}
    after = {info.id: info.pid for info in host.list_plugins()}
    assert set(after) == set(before)
    assert polite.pid() == after["polite"]
    assert relay.call("polite", "pid") == {"value": after["polite"]}


def test_a_lane_under_way_when_the_node_dies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it gets one of the next node's."""
    monkeypatch.setenv(SPEC, "node/lane.before=1*kill")
    monkeypatch.setenv(LOG, str(run.run_dir.with_name("passages")))  # or the next would die, too
    host = run.start("polite")
    old = node_pid(host)
    assert host.wait_service("polite", DEADLINE).add(1, 1) == 2
    assert node_pid(host) != old


def test_calls_under_way_when_the_node_dies(run: Run) -> None:
    """A caller hears of the loss at once; the cause is not known, and it says so."""
    host = run.embed("crasher")
    host.subscribe("Holding", lambda _: kill(node_pid(host)))
    with pytest.raises(WorkerLost) as caught:
        host.get_service("crasher").hold()
    assert caught.value.cause == "unknown cause"
    assert host.wait_service("crasher", DEADLINE).pid()


def test_clients_come_back_after_a_new_node(run: Run) -> None:
    """Events and an application's own services work again, in both directions."""
    host = run.embed("publisher", "relay")

    class Own:
        def add(self, first: int, second: int) -> int:
            return first + second

    seen: list[object] = []
    host.register_service("own", Own())
    host.subscribe("Said", seen.append)
    before = [info.pid for info in host.list_plugins()]
    kill(node_pid(host))
    wait_lives_anew(host, *before)
    host.wait_service("publisher", DEADLINE).say("Said", 1)
    eventually(lambda: seen)
    assert host.wait_service("relay", DEADLINE).call("own", "add", 1, 2) == {"value": 3}


def test_a_node_that_was_not_written_down_leaves(run: Run) -> None:
    """A daemon killed as it starts a node leaves none that the next one would not find."""
    run.run_dir.mkdir(mode=0o700)
    config = DaemonConfig(run_dir=run.run_dir, sandbox=SANDBOX, best_effort=True)
    process = nodes.start(config, "node:unknown")
    watch = Watch(process.pid)
    os.close(process.gate)
    assert watch.has_ended()
    assert os.waitpid(process.pid, 0)[1] == 0
    os.close(process.pidfd)
    assert not (run.run_dir / "node.sock").exists()
    run.embed("polite")


def test_a_stopped_node_is_named_and_taken_back(run: Run) -> None:
    """Its workers serve on; `status` says that it is silent until it goes on."""
    host = run.embed("polite", "relay")
    pids, node = [info.pid for info in host.list_plugins()], node_pid(host)
    relay = host.get_service("relay")
    assert relay.call("polite", "add", 1, 2) == {"value": 3}
    watch = Watch(node)
    watch.kill(signal.SIGSTOP)
    eventually(lambda: any("node has said nothing" in one for one in host.status()["alarms"]))
    assert relay.call("polite", "add", 2, 2) == {"value": 4}
    watch.kill(signal.SIGCONT)

    eventually(lambda: not host.status()["alarms"])
    eventually(lambda: all_ready(host.load(plugin("publisher"))))
    assert [info.pid for info in host.list_plugins()[:2]] == pids
    assert node_pid(host) == node


def test_a_stopped_node_holds_up_no_stop(run: Run) -> None:
    """Asked to stop, the daemon ends a node that says nothing, and leaves nothing behind."""
    host = run.start("polite")
    Watch(node_pid(host)).kill(signal.SIGSTOP)
    daemon = Watch(run.daemon.pid)
    daemon.kill(signal.SIGTERM)

    assert daemon.has_ended()
