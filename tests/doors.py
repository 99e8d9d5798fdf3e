"""The host's doors as somebody knocks who does not use the library: raw sockets, raw packets."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import zmq

from protocol.messages import ClientDetails
from protocol.packets import Kind, cut
from spiral_host import Host
from tests.hosts import DEADLINE

MS: Final = 1000


def run_dir(host: Host) -> str:
    return str(host.status()["run_dir"])


@contextmanager
def dealer(host: Host, name: str) -> Iterator[zmq.Socket[bytes]]:
    """Connect to one of the daemon's sockets as nobody in particular."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as end:
        end.set(zmq.LINGER, 0)
        end.set(zmq.RCVTIMEO, int(DEADLINE * MS))
        end.connect(f"ipc://{run_dir(host)}/{name}")
        yield end


@contextmanager
def knock(host: Host) -> Iterator[socket.socket]:
    """Connect to the node's own door."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.settimeout(DEADLINE)
        end.connect(f"{run_dir(host)}/node.sock")
        yield end


def details() -> ClientDetails:
    """Say what a client says of itself that offers nothing."""
    return ClientDetails(name="raw", pid=1, incarnation=0, offers=())


def packet(kind: Kind, body: bytes) -> bytes:
    """Make the one packet that a short message is."""
    return cut(kind, body)[0]
