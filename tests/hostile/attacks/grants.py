"""Attacks by a plugin that was granted one port and one folder, on what lies beside them."""

import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import Gauntlet, Nothing, Scene, attack, tried
else:
    import raw
    from gauntlet import Gauntlet, Nothing, Scene, attack, tried

__all__ = ["Gauntlet"]

CWD = -100
INET, STREAM, DGRAM = int(socket.AF_INET), 1, 2
FAST_OPEN = 0x20000000


def here(port: int) -> bytes:
    """Give the address of a port of this machine."""
    return struct.pack("=H", INET) + struct.pack("!H4B8x", port, 127, 0, 0, 1)


def connect(port: int, kind: int = STREAM, protocol: int = 0) -> str:
    """Connect to a port of this machine."""
    end = raw.call("socket", INET, kind, protocol)
    try:
        raw.call("connect", end, here(port), 16)
    except ConnectionRefusedError:
        return "was turned away by the other side"
    finally:
        os.close(end)
    return "connected"


@attack("grant-its-port")
def its_port(scene: Scene) -> str:
    """Not an attack: what was granted works, so that refusing everything is no success."""
    raise Nothing(connect(scene.tcp))


@attack("grant-another-port")
def another_port(scene: Scene) -> str:
    return tried(lambda: connect(scene.other_tcp), lambda: connect(22), lambda: connect(53))


@attack("grant-another-port-by-other-ways")
def other_ways(scene: Scene) -> str:
    """Ways to a port that Landlock does not see."""

    def fast_open() -> int:
        end = raw.call("socket", INET, STREAM, 0)
        return raw.call("sendto", end, b"x", 1, FAST_OPEN, here(scene.other_tcp), 16)

    def fast_open_by_message() -> int:
        end = raw.call("socket", INET, STREAM, 0)
        return raw.call("sendmsg", end, bytes(56), FAST_OPEN)

    mptcp, sctp, udplite = 262, 132, 136
    return tried(
        lambda: connect(scene.other_tcp, STREAM, mptcp),
        lambda: connect(scene.tcp, STREAM, sctp),
        lambda: connect(scene.tcp, DGRAM, udplite),
        fast_open,
        fast_open_by_message,
    )


@attack("grant-datagrams")
def datagrams(scene: Scene) -> str:
    def say(port: int) -> int:
        end = raw.call("socket", INET, DGRAM, 0)
        return raw.call("sendto", end, b"x", 1, 0, here(port), 16)

    return tried(lambda: say(scene.udp), lambda: say(53), lambda: connect(scene.udp, DGRAM))


@attack("grant-serve")
def serve(scene: Scene) -> str:
    def bind() -> int:
        end = raw.call("socket", INET, STREAM, 0)
        return raw.call("bind", end, here(0), 16)

    return tried(bind, lambda: raw.call("listen", raw.call("socket", INET, STREAM, 0), 1))


@attack("grant-other-sockets")
def other_sockets(scene: Scene) -> str:
    unix, netlink, packet = 1, 16, 17
    raw_kind = 3
    return tried(
        lambda: raw.call("socket", unix, STREAM, 0),
        lambda: raw.call("socket", netlink, raw_kind, 0),
        lambda: raw.call("socket", packet, raw_kind, 0),
        lambda: raw.call("socket", INET, raw_kind, 1),
        lambda: raw.call("socketpair", unix, DGRAM, 0, bytes(8)),
    )


@attack("grant-its-folder")
def its_folder(scene: Scene) -> str:
    """Not an attack either."""
    raise Nothing(f"{raw.read(f'{scene.granted}/open').decode()}")


@attack("grant-write-to-read")
def write_to_read(scene: Scene) -> str:
    return tried(
        lambda: raw.write(f"{scene.granted}/open", flags=os.O_APPEND),
        lambda: raw.write(f"{scene.granted}/new"),
        lambda: raw.call("unlinkat", CWD, f"{scene.granted}/open".encode(), 0),
    )


@attack("grant-beside-its-folder")
def beside(scene: Scene) -> str:
    """By a link that lies in it, by .., by its neighbour whose name begins as its own does."""
    return tried(
        lambda: raw.read(f"{scene.granted}/link"),
        lambda: raw.read(f"{scene.granted}/../.profile"),
        lambda: raw.read(f"{scene.granted}-beside"),
        lambda: raw.list_folder(str(Path(scene.granted).parent)),
    )
