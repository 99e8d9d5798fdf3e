"""What a process holds: nothing inherited by chance, nothing with a name, and room at the end."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import zmq

from plugin_worker.node.spawner import Spawner
from protocol.messages import PluginSource, SpawnWorker
from spiral_host import Host
from tests.actors import Aside
from tests.hosts import Run, all_ready, eventually, kill, zygote_of
from tests.immunity.parts import Gated, children, descriptors, node_of

BUFFER = 64 * 1024
"""Bytes that travel by shared memory."""


def family(host: Host) -> list[int]:
    """Give every process of a host."""
    node = node_of(host)
    return [host.status()["pid"], node, *(child.pid for child in children(node))]


def test_no_process_inherits_an_application_s_sockets(run: Run) -> None:
    """qbittorrent/qBittorrent#18834, supercollider/supercollider#5897: a child held on to its
    parent's listening socket, and the port stayed busy when the parent was gone. Here none is
    inherited, even if it was made to be.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        read_fd, write_fd = os.pipe()
        os.set_inheritable(write_fd, True)
        own = descriptors(os.getpid())
        mine = {own[str(fd)] for fd in (server.fileno(), write_fd)}
        host = run.embed("polite")
        for pid in family(host):
            assert not mine & set(descriptors(pid).values())
        os.close(read_fd)
        os.close(write_fd)


def test_a_worker_holds_no_descriptor_of_its_parents(shared: Host) -> None:
    """qbittorrent/qBittorrent#18834: the same within the host. Here a worker has its streams, its
    umbilical, one lane for this test, two pages and what it waits with: nothing of its node's.
    """
    assert shared.get_service("polite").add(1, 1) == 2
    held = descriptors(shared.get("polite").pid or 0)
    assert len({name for name in held.values() if name.startswith("socket:")}) == 2
    assert {name for name in held.values() if name.startswith("/") and "memfd" not in name} == {
        "/dev/null"
    }
    others = {*descriptors(node_of(shared)).values(), *descriptors(shared.status()["pid"]).values()}
    common = {
        name for name in held.values() if name in others and not name.startswith("anon_inode")
    }
    pages = {name for name in common if name.startswith("/memfd:")}
    assert common - pages == {held["0"], held["1"]}, "its output goes to its node"


def test_nothing_is_forked_where_there_are_threads_or_sockets(shared: Host) -> None:
    """python/cpython#100228, zeromq/libzmq#3223: a fork amid threads and open ZeroMQ sockets left
    the child with locks that nobody would release. Here what forks has one thread and no ZeroMQ.
    """
    worker, zygote = shared.get("polite").pid, zygote_of(shared)
    assert psutil.Process(zygote).num_threads() == 1
    for pid in (zygote, worker):
        assert "zmq" not in Path(f"/proc/{pid}/maps").read_text()
    # To its node, and to its spare; when it has just made that, its end of it for a moment, too.
    eventually(lambda: "".join(descriptors(zygote).values()).count("socket:") <= 2)


def test_no_shared_memory_has_a_name_that_others_could_unlink(run: Run) -> None:
    """python/cpython#82300, #104291, #140485: a tracker unlinked shared memory when one process had
    ended, and others still used it. Here it has no name, and lives as long as somebody maps it.
    """
    host = run.embed("polite")
    arrived = host.get_service("polite").echo(bytearray(b"x" * BUFFER))
    assert isinstance(arrived, memoryview)
    for pid in (os.getpid(), *family(host)):
        held = [Path(f"/proc/{pid}/maps").read_text(), *descriptors(pid).values()]
        assert not [name for name in held if "/dev/shm/" in name]
    kill(host.get("polite").pid or 0)
    eventually(lambda: host.get("polite").restarts)
    assert bytes(arrived) == b"x" * BUFFER


@contextmanager
def soft_limit(pid: int, descriptors: int) -> Iterator[None]:
    """Let a process have so many descriptors, for a while."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_low_limit_of_descriptors_is_raised(run: Run) -> None:
    """zeromq/libzmq#1306, zeromq/pyzmq#234: a process whose limit of descriptors was reached was
    aborted by its ZeroMQ. Here daemon and node take what they may have before they begin.
    """
    with soft_limit(os.getpid(), 256):
        run.start_daemon()
        host = run.connect()
    for pid in (run.daemon.pid, node_of(host)):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == hard
    with zmq.Context() as context, ExitStack() as ends:
        for _ in range(300):
            end = ends.enter_context(context.socket(zmq.DEALER))
            end.set(zmq.LINGER, 0)
            end.connect(f"ipc://{run.run_dir}/control.sock")
        eventually(lambda: len(descriptors(run.daemon.pid)) > 300)
        assert host.status()["pid"] == run.daemon.pid


def test_a_node_without_descriptors_goes_on(shared: Host, tmp_path: Path) -> None:
    """zeromq/libzmq#1306: the same in a node. Here it refuses what it has no descriptor for, a new
    worker or somebody at its door, and does it when there is one.
    """
    stub, node = shared.get_service("polite"), node_of(shared)
    assert stub.add(1, 1) == 2
    gated = Gated(shared, tmp_path)
    with soft_limit(node, len(descriptors(node)) + 1):
        loading = Aside(lambda: shared.load(gated.path))
        eventually(lambda: "descriptors is reached" in reason(shared, "gated"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
            end.connect(f"{shared.status()['run_dir']}/node.sock")
        assert stub.add(2, 2) == 4
    assert all_ready(loading.outcome())
    assert node_of(shared) == node
    with Host.connect(shared.status()["run_dir"]) as other:
        assert other.get_service("polite").add(3, 3) == 6


def reason(host: Host, plugin_id: str) -> str:
    """Say why a plugin is not ready."""
    return "".join(info.reason for info in host.list_plugins() if info.id == plugin_id)


@pytest.mark.parametrize("room", range(6))
def test_a_worker_that_cannot_be_made_costs_no_descriptor(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mozilla-ai/mcpd#299: what had been opened before a start failed stayed open. Here it is
    closed, whichever descriptor was the last that could be had.
    """
    monkeypatch.setattr("plugin_worker.node.spawner.check_room", lambda: None)
    spawner = Spawner(tmp_path, has_groups=False)
    for folder in ("tmp", "logs"):
        (tmp_path / folder).mkdir()
    order = SpawnWorker(
        incarnation=1,
        plugin_id="p",
        source=PluginSource(root="", entry="p:P"),
        data_dir=str(tmp_path / "data"),
    )
    before = descriptors(os.getpid())
    with soft_limit(os.getpid(), max(map(int, before)) + 1 + room):
        fill_gaps = [os.dup(0) for _ in range(max(map(int, before)) + 1 - len(before))]
        with pytest.raises(OSError, match="Too many open files"):
            spawner.prepare(order)
    for fd in fill_gaps:
        os.close(fd)
    assert descriptors(os.getpid()).keys() == before.keys()
    assert list((tmp_path / "tmp").iterdir()) == []
