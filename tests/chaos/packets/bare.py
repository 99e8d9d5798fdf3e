"""Workers that are the test: real umbilicals of a real node, with nothing confined behind them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

import msgpack

from protocol.messages import FROM_ENDPOINT, FROM_WORKER, Loaded, Offer, WorkerDetails
from protocol.packets import Kind, cut
from protocol.session import greeting
from tests.chaos.packets.bare_node import BARE
from tests.hosts import DEADLINE, Run, new_run

MANIFEST: Final = """
[plugin]
id = "{name}"
version = "1.0.0"
entry = "none:None"

[supervision]
crashes = 1000
backoff_max_s = 0
"""

ROOM: Final = 1 << 17


def fact(key: str, frame: bytes) -> bytes:
    """Make the packet that states a fact."""
    return cut(Kind.FACT, bytes([len(key)]) + key.encode() + frame)[0]


def hello() -> bytes:
    """Make the packet with which a worker greets its node."""
    return cut(Kind.NODE, greeting("worker", FROM_ENDPOINT, WorkerDetails(())))[0]


def ready(name: str) -> list[bytes]:
    """Make the packets with which a worker says that its plugin is loaded and offers a service."""
    offer = Offer(service=name, methods=("add", "echo"), idempotent=())
    return [
        fact(f"service:{name}", FROM_WORKER.encode(offer)),
        fact("state", FROM_WORKER.encode(Loaded())),
    ]


class Bare:
    """One life of one bare plugin."""

    def __init__(self, name: str, incarnation: int, fd: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.end = socket.socket(fileno=fd)
        self.end.setblocking(False)
        self.sent: list[bytes] = []

    def send(self, *packets: bytes) -> bool:
        """Send packets; False when the node has closed its end, or does not read them now."""
        try:
            for packet in packets:
                self.sent.append(packet)
                self.end.send(packet)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """Give a packet, None if there is none, nothing at the end. Descriptors are dropped."""
        try:
            return self.end.recv(ROOM)
        except BlockingIOError:
            return None
        except OSError:
            return b""


class BareRun:
    """A real daemon and node, a polite plugin, and bare ones whose every word is the test's."""

    def __init__(self, run: Run, bare: int, *plugins: str) -> None:
        self.run = run
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(f"{run.run_dir}.bare")
        self._door.listen(8)
        self._node: socket.socket | None = None
        with patch("spiral_host.launch._MODULE", "tests.chaos.packets.bare_daemon"):
            self.host = run.start(*plugins)
        self._door.settimeout(DEADLINE)
        self._node, _ = self._door.accept()
        self._node.setblocking(False)
        folder = run.run_dir.parent / "plugins"
        for number in range(bare):
            name = f"{BARE}{number}"
            (folder / name).mkdir(parents=True)
            (folder / name / "plugin.toml").write_text(MANIFEST.format(name=name))
        self._folder = folder

    def load(self) -> threading.Thread:
        """Load the bare ones; they are ready when the test has said so."""
        thread = threading.Thread(target=self.host.load, args=(self._folder,), daemon=True)
        thread.start()
        return thread

    def revive(self) -> None:
        """Start anew those that have crashed as often as a plugin may; waits for none of them."""
        for info in self.host.list_plugins():
            if info.id.startswith(BARE) and info.state == "quarantined":
                threading.Thread(target=self.host.restart, args=(info.id,), daemon=True).start()

    @property
    def fd(self) -> int:
        """What can be read when another life has begun."""
        assert self._node is not None
        return self._node.fileno()

    def born(self) -> Iterator[Bare]:
        """Give those whose lives have begun."""
        assert self._node is not None
        while True:
            try:
                said, fds, _, _ = socket.recv_fds(self._node, 4096, 1)
            except BlockingIOError:
                return
            assert fds, "the node has gone"
            name, incarnation = msgpack.unpackb(said)
            yield Bare(name, incarnation, fds[0])

    def close(self) -> None:
        """Let go of the doors."""
        if self._node is not None:
            self._node.close()
        self._door.close()


@contextmanager
def new_bare_run(bare: int, *plugins: str) -> Iterator[BareRun]:
    """Start all of it, and end it whatever happens between."""
    with new_run() as run:
        bare_run = BareRun(run, bare, *plugins)
        try:
            yield bare_run
        finally:
            bare_run.close()
