"""A test in the daemon's place: a real node with real workers, told what to do and listened to.

So a test sees what the node itself says, before anybody acts on it. What calls a worker is a
client as the node knows it, with a lane and frames of its own.
"""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import zmq

from protocol.lane import Lane
from protocol.messages import (
    FROM_ENDPOINT,
    FROM_NODE,
    TO_ENDPOINT,
    TO_NODE,
    TO_WORKER,
    AdmitClient,
    ClientTicket,
    Exited,
    FromNode,
    GrantLane,
    Greeted,
    LaneOpened,
    LoadPlugin,
    NodeDetails,
    NodeWelcome,
    PluginSource,
    Relay,
    Remains,
    Spawned,
    SpawnWorker,
    StopNode,
    ToNode,
)
from protocol.packets import Kind
from protocol.permissions import NOTHING, Permissions
from protocol.plugin import PluginMetadata
from protocol.session import greeting, read_greeting
from protocol.umbilical import Umbilical
from tests.hosts import DEADLINE, PLUGINS, SANDBOX
from tests.unit.protocol.lines_parts import Peer

CLIENT: Final = 900
ALONE_S: Final = "600"
"""How long the node goes on without a daemon, seconds; as its command line has it."""
TICKET: Final = b"sixteen bytes it"
MS: Final = 1000

M = TypeVar("M", bound=FromNode)


@dataclass
class Worker:
    """One worker, as its daemon knows it."""

    incarnation: int
    pid: int
    data_dir: Path


class Daemon:
    """Says what a daemon says, and keeps all that the node says; as many as one node outlives."""

    def __init__(self, run_dir: Path) -> None:
        self.heard: list[FromNode] = []
        self.when: list[float] = []
        """When each was heard, `time.monotonic()` seconds."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(f"ipc://{run_dir}/control.sock")
        self._peer = b""

    def wait_greeted(self) -> NodeDetails:
        """Wait until the node greets."""
        self._peer, body = self._receive()
        details = FROM_NODE.decode(read_greeting(body).body)
        assert isinstance(details, NodeDetails)
        return details

    def tell(self, message: ToNode) -> None:
        self._socket.send_multipart([self._peer, TO_NODE.encode(message)])

    def wait_for(self, wanted: Callable[[FromNode], bool], deadline_s: float = DEADLINE) -> None:
        """Listen until something of this kind has been said, also before."""
        until = time.monotonic() + deadline_s
        while not any(map(wanted, self.heard)):
            self._hear(until)

    def all_of(self, kind: type[M], incarnation: int) -> list[M]:
        """Give what has been said of a worker so far."""
        return [
            message
            for message in self.heard
            if isinstance(message, kind) and getattr(message, "incarnation", 0) == incarnation
        ]

    def next_of(self, kind: type[M], incarnation: int, deadline_s: float = DEADLINE) -> M:
        """Wait for the next word of this kind on a worker that has not been asked for yet."""
        known = len(self.all_of(kind, incarnation))
        until = time.monotonic() + deadline_s
        while len(self.all_of(kind, incarnation)) == known:
            self._hear(until)
        return self.all_of(kind, incarnation)[-1]

    def first_of(self, kind: type[M], incarnation: int, deadline_s: float = DEADLINE) -> M:
        """Give the first word of this kind on a worker; wait for it if need be."""
        self.wait_for(
            lambda one: isinstance(one, kind) and getattr(one, "incarnation", 0) == incarnation,
            deadline_s,
        )
        return self.all_of(kind, incarnation)[0]

    def _hear(self, until: float) -> None:
        left = until - time.monotonic()
        assert left > 0, f"not said: {self.heard}"
        if self._socket.poll(int(left * MS) + 1):
            self.heard.append(FROM_NODE.decode(self._receive()[1]))
            self.when.append(time.monotonic())

    def _receive(self) -> tuple[bytes, bytes]:
        assert self._socket.poll(int(DEADLINE * MS)), "the node says nothing"
        peer, body = self._socket.recv_multipart()
        return peer, body

    def listen(self, seconds: float) -> None:
        """Hear what is said in this time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._socket.poll(int(left * MS) + 1):
                self._hear(until + DEADLINE)

    def leave(self) -> None:
        """Be gone, as a daemon that was killed."""
        self._context.destroy(linger=0)


class NodeRun:
    """A node and its run directory; of both nothing is left."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="sh-", dir="/tmp"))
        self.run_dir = self._base / "run"
        (self.run_dir / "logs").mkdir(parents=True, mode=0o700)
        self._numbers = count(1)
        self._epochs = count(1)
        self._client: Umbilical | None = None
        self._lanes = count(1)
        self.daemon = Daemon(self.run_dir)
        command = [sys.executable, "-P", "-m", "plugin_worker.node", str(self.run_dir)]
        self.process = subprocess.Popen(
            [*command, "node:test", SANDBOX, "best-effort", ALONE_S], stdin=subprocess.PIPE
        )
        try:
            self._begin()
        except BaseException:
            self._clear_away()  # else this test's failure would be its neighbours', too
            raise

    def _begin(self) -> None:
        assert self.process.stdin is not None
        with self.process.stdin as gate:
            gate.write(b"\n")  # it may begin: whoever started it has written it down
        self.daemon.wait_greeted()
        self.welcome()

    def new_daemon(self) -> NodeDetails:
        """Have the daemon leave and another come; give what the node tells that one first."""
        self.daemon.leave()
        self.daemon = Daemon(self.run_dir)
        details = self.daemon.wait_greeted()
        self.welcome()
        return details

    def welcome(self) -> None:
        """Have the daemon take the node on."""
        self.daemon.tell(NodeWelcome(next(self._epochs)))

    def spawn(
        self,
        name: str,
        *,
        concurrency: int = 1,
        load_s: float = 0,
        permissions: Permissions = NOTHING,
        profile: str = "standard",
    ) -> Worker:
        """Start a worker of one of the tests' own plugins, and have it load that."""
        incarnation = next(self._numbers)
        data_dir = self._base / f"data.{incarnation}"
        data_dir.mkdir()
        if load_s:
            (data_dir / "load_s").write_text(str(load_s))
        return self.start(
            name,
            incarnation,
            data_dir,
            concurrency=concurrency,
            permissions=permissions,
            profile=profile,
        )

    def order(self, name: str, permissions: Permissions) -> int:
        """Order a worker with these permissions, and nothing more; give its incarnation."""
        incarnation = next(self._numbers)
        data_dir = self._base / f"data.{incarnation}"
        self.daemon.tell(_order(name, incarnation, data_dir, 1, permissions))
        return incarnation

    def start(
        self,
        name: str,
        incarnation: int,
        data_dir: Path,
        *,
        concurrency: int = 1,
        permissions: Permissions = NOTHING,
        profile: str = "standard",
    ) -> Worker:
        source = _source(name)
        order = _order(name, incarnation, data_dir, concurrency, permissions)
        self.daemon.tell(replace(order, profile=profile))
        load = LoadPlugin(
            source=source,
            metadata=PluginMetadata(name, "1.0.0").to_wire(),
            data_dir=str(data_dir),
            events=(),
            concurrency=concurrency,
            reentrant=True,
        )
        pid = self.daemon.first_of(Spawned, incarnation).pid
        self.daemon.tell(Relay(incarnation, TO_WORKER.encode(load)))
        return Worker(incarnation, pid, data_dir)

    def is_loaded(self, worker: Worker) -> bool:
        """Say whether it has told the daemon that its plugin is loaded."""
        return len(self.daemon.all_of(Relay, worker.incarnation)) > 1

    def wait_loaded(self, *workers: Worker) -> None:
        for worker in workers:
            self.daemon.wait_for(lambda _, worker=worker: self.is_loaded(worker))  # type: ignore[misc]

    def lane(self, worker: Worker) -> Peer:
        """Give a lane to a worker."""
        if self._client is None:
            self._client = self._connect()
            self._wait_said(Greeted)
        grant = GrantLane(
            lane=next(self._lanes),
            request="1",
            caller=CLIENT,
            callee=worker.incarnation,
            caller_name="app:test",
            callee_name="sleeper",
            service="sleeper",
            idempotent=(),
        )
        self.daemon.tell(grant)
        return Peer(Lane(self._wait_said(LaneOpened)[0]))

    def _connect(self) -> Umbilical:
        self.daemon.tell(AdmitClient(incarnation=CLIENT, name="app:test", ticket=TICKET))
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.connect(f"{self.run_dir}/node.sock")
        client = Umbilical(end, takes_descriptors=True)
        client.send(Kind.NODE, greeting("client", FROM_ENDPOINT, ClientTicket(TICKET)))
        return client

    def _wait_said(self, kind: type[object]) -> list[int]:
        """Wait for a word of the node's to the client; give the descriptors that came with it."""
        assert self._client is not None
        until = time.monotonic() + DEADLINE
        while (left := until - time.monotonic()) > 0:
            select.select([self._client.fd], [], [], left)
            message = self._client.receive()
            if message is not None and isinstance(TO_ENDPOINT.decode(message[1]), kind):
                return message[2]
        raise AssertionError(f"no {kind.__name__}: {self.daemon.heard}")

    def kill(self, worker: Worker, number: int) -> None:
        os.kill(worker.pid, number)  # the node has not reaped it: the number is still its own

    def end_of(self, worker: Worker) -> tuple[Remains | None, Exited]:
        """Wait until a worker has gone; give what it left, which was said first, and its exit."""
        exited = self.daemon.first_of(Exited, worker.incarnation)
        left = self.daemon.all_of(Remains, worker.incarnation)
        if left:
            assert self.daemon.heard.index(left[0]) < self.daemon.heard.index(exited)
        return (left[0] if left else None), exited

    def close(self) -> None:
        try:
            self.daemon.tell(StopNode())
            self.process.wait(DEADLINE)
        finally:
            self._clear_away()

    def _clear_away(self) -> None:
        self.process.kill()
        self.process.wait()
        if self._client is not None:
            self._client.close()
        self.daemon.leave()
        shutil.rmtree(self._base)


def _source(name: str) -> PluginSource:
    return PluginSource(root=str(PLUGINS / name), entry=f"{name}.py")


def _order(
    name: str, incarnation: int, data_dir: Path, concurrency: int, permissions: Permissions
) -> SpawnWorker:
    return SpawnWorker(
        incarnation=incarnation,
        plugin_id=name,
        source=_source(name),
        data_dir=str(data_dir),
        concurrency=concurrency,
        permissions=permissions.to_wire(),
    )


@contextmanager
def new_node() -> Iterator[NodeRun]:
    """Start a node and end it, with every worker, whatever happens between."""
    run = NodeRun()
    try:
        yield run
    finally:
        run.close()
