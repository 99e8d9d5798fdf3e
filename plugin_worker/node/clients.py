"""Let clients in at the node's own socket: same user, and a ticket that the daemon gave them.

A client's connection is to it what the umbilical is to a worker: lanes and death notices come
down it. Its end tells the daemon that the client is gone.
"""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plugin_worker.node.backlog import flush_later
from plugin_worker.node.segments import Request
from protocol.errors import ProtocolError, RemoteProtocolError
from protocol.messages import (
    FROM_ENDPOINT,
    TO_ENDPOINT,
    AdmitClient,
    ClientTicket,
    Explain,
    Greeted,
    Held,
    LaneClosed,
    Refused,
    ToEndpoint,
    WaitOver,
)
from protocol.packets import Kind
from protocol.reactor import Reactor
from protocol.session import accept
from protocol.umbilical import Umbilical

MAX_WAITING: Final = 64
"""Connections that have not shown a valid ticket yet; others wait outside until one has gone."""

WAIT_S: Final = 10.0
"""How long a client may take between its welcome and the door, seconds."""

AGAIN_S: Final = 0.2
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(slots=True)
class _Guest:
    """A connection at the door."""

    umbilical: Umbilical
    ticket: bytes = b""


class Clients:
    """The node's door; lives as long as the node.

    Args:
        left: Called with the incarnation of a client that is gone.
        lane_closed: Called when a client, as callee, has seen a lane's end.
        death_asked: Called when a client has seen a lane's end and asks why.
        wait_told: Called when a client tells whom it waits for while it owes an answer.
        segment_asked: Called when a client wants shared memory, or has no use for it any more.
    """

    def __init__(
        self,
        reactor: Reactor,
        path: Path,
        left: Callable[[int], None],
        lane_closed: Callable[[int, int], None],
        death_asked: Callable[[int, Explain], None],
        wait_told: Callable[[int, Held | WaitOver], None],
        segment_asked: Callable[[int, Request], None],
    ) -> None:
        self.connected: dict[int, Umbilical] = {}
        self._reactor = reactor
        self._path = path
        self._left = left
        self._lane_closed = lane_closed
        self._death_asked = death_asked
        self._wait_told = wait_told
        self._segment_asked = segment_asked
        self._tickets: dict[bytes, int] = {}
        self._guests: dict[int, _Guest] = {}
        path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(str(path))
        self._door.listen(128)
        self._door.setblocking(False)
        self._open_door()

    def admit(self, admission: AdmitClient) -> None:
        """Expect a client; it may be waiting at the door already."""
        self._tickets[admission.ticket] = admission.incarnation
        self._reactor.call_later(WAIT_S, lambda: self._missed(admission))
        for fd in tuple(self._guests):
            self._try(fd)

    def send(self, incarnation: int, message: ToEndpoint, descriptors: tuple[int, ...]) -> bool:
        """Send to a client; False when it is not here, or has just left."""
        umbilical = self.connected.get(incarnation)
        if umbilical is None:
            return False
        try:
            if not umbilical.send(Kind.NODE, TO_ENDPOINT.encode(message), descriptors):
                self._flush_later(incarnation, umbilical)
        except (OSError, ProtocolError):
            self._lost(incarnation)
            return False
        return True

    def is_behind(self, incarnation: int) -> bool:
        """Say whether a client has so much to read that what it can do without is not added."""
        umbilical = self.connected.get(incarnation)
        return umbilical is not None and umbilical.is_behind

    def expel(self, incarnation: int) -> None:
        """Close a client's connection; nobody is told, because the daemon said so."""
        umbilical = self.connected.pop(incarnation, None)
        if umbilical is not None:
            self._reactor.forget(umbilical.fd)
            umbilical.close()

    def close(self) -> None:
        """Close the door and every connection, and remove the socket's file."""
        for incarnation in tuple(self.connected):
            self.expel(incarnation)
        for fd in tuple(self._guests):
            self._send_away(fd, "the node is leaving")
        self._reactor.forget(self._door.fileno())
        self._door.close()
        self._path.unlink(missing_ok=True)

    def _open_door(self) -> None:
        if self._door.fileno() >= 0:
            self._reactor.watch(self._door.fileno(), self._come_in)

    def _come_in(self) -> None:
        if len(self._guests) >= MAX_WAITING:
            self._reactor.forget(self._door.fileno())
            return
        try:
            end, _ = self._door.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left for it. The door opens again when there may be one.
            self._reactor.forget(self._door.fileno())
            self._reactor.call_later(AGAIN_S, self._open_door)
            return
        raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid != os.getuid():
            end.close()
            return
        guest = _Guest(Umbilical(end, takes_descriptors=False))
        fd = guest.umbilical.fd
        self._guests[fd] = guest
        self._reactor.watch(fd, lambda: self._greeted(fd))
        self._reactor.call_later(WAIT_S, lambda: self._too_late(fd, guest))

    def _greeted(self, fd: int) -> None:
        guest = self._guests[fd]
        try:
            message = guest.umbilical.receive()
            if message is None:
                return
            said = accept(message[1], "client", FROM_ENDPOINT)
            if not isinstance(said, ClientTicket) or guest.ticket:
                raise RemoteProtocolError("a ticket is expected, once")
        except (ProtocolError, EOFError, OSError) as error:
            self._send_away(fd, str(error))
            return
        guest.ticket = said.ticket
        self._try(fd)

    def _try(self, fd: int) -> None:
        guest = self._guests[fd]
        incarnation = self._tickets.pop(guest.ticket, None)
        if incarnation is None:
            return
        self._seen_to(fd)
        self.expel(incarnation)
        self.connected[incarnation] = guest.umbilical
        self._reactor.watch(fd, lambda: self._read(incarnation, guest.umbilical))
        self.send(incarnation, Greeted(incarnation), ())

    def _read(self, incarnation: int, umbilical: Umbilical) -> None:
        try:
            while (message := umbilical.receive()) is not None:
                said = FROM_ENDPOINT.decode(message[1])
                if isinstance(said, LaneClosed):
                    self._lane_closed(said.lane, incarnation)
                elif isinstance(said, Explain):
                    self._death_asked(incarnation, said)
                elif isinstance(said, Held | WaitOver):
                    self._wait_told(incarnation, said)
                elif isinstance(said, Request):
                    self._segment_asked(incarnation, said)
                else:
                    raise RemoteProtocolError("a client has nothing else to say here")
        except (ProtocolError, EOFError, OSError):
            if self.connected.get(incarnation) is umbilical:
                self._lost(incarnation)

    def _flush_later(self, incarnation: int, umbilical: Umbilical) -> None:
        flush_later(self._reactor, umbilical, lambda: self._flush(incarnation))

    def _flush(self, incarnation: int) -> None:
        umbilical = self.connected.get(incarnation)
        if umbilical is None:
            return
        try:
            if umbilical.flush():
                self._reactor.forget_writable(umbilical.fd)
            else:
                self._flush_later(incarnation, umbilical)
        except OSError:
            self._lost(incarnation)

    def _lost(self, incarnation: int) -> None:
        self.expel(incarnation)
        self._left(incarnation)

    def _missed(self, admission: AdmitClient) -> None:
        """Give up a client that was admitted and never came, so that its place is free again."""
        if self._tickets.pop(admission.ticket, None) is None:
            return
        if admission.incarnation not in self.connected:
            self._left(admission.incarnation)

    def _too_late(self, fd: int, guest: _Guest) -> None:
        if self._guests.get(fd) is guest:
            self._send_away(fd, "no valid ticket in time")

    def _seen_to(self, fd: int) -> _Guest:
        """Wait for a guest no more, but for the next."""
        self._open_door()
        return self._guests.pop(fd)

    def _send_away(self, fd: int, why: str) -> None:
        guest = self._seen_to(fd)
        try:
            guest.umbilical.send(Kind.NODE, TO_ENDPOINT.encode(Refused(why)))
        except OSError:
            pass  # it has gone by itself
        finally:
            self._reactor.forget(fd)
            guest.umbilical.close()
