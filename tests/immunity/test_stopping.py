"""Every stop comes to its end, whoever hangs, and takes along whatever it has started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spiral_host import Host, PluginEvent
from tests.actors import Aside
from tests.hosts import DEADLINE, Run, Watch, all_ready, eventually
from tests.immunity.parts import Gated, node_of, stopped, write_plugin

PATIENCE_S = 8.0
"""Shorter than the budgets of an orderly stop together, far longer than what is tried takes."""

SPINS = """
import signal
from plugin_worker import Plugin, PluginEvent


class Service:
    def __init__(self, ctx):
        self.ctx = ctx

    def spin(self):
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        self.ctx.event_bus.publish(PluginEvent.custom("Spinning", None))
        while True:
            pass


class Made(Plugin):
    def on_load(self, ctx):
        ctx.register_service("spins", Service(ctx))
"""


def spin(host: Host, folder: Path) -> Watch:
    """Give a worker that spins, deaf to every signal that can be ignored."""
    assert all_ready(host.load(write_plugin(folder, "spins", SPINS)))
    spinning: list[object] = []
    host.subscribe("Spinning", spinning.append)
    host.get_service("spins").spin.submit()
    eventually(lambda: spinning)
    return Watch(host.get("spins").pid or 0)


def test_a_node_that_is_ended_by_force_takes_its_workers_along(run: Run, tmp_path: Path) -> None:
    """erlang/otp#3670: a supervisor that did not stop in time was killed, and the processes below
    it ran on. Here the kernel ends the workers of a node that is gone.
    """
    host = run.start()
    worker = spin(host, tmp_path)
    with stopped(node_of(host)) as node:
        began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT):  # two of a kind may become one
            run.daemon.send_signal(number)
        assert run.daemon.wait(DEADLINE) == 0
        assert node.has_ended()
        assert worker.has_ended()
        assert time.monotonic() - began < PATIENCE_S
    eventually(lambda: run.processes() == [])  # what forks ends by the same word of the kernel's


def test_a_spinning_worker_does_not_outlive_its_host(run: Run, tmp_path: Path) -> None:
    """microsoft/vscode#194477, #7168, #15962: extension hosts went on at 100 % of a core when
    their window was gone. Here one that spins and is deaf to every other signal is killed.
    """
    host = run.start()
    worker = spin(host, tmp_path)
    began = time.monotonic()
    run.daemon.send_signal(signal.SIGINT)
    eventually(lambda: host.get("spins").state == "draining")
    run.daemon.send_signal(signal.SIGINT)
    assert run.daemon.wait(DEADLINE) == 0
    assert worker.has_ended()
    assert time.monotonic() - began < PATIENCE_S


def test_a_stop_does_not_wait_for_the_dead(run: Run, tmp_path: Path) -> None:
    """Kludex/uvicorn#632: the supervisor joined workers that had died of the same Ctrl-C, and never
    came back. Here whoever dies before it was told to leave has left.
    """
    host = run.start()
    crowd = [Gated(host, tmp_path, f"one{number}") for number in range(4)]
    assert all_ready(host.load([one.path for one in crowd]))
    for one in crowd:
        one.hold("unload")
    workers = [Watch(info.pid or 0) for info in host.list_plugins()]
    began = time.monotonic()
    with stopped(node_of(host)):  # nobody is told to leave, nor is a death told as a crash
        run.daemon.send_signal(signal.SIGTERM)
        eventually(lambda: {info.state for info in host.list_plugins()} == {"draining"})
        for worker in workers:
            worker.kill()
    assert run.daemon.wait(DEADLINE) == 0
    assert time.monotonic() - began < PATIENCE_S
    assert [one.lives for one in crowd] == [1] * 4


def test_a_planned_restart_drops_no_call(shared: Host, tmp_path: Path) -> None:
    """benoitc/gunicorn#3394, #2296, #2529: a reload dropped requests between the old and the new
    workers. Here the old life answers what it has begun before it leaves; then the new one serves.
    """
    gated = Gated(shared, tmp_path)
    assert all_ready(shared.load(gated.path))
    stub = shared.get_service("gated")
    old = stub.pid()
    gated.hold("call")
    calling = stub.wait.submit()
    eventually(lambda: gated.is_called)
    restarting = Aside(lambda: shared.restart("gated"))
    eventually(lambda: shared.get("gated").state == "draining")
    gated.let_go("call")
    assert calling.result(DEADLINE) == old
    assert restarting.outcome().ok
    assert stub.wait() == shared.get("gated").pid != old


LEAVES = """
import os, sys
from spiral_host import Host, PluginEvent
host = Host.connect(sys.argv[1])
host.subscribe("Many", lambda event: None)
print("here", flush=True)
sys.stdin.readline()
for number in range(2000):
    host.publish(PluginEvent.custom("Many", "x" * 1000))
{end}
"""


@pytest.mark.parametrize("end", ["host.close()", "sys.exit(0)"])
def test_no_exit_hangs_on_what_is_unsent(run: Run, end: str) -> None:
    """zeromq/libzmq#2586, zeromq/pyzmq#1002, #991: a program that left hung in the end of its
    ZeroMQ context, in spite of LINGER=0. Here it leaves, though the daemon reads nothing any more.
    """
    run.start_daemon()
    daemon = run.connect().status()["pid"]
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES.format(end=end), str(run.run_dir)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == b"here\n"
        with stopped(daemon):
            began = time.monotonic()
            program.stdin.write(b"go\n")
            program.stdin.flush()
            assert program.wait(DEADLINE) == 0
            assert time.monotonic() - began < PATIENCE_S


def test_a_daemon_leaves_though_a_client_reads_nothing(run: Run) -> None:
    """zeromq/libzmq#2586: the same from the other side. Here a daemon that has much to say to a
    client that is stopped says it to nobody, and leaves.
    """
    host = run.start()
    program = subprocess.Popen(
        [sys.executable, "-c", LEAVES.format(end=""), str(run.run_dir)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"here\n"
        with stopped(program.pid):
            for _ in range(2000):
                host.publish(PluginEvent.custom("Many", "x" * 1000))
            run.daemon.send_signal(signal.SIGTERM)
            assert run.daemon.wait(DEADLINE) == 0
            os.kill(program.pid, signal.SIGKILL)
