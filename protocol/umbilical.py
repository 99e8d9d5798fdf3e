"""Messages over one SOCK_SEQPACKET socket, cut into packets; descriptors flow down only.

The upper end (a node) reads with `recv`, so descriptors that a hostile lower end attaches are
dropped in the kernel; the lower end (a worker, a client) reads with `recvmsg`.
"""

import array
import errno
import os
import socket
from collections import deque
from contextlib import suppress
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.packets import MAX_PACKET, Joiner, Kind, cut

MAX_BACKLOG: Final = 4 << 20
"""Bytes that wait for a lower end which does not read, before it is given up."""

MAX_WAITING_DESCRIPTORS: Final = 32
"""Descriptors that wait for such an end: each is one of our own until it has left."""

_MAX_DESCRIPTORS: Final = 4
_INT: Final = array.array("i").itemsize


class Umbilical:
    """One end of an umbilical. Lives until either end closes it; its socket never blocks."""

    def __init__(self, end: socket.socket, *, takes_descriptors: bool) -> None:
        end.setblocking(False)
        self.fd = end.fileno()
        self.backlog = 0
        """Bytes that wait for room."""
        self.is_held_up = False
        """Whether that is not the other end's doing: more descriptors of this user's are on their
        way than this process may have open. Nothing tells when there are fewer."""
        self.is_tried_again = False
        """Whether somebody has set a time to try that again."""
        self._socket = end
        self._takes_descriptors = takes_descriptors
        self._joiner = Joiner()
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._descriptors: list[int] = []

    def send(self, kind: Kind, body: bytes, descriptors: tuple[int, ...] = ()) -> bool:
        """Send a message, or keep what there is no room for yet; the kernel copies descriptors.

        Returns:
            Whether all of it has left; if not, call `flush` when the socket is writable.

        Raises:
            LocalProtocolError: The message is too long; nothing was sent.
            RemoteProtocolError: The other end does not read and `MAX_BACKLOG` is waiting already.
            OSError: The other end is gone.
        """
        packets = cut(kind, body)
        for packet in packets[:-1]:
            self._send_or_keep(packet, ())
        self._send_or_keep(packets[-1], descriptors)
        return not self._waiting

    def flush(self) -> bool:
        """Send what was kept; say whether all of it has left.

        Raises:
            OSError: The other end is gone.
        """
        while self._waiting:
            packet, descriptors = self._waiting[0]
            if not self._try(packet, descriptors):
                return False
            self._waiting.popleft()
            self.backlog -= len(packet)
            for fd in descriptors:
                os.close(fd)
        return True

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the other end that what it can do without is not added."""
        attached = sum(bool(descriptors) for _, descriptors in self._waiting)
        return self.backlog > MAX_BACKLOG // 4 or attached >= MAX_WAITING_DESCRIPTORS // 2

    def receive(self) -> tuple[Kind, bytes, list[int]] | None:
        """Give the next message if it is all here, and the descriptors that came with it.

        Raises:
            EOFError: The other end is gone, or sent an empty packet, which looks the same.
            RemoteProtocolError: A packet is none.
        """
        while True:
            try:
                packet = self._read()
            except BlockingIOError:
                return None
            except ConnectionResetError:
                continue  # told once, and before the other end's last words: they are still here
            if not packet:
                raise EOFError
            message = self._joiner.feed(packet)
            if message is not None:
                descriptors, self._descriptors = self._descriptors, []
                return *message, descriptors

    def stop_hearing(self) -> None:
        """Let nobody say more; what has been said can still be received, then the end is."""
        with suppress(OSError):  # the other end is closed
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close this end and every descriptor that was still to leave or to be taken."""
        for _, descriptors in self._waiting:
            self._descriptors += descriptors
        self._waiting.clear()
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()
        self._socket.close()

    def _read(self) -> bytes:
        if not self._takes_descriptors:
            return self._socket.recv(MAX_PACKET + 1)
        packet, attached, _, _ = self._socket.recvmsg(
            MAX_PACKET + 1, socket.CMSG_SPACE(_MAX_DESCRIPTORS * _INT), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, raw in attached:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(raw) - len(raw) % _INT
                self._descriptors += array.array("i", raw[:whole]).tolist()
        return packet

    def _send_or_keep(self, packet: bytes, descriptors: tuple[int, ...]) -> None:
        if not self._waiting and self._try(packet, descriptors):
            return
        attached = sum(len(waiting) for _, waiting in self._waiting if waiting)
        if self.backlog + len(packet) > MAX_BACKLOG or (
            descriptors and attached >= MAX_WAITING_DESCRIPTORS
        ):
            raise RemoteProtocolError("the other end does not read what it is sent")
        self._waiting.append((packet, tuple(map(os.dup, descriptors))))
        self.backlog += len(packet)

    def _try(self, packet: bytes, descriptors: tuple[int, ...]) -> bool:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        try:
            if descriptors:
                self._socket.sendmsg([packet], [rights])
            else:
                self._socket.send(packet)
        except BlockingIOError:
            self.is_held_up = False
            return False
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            self.is_held_up = True
            return False
        return True
