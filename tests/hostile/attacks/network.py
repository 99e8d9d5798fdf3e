"""Attacks on the network, on sockets with names, and on those who listen on them."""

import os
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import Gauntlet, Scene, attack, tried
else:
    import raw
    from gauntlet import Gauntlet, Scene, attack, tried

__all__ = ["Gauntlet"]

UNIX, INET, INET6 = int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6)
STREAM, DGRAM, SEQPACKET, RAW = 1, 2, 5, 3
MPTCP, SCTP = 262, 132
FAST_OPEN = 0x20000000


def make(family: int, kind: int, protocol: int = 0) -> int:
    """Make a socket."""
    return raw.call("socket", family, kind, protocol)


def here(port: int) -> bytes:
    """Give the address of a port of this machine."""
    return struct.pack("=H", INET) + struct.pack("!H4B8x", port, 127, 0, 0, 1)


def here6(port: int) -> bytes:
    """Give the same in the newer protocol."""
    return struct.pack("=H", INET6) + struct.pack(
        "!HI16sI", port, 0, socket.inet_pton(10, "::1"), 0
    )


def named(path: str) -> bytes:
    """Give the address of a named socket; of an abstract one if it begins with a NUL."""
    return struct.pack("=H", UNIX) + path.encode() + (b"" if path.startswith("\0") else b"\0")


def connect(end: int, address: bytes) -> str:
    """Connect a socket; a port where nobody listens counts too, for it was asked."""
    try:
        raw.call("connect", end, address, len(address))
    except ConnectionRefusedError:
        return "was turned away by the other side"
    finally:
        os.close(end)
    return "connected"


def say(end: int, address: bytes, flags: int = 0) -> int:
    """Send a datagram, or open a connection with its first bytes."""
    try:
        return raw.call("sendto", end, b"<13>hostile", 11, flags, address, len(address))
    finally:
        os.close(end)


@attack("net-tcp")
def tcp(scene: Scene) -> str:
    return tried(
        lambda: connect(make(INET, STREAM), here(scene.tcp)),
        lambda: connect(make(INET6, STREAM), here6(scene.tcp)),
    )


@attack("net-udp")
def udp(scene: Scene) -> str:
    return tried(
        lambda: say(make(INET, DGRAM), here(scene.udp)),
        lambda: say(make(INET, DGRAM), here(53)),
        lambda: say(make(INET6, DGRAM), here6(scene.udp)),
    )


@attack("net-multipath-tcp")
def multipath(scene: Scene) -> str:
    return tried(
        lambda: connect(make(INET, STREAM, MPTCP), here(scene.tcp)),
        lambda: connect(make(INET, STREAM, SCTP), here(scene.tcp)),
    )


@attack("net-fast-open")
def fast_open(scene: Scene) -> str:
    first, _ = socket.socketpair()
    return tried(
        lambda: say(make(INET, STREAM), here(scene.tcp), FAST_OPEN),
        lambda: say(os.dup(first.fileno()), here(scene.tcp), FAST_OPEN),
    )


@attack("net-serve")
def serve(scene: Scene) -> str:
    def bind() -> str:
        end = make(INET, STREAM)
        raw.call("bind", end, here(0), 16)
        return f"listens: {raw.call('listen', end, 1)}"

    def listen() -> str:
        return f"listens without a port of its choice: {raw.call('listen', make(INET, STREAM), 1)}"

    own = f"{scene.data}/door"
    return tried(
        bind,
        listen,
        lambda: raw.call("bind", make(UNIX, STREAM), named(own), len(named(own))),
        lambda: raw.call("bind", make(UNIX, STREAM), named("\0hostile"), 10),
    )


@attack("net-named-socket")
def named_socket(scene: Scene) -> str:
    return tried(
        lambda: connect(make(UNIX, STREAM), named(scene.agent)),
        lambda: connect(make(UNIX, STREAM), named("/var/run/docker.sock")),
        lambda: connect(make(UNIX, STREAM), named("/run/dbus/system_bus_socket")),
    )


@attack("net-abstract-socket")
def abstract(scene: Scene) -> str:
    return tried(lambda: connect(make(UNIX, STREAM), named(scene.abstract)))


@attack("net-forge-the-journal")
def forge_journal(scene: Scene) -> str:
    """One end of a pair of one's own is aimed at somebody else's socket."""

    def aim(kind: int) -> int:
        ends = bytes(8)
        raw.call("socketpair", UNIX, kind, 0, ends)
        return say(struct.unpack("ii", ends)[0], named(scene.journal))

    return tried(
        partial(aim, DGRAM),
        partial(aim, SEQPACKET),
        partial(aim, DGRAM | socket.SOCK_CLOEXEC),
        lambda: say(make(UNIX, DGRAM), named(scene.journal)),
    )


@attack("net-odd-families")
def odd_families(scene: Scene) -> str:
    netlink, packet, alg, vsock, bluetooth, xdp = 16, 17, 38, 40, 31, 44
    return tried(
        *(partial(make, family, RAW) for family in (netlink, packet, bluetooth, xdp, INET)),
        partial(make, alg, SEQPACKET),
        partial(make, vsock, STREAM),
        partial(make, 1000, STREAM),
    )


@attack("net-turn-what-it-has")
def turn(scene: Scene) -> str:
    """The sockets that a worker is given cannot be led elsewhere, nor listen."""
    ends = [number for number in range(3, 64) if is_socket(number)]
    return tried(
        *(partial(raw.call, "connect", end, named(scene.agent), 40) for end in ends),
        *(partial(raw.call, "bind", end, named(f"{scene.data}/e"), 40) for end in ends),
        *(partial(raw.call, "listen", end, 1) for end in ends),
        *(partial(raw.call, "accept4", end, None, None, 0) for end in ends),
    )


def is_socket(number: int) -> bool:
    """Say whether a descriptor is open and a socket's."""
    try:
        socket.socket(fileno=number).detach()
    except OSError:
        return False
    return True
