"""Cut messages into packets that an umbilical carries, and join them again.

A packet is `kind (1 byte), part (u16), parts (u16), bytes`, at most 64 KiB, so that one fits in
any socket's buffer; a message of up to 1 MiB takes several, numbered, in order.
"""

import struct
from enum import Enum
from typing import Final

from protocol.codec import MAX_MESSAGE
from protocol.errors import LocalProtocolError, RemoteProtocolError

MAX_PACKET: Final = 64 * 1024
_HEAD: Final = struct.Struct("!cHH")
_ROOM: Final = MAX_PACKET - _HEAD.size


class Kind(Enum):
    """What a packet is part of."""

    NODE = b"n"
    """A message between the node and the process at the other end."""
    RELAY = b"r"
    """A lifecycle frame, to or from the daemon; the node passes it on byte for byte."""
    FACT = b"f"
    """A relayed frame that stays true; the node keeps it for a daemon that comes later."""
    EVENTS = b"e"
    """A run of events."""


_KINDS: Final = {kind.value: kind for kind in Kind}


def cut(kind: Kind, body: bytes) -> list[bytes]:
    """Cut a message into packets, in the order they have to be sent.

    Raises:
        LocalProtocolError: The message is longer than 1 MiB.
    """
    if len(body) <= _ROOM:
        return [_HEAD.pack(kind.value, 0, 1) + body]
    if len(body) > MAX_MESSAGE:
        raise LocalProtocolError(f"a message of {len(body)} bytes; the limit is {MAX_MESSAGE}")
    parts = [body[start : start + _ROOM] for start in range(0, len(body), _ROOM)]
    head = ((kind.value, number, len(parts)) for number in range(len(parts)))
    return [_HEAD.pack(*h) + part for h, part in zip(head, parts, strict=True)]


class Joiner:
    """Joins the packets of one connection; lives as long as the connection."""

    def __init__(self) -> None:
        self._kind = Kind.NODE
        self._parts: list[bytes] = []
        self._total = 0

    def feed(self, packet: bytes) -> tuple[Kind, bytes] | None:
        """Take in one packet; give the message that it completes, if it does.

        Raises:
            RemoteProtocolError: The packet is no packet, or out of order.
        """
        if len(packet) < _HEAD.size or len(packet) > MAX_PACKET:
            raise RemoteProtocolError(f"a packet of {len(packet)} bytes")
        code, part, total = _HEAD.unpack_from(packet)
        kind = _KINDS.get(code)
        if kind is None:
            raise RemoteProtocolError(f"unknown packet kind {code!r}")
        if part == 0 and total == 1 and not self._parts:
            return kind, packet[_HEAD.size :]
        return self._join(kind, part, total, packet[_HEAD.size :])

    def _join(self, kind: Kind, part: int, total: int, body: bytes) -> tuple[Kind, bytes] | None:
        if part == 0:
            self._kind, self._total = kind, total
        expected = (self._kind, len(self._parts), self._total)
        if (kind, part, total) != expected or not 0 < total * _ROOM < MAX_MESSAGE + _ROOM:
            raise RemoteProtocolError(f"part {part} of {total} is out of order")
        self._parts.append(body)
        if len(self._parts) < total:
            return None
        whole, self._parts = b"".join(self._parts), []
        if len(whole) > MAX_MESSAGE:
            raise RemoteProtocolError(
                f"a message of {len(whole)} bytes; the limit is {MAX_MESSAGE}"
            )
        return kind, whole
