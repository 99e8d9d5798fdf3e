"""A daemon that dies in the middle of something: nothing is done twice, lost, forgotten or left."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from spiral_host import Host, NoDaemon
from tests.actors import Aside
from tests.hosts import DEADLINE, SANDBOX, Run, Watch, all_ready, eventually, plugin
from tests.immunity.parts import Gated, children, node_of, stopped

OWNER = """
import json, sys
from spiral_host import Host
run_dir, data_dir, sandbox, plugin = sys.argv[1:]
host = Host(plugin, run_dir=run_dir, data_dir=data_dir, sandbox=sandbox, best_effort=True)
status = host.status()
print(json.dumps([status["pid"], status["node_pid"], host.get("polite").pid]), flush=True)
sys.stdin.read()
"""


def lives(host: Host) -> list[tuple[str, int | None, int, int]]:
    """Say who lives, and in which life."""
    return [(info.id, info.pid, info.incarnation, info.restarts) for info in host.list_plugins()]


def test_hosts_that_die_leave_nothing_that_piles_up(run: Run) -> None:
    """hashicorp/go-plugin#210, opencost/opencost#3528: with each host that died, plugins and socket
    files were left and grew in number. Here the node ends by itself, and one run's files are all.
    """
    left: list[list[str]] = []
    for _ in range(2):
        where = [str(run.run_dir), str(run.data_dir), SANDBOX, plugin("polite")]
        with subprocess.Popen(
            [sys.executable, "-c", OWNER, *where],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as owner:
            assert owner.stdout is not None
            daemon, node, worker = map(Watch, json.loads(owner.stdout.readline()))
            daemon.kill()
            owner.kill()
        assert all(process.has_ended() for process in (daemon, node, worker))
        left.append(sorted(run.files()))
    eventually(lambda: run.processes() == [])
    assert left[0] == left[1]
    run.start().shutdown()


def test_a_daemon_killed_between_an_order_to_spawn_and_its_news(run: Run, tmp_path: Path) -> None:
    """containerd/containerd#6860: a daemon died after it had started a shim and before it had heard
    of it, and the shim stayed, unknown. Here the next one finds it and goes on: one life, not two.
    """
    host = run.start()
    gated = Gated(host, tmp_path)
    with stopped(node_of(host)):
        loading = Aside(lambda: host.load(gated.path))
        eventually(lambda: [info.state for info in host.list_plugins()] == ["starting"])
        run.kill_daemon()
    run.start_daemon()
    (result,) = loading.outcome()
    assert result.ok, result
    forked = {child.pid for child in children(node_of(host))}
    assert len(forked) <= 3, "the zygote, one worker and a spare"
    assert host.get("gated").pid in forked
    assert (gated.lives, host.get("gated").restarts) == (1, 0)


def test_a_stop_under_way_is_carried_on_when_nobody_asks_again(run: Run, tmp_path: Path) -> None:
    """containerd/containerd#12600: a daemon that was restarted in the middle of a stop forgot it.
    Here it is written down, and the next daemon ends it even if whoever ordered it has gone.
    """
    host = run.start()
    gated = Gated(host, tmp_path)
    assert all_ready(host.load(gated.path))
    gated.hold("unload")
    worker = Watch(host.get("gated").pid or 0)
    leaving = Aside(lambda: host.unload("gated"))
    eventually(lambda: host.get("gated").state == "draining")
    run.kill_daemon()
    host.close()
    assert isinstance(leaving.outcome(), NoDaemon)
    run.start_daemon()
    host = run.connect()
    assert [info.state for info in host.list_plugins()] == ["draining"]
    gated.let_go("unload")
    assert worker.has_ended()
    eventually(lambda: host.list_plugins() == [])
    assert gated.lives == 1


def test_adoption_restarts_nothing(run: Run, tmp_path: Path) -> None:
    """systemd/systemd#28184: a manager that was executed anew had forgotten what ran, and restarted
    all of it. Here the next daemon finds each process as it was, and starts none.
    """
    host = run.start()
    crowd = [Gated(host, tmp_path, f"one{number}") for number in range(10)]
    assert all_ready(host.load([one.path for one in crowd]))
    before = lives(host)
    node = psutil.Process(node_of(host))
    eventually(lambda: len(node.children()) == 12)  # with the zygote and a spare
    family = {child.pid for child in node.children()}
    run.kill_daemon()
    run.start_daemon()
    again = run.connect()
    assert lives(again) == before
    assert {info.state for info in again.list_plugins()} == {"ready"}
    assert {child.pid for child in node.children()} == family
    assert [one.lives for one in crowd] == [1] * 10


def test_a_socket_that_is_in_use_cannot_be_taken(run: Run) -> None:
    """zeromq/libzmq#2059, nanomsg/nng#576: a second bind on a path unlinked the first one's socket,
    which got no new peers from then on. Here a daemon binds only in a directory that it has locked.
    """
    host = run.start()
    sockets = {path.name: path.stat().st_ino for path in run.run_dir.glob("*.sock")}
    first = host.status()["pid"]
    second = run.start_daemon()
    assert second.wait(DEADLINE) == 1
    assert {path.name: path.stat().st_ino for path in run.run_dir.glob("*.sock")} == sockets
    with Host.connect(run.run_dir) as late:
        assert late.status()["pid"] == first


def test_what_was_acknowledged_outlives_the_daemon(run: Run) -> None:
    """nats-io/nats-server#7564: what was acknowledged was not on disk yet, and a crash undid it.
    Here an answer comes after the write: a daemon killed right behind it leaves the next one all.
    """
    host = run.start()
    host.set_config("kept", "yes")
    run.daemon.send_signal(signal.SIGKILL)
    run.daemon.wait(DEADLINE)
    run.start_daemon()
    again = run.connect()
    assert again.get_config("kept") == "yes"
    assert all_ready(again.load(plugin("polite")))
    run.kill_daemon()
    run.start_daemon()
    assert [info.id for info in run.connect().list_plugins()] == ["polite"]


def test_a_client_that_slept_through_two_daemons_is_not_stuck(run: Run) -> None:
    """grpc/grpc#24237, #14088, grpc/grpc-go#1387: a client whose server restarted twice went on
    waiting for the one in between. Here it greets whoever is there, and asks again.
    """
    host = run.start("polite")
    stub = host.get_service("polite")
    for _ in range(2):
        run.kill_daemon()
        run.start_daemon()
        run.connect()
    assert host.status()["pid"] == run.daemon.pid
    for _ in range(2):
        assert host.restart("polite").ok
    assert stub.pid() == host.get("polite").pid
