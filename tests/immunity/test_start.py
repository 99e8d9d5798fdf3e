"""Between the order to start and the word that all is ready: nothing is left, nothing hangs."""

import socket
import time
from pathlib import Path

import psutil
import pytest

from spiral_host import DeadlineExceeded, Host, NoDaemon, ServiceUnavailable, WorkerLost
from tests.actors import Aside
from tests.hosts import Run, Watch, all_ready, eventually, kill
from tests.immunity.parts import Gated, children, data_of, node_of, write_plugin

PATIENCE_S = 0.5
AT_ONCE_S = 20.0
"""Far less than any time-out that dead sockets used to cost, one after the other; a busy machine
starts a host within it."""

FAILS = """
import os
from plugin_worker import Plugin


class Made(Plugin):
    def on_load(self, ctx):
        (ctx.data_dir / "pid").write_text(str(os.getpid()))
        raise ValueError("after the spawn, before ready")
"""

CHATTY = r"""
import os, sys
print("2|1|unix|/tmp/elsewhere|netrpc", flush=True)
os.write(1, b"\xc1\xff\x00" * 1000 + b"no end of line")
os.write(2, b"\x93\x01\x02\x03")
print('{"ready": 1}', file=sys.stderr)
from plugin_worker import Plugin


class Service:
    def add(self, first, second):
        print("in the middle of a call")
        return first + second


class Made(Plugin):
    def on_load(self, ctx):
        print("CORE-PROTOCOL-VERSION")
        ctx.register_service("chatty", Service())
"""


def test_an_error_between_spawn_and_ready_leaves_no_process(shared: Host, tmp_path: Path) -> None:
    """hashicorp/nomad#28286, mozilla-ai/mcpd#299: when a step after the spawn failed, the process
    ran on and nobody knew of it. Here whatever is not ready is ended, reaped and forgotten.
    """
    (result,) = shared.load(write_plugin(tmp_path, "fails", FAILS))
    assert (result.state, result.ok) == ("quarantined", False)
    pid = int((data_of(shared) / "fails" / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid))
    assert pid not in {child.pid for child in children(node_of(shared))}
    tmp = Path(shared.status()["run_dir"], "tmp")
    eventually(lambda: len(list(tmp.iterdir())) == 2)  # the other worker's, and the zygote's
    shared.unload("fails")


def test_a_half_started_plugin_that_is_stopped_is_not_started_again(
    shared: Host, tmp_path: Path
) -> None:
    """hashicorp/go-plugin#23: to end a plugin that was still starting started it anew, and hung.
    Here it finishes its start, leaves, and that was its only life.
    """
    gated = Gated(shared, tmp_path, "halfway")
    gated.hold("load")
    loading = Aside(lambda: shared.load(gated.path))
    eventually(lambda: gated.lives)
    worker = Watch(shared.get("halfway").pid or 0)
    leaving = Aside(lambda: shared.unload("halfway"))
    eventually(lambda: shared.get("halfway").state == "draining")
    gated.let_go("load")
    assert leaving.outcome() is None
    assert worker.has_ended()
    (result,) = loading.outcome()
    assert not result.ok
    assert gated.lives == 1
    assert "halfway" not in {info.id for info in shared.list_plugins()}


def test_one_that_is_killed_while_it_is_stopped_half_started(shared: Host, tmp_path: Path) -> None:
    """hashicorp/go-plugin#23, jupyter/jupyter_client#607: the same, and it dies of something else
    in between. Whoever stopped it is answered, and nothing comes back.
    """
    gated = Gated(shared, tmp_path, "killed")
    gated.hold("load")
    loading = Aside(lambda: shared.load(gated.path))
    eventually(lambda: gated.lives)
    leaving = Aside(lambda: shared.unload("killed"))
    eventually(lambda: shared.get("killed").state == "draining")
    kill(shared.get("killed").pid or 0)
    assert leaving.outcome() is None
    assert not loading.outcome()[0].ok
    assert gated.lives == 1


def test_what_is_printed_before_the_greeting_disturbs_no_start(
    shared: Host, tmp_path: Path
) -> None:
    """hashicorp/go-plugin#199, #164: the handshake was a line on stdout, and a print before it
    broke the start. Here nobody reads a greeting from what a plugin prints.
    """
    assert all_ready(shared.load(write_plugin(tmp_path, "chatty", CHATTY)))
    assert shared.get_service("chatty").add(1, 2) == 3
    shared.unload("chatty")
    said = "\n".join(shared.logs("chatty"))
    assert "2|1|unix" in said
    assert "in the middle of a call" in said


def test_dead_sockets_delay_no_start(run: Run) -> None:
    """containerd/containerd#11416, #5648: each socket of the dead was tried for 100 s, one after
    the other. Here what nobody listens at is known at once, by the next daemon and by clients.
    """
    run.run_dir.mkdir(mode=0o700, parents=True)
    for name in ("control.sock", "events-in.sock", "events-out.sock", "node.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(run.run_dir / name))
    began = time.monotonic()
    with pytest.raises(NoDaemon):
        Host.connect(run.run_dir, 100.0)
    assert time.monotonic() - began < AT_ONCE_S
    began = time.monotonic()
    host = run.start("polite")
    assert host.get_service("polite").add(1, 1) == 2
    assert time.monotonic() - began < AT_ONCE_S


def test_no_process_has_a_port_to_lose(shared: Host) -> None:
    """jupyter/jupyter_client#276, kernel_gateway#131: a port was chosen, and somebody else
    took it before the child did. Here what workers speak over is inherited, and nobody has ports.
    """
    worker = shared.get("polite").pid
    for pid in (shared.status()["pid"], node_of(shared), worker):
        assert psutil.Process(pid).net_connections("inet") == []
    named = [end.laddr for end in psutil.Process(worker).net_connections("unix") if end.laddr]
    assert named == []


def test_a_call_to_what_dies_in_its_start_has_an_outcome(shared: Host, tmp_path: Path) -> None:
    """ray-project/ray#6612, #26772: a call to an actor that died in its constructor waited for
    ever. Here it waits for its deadline at most, and nobody has to be there to say so.
    """
    gated = Gated(shared, tmp_path, "stillborn")
    assert all_ready(shared.load(gated.path))
    stub = shared.get_service("stillborn")
    assert stub.pid() == shared.get("stillborn").pid
    gated.hold("birth")
    kill(stub.pid())
    eventually(lambda: gated.lives > 1)
    began = time.monotonic()
    with pytest.raises((DeadlineExceeded, ServiceUnavailable, WorkerLost)):
        stub.pid(timeout=PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S + AT_ONCE_S
