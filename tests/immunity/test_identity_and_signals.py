"""Who is who: no signal to a stranger, no number given twice, nothing done in signal handlers."""

import ast
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from protocol.process import start_time_of
from spiral_host import Host
from tests.hosts import DEADLINE, Run, all_ready, eventually, kill, plugin, zygote_of
from tests.immunity.parts import Gated, children, node_of

ROOT = Path(__file__).parents[2]

REUSE = """
import os, signal
from pathlib import Path
from plugin_worker.node.worker import WorkerProcess
from protocol.process import start_time_of
from spiral_host.nodes import NodeProcess, find

def sleeper(wanted=0):
    if wanted:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(wanted - 1))
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    return pid

def alive(pid):
    return os.waitpid(pid, os.WNOHANG) == (0, 0)

first = sleeper()
held, began = os.pidfd_open(first), start_time_of(first)
assert find(first, began)
os.kill(first, signal.SIGKILL)
os.waitpid(first, 0)
while True:  # a start time is told in ticks of 10 ms
    bystander = sleeper(wanted=first)
    if start_time_of(bystander) != began:
        break
    os.kill(bystander, signal.SIGKILL)
    os.waitpid(bystander, 0)
assert bystander == first, "the number was not used again"
assert find(first, began) is None
NodeProcess(first, held).kill()
worker = WorkerProcess(incarnation=1, plugin_id="p", umbilical=None, log=None, flight_fd=-1,
                       tmp=Path("/"), pid=first, pidfd=held)
worker.kill("a rule")
os.kill(bystander, 0)
assert alive(bystander)
print("spared")
"""


@pytest.mark.skipif(
    subprocess.run(
        ["unshare", "-Urpf", "--mount-proc", "sh", "-c", ": > /proc/sys/kernel/ns_last_pid"],
        capture_output=True,
        check=False,
    ).returncode
    != 0,
    reason="no namespace in which numbers can be chosen",
)
def test_a_reused_pid_is_never_signalled() -> None:
    """hashicorp/nomad#23969, #17960, hashicorp/go-plugin#320: what had got the number of a dead
    plugin was killed in its place. Here the number alone finds nobody, and a signal needs a pidfd.
    """
    done = subprocess.run(
        ["unshare", "-Urpf", "--mount-proc", sys.executable, "-c", REUSE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stdout == "spared\n", done.stderr


def write_node(run: Run, pid: int, start_time: int) -> None:
    """Have the store of a run that is over say that this process is its node."""
    database = sqlite3.connect(run.run_dir / "state.db")
    with database:
        database.execute("DELETE FROM node")
        database.execute("INSERT INTO node VALUES ('node:old', ?, ?)", (pid, start_time))
    database.close()


def test_a_stale_pid_of_the_node_harms_no_bystander(run: Run) -> None:
    """hashicorp/nomad#23969, inverse-inc/packetfence#3291: a pid left by an earlier run was taken
    for the program itself, and killed or waited for. Here a start time goes with it.
    """
    host = run.start("polite")
    node = node_of(host)
    run.kill_daemon()
    kill(node)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        write_node(run, bystander.pid, start_time_of(bystander.pid) - 1)
        run.start_daemon()
        host = run.connect()
        assert node_of(host) not in {node, bystander.pid}
        assert host.wait_service("polite", DEADLINE).add(1, 1) == 2
        host.shutdown()
        assert bystander.poll() is None
        bystander.kill()


def test_a_stale_lock_that_names_a_living_pid_stops_nobody(run: Run) -> None:
    """inverse-inc/packetfence#3291: a pid file whose number lived again made each start fail, and
    the next one try again, for ever. Here a file says nothing; only a held lock does.
    """
    run.run_dir.mkdir(mode=0o700, parents=True)
    (run.run_dir / "lock").write_text(f"{os.getpid()}\n")
    (run.run_dir / "daemon.pid").write_text(f"{os.getpid()}\n")
    daemon = run.start_daemon()
    assert run.connect().status()["pid"] == daemon.pid
    (run.run_dir / "daemon.pid").unlink()


def nodes_of(run: Run) -> list[int]:
    """Find every node of a run."""
    found = []
    for pid in run.processes():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "plugin_worker.node" in psutil.Process(pid).cmdline():
                found.append(pid)
    return found


def test_a_node_that_was_not_written_down_yet_is_not_doubled(run: Run) -> None:
    """containerd/containerd#13784, #6860: a shim not written down yet was taken for a leak, or was
    left alone for ever. Here a daemon killed in that moment leaves the next one a single node.
    """
    daemon = run.start_daemon()
    eventually((run.run_dir / "control.sock").exists)
    with closing(sqlite3.connect(run.run_dir / "state.db", isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")  # until it ends nothing more is written down
        eventually(lambda: children(daemon.pid))
        run.kill_daemon()
    run.start_daemon()
    host = run.connect()
    eventually(lambda: nodes_of(run) == [node_of(host)])
    assert all_ready(host.load(plugin("polite")))
    assert nodes_of(run) == [node_of(host)]


def test_no_incarnation_is_ever_used_twice(run: Run, tmp_path: Path) -> None:
    """zeromq/libzmq#778, #2892, #4503, #1575: a peer that came back under its old routing id was
    sent nothing more. Here every life has a number of its own, whoever dies in between.
    """
    host = run.start()
    gated = Gated(host, tmp_path)
    host.load(gated.path)
    lives = [host.get("gated").incarnation]
    assert host.restart("gated").ok
    lives.append(host.get("gated").incarnation)
    node = node_of(host)
    run.kill_daemon()
    kill(node)
    run.start_daemon()
    host = run.connect()
    eventually(lambda: host.get("gated").state == "ready")
    lives.append(host.get("gated").incarnation)
    assert lives == sorted(set(lives))
    assert host.get_service("gated").pid() == host.get("gated").pid


PACKAGES = ("protocol", "plugin_worker", "spiral_host")


def handlers_in(package: Path) -> Iterator[str]:
    """Give what a package has Python do when a signal comes, as text."""
    for module in package.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal":
                yield ast.unparse(node.args[1])


def caught(pid: int) -> set[int]:
    """Give the signals for which a process has a handler."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1}


def test_nothing_is_done_in_a_signal_handler(shared: Host) -> None:
    """benoitc/gunicorn#3004: a log line written in the SIGCHLD handler waited for the lock of the
    log line that it had interrupted. Here a signal only wakes the loop, and a death is a pidfd.
    """
    daemon: int = shared.status()["pid"]
    assert signal.SIGTERM in caught(daemon)
    for pid in (daemon, node_of(shared), shared.get("polite").pid or 0):
        assert signal.SIGCHLD not in caught(pid)
    handlers = {handler for package in PACKAGES for handler in handlers_in(ROOT / package)}
    assert handlers <= {
        "lambda *_: None",
        "signal.SIG_DFL",
        "signal.SIG_IGN if ignored else signal.SIG_DFL",
        "signal.SIG_IGN",
        "signal.default_int_handler",
    }


def test_the_parent_of_a_worker_is_no_thread_that_can_end(run: Run) -> None:
    """seveas/python-prctl#14, containers/bubblewrap#692: "end with my parent" killed children when
    the thread that had forked them ended. Here a worker lives on without its zygote.
    """
    host = run.embed("polite")
    stub, worker = host.get_service("polite"), host.get("polite").pid
    kill(zygote_of(host))
    assert stub.pid() == worker
    assert host.restart("polite").ok
