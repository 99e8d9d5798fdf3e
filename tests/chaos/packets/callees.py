"""Answer calls with mutated frames: a callee on whose word a real plugin waits."""

import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any, Final

import msgpack

from protocol.messages import FROM_ENDPOINT, TO_ENDPOINT, LaneClosed, LaneOpened, Ping, Pong
from protocol.packets import Kind, cut
from spiral_host import RemoteError
from tests.chaos.packets.bare import ROOM, Bare, BareRun, hello, ready
from tests.chaos.packets.doors import framed
from tests.chaos.packets.mutations import Mutator
from tests.chaos.packets.umbilicals import PATIENCE_S, Tally

_LENGTH: Final = struct.Struct("!I")


class Callee:
    """A bare plugin that a real one calls, again and again."""

    def __init__(self, run: BareRun, mutator: Mutator, caller: Any) -> None:  # noqa: ANN401 - a stub
        self.tally = Tally()
        self._run = run
        self._mutator = mutator
        self._caller = caller
        self._others: list[Bare] = []
        self._bare = self._begin()
        self._lanes: dict[int, socket.socket] = {}
        self._numbers: dict[int, int] = {}
        """The node's numbers of the lanes, by descriptor."""
        self._in: dict[int, bytes] = {}
        self._is_over = False

    def close(self) -> None:
        """End every life."""
        for lane in self._lanes.values():
            lane.close()
        for bare in (self._bare, *self._others):
            bare.end.close()

    def attack(self, frames: int) -> None:
        """Answer so many calls, each with a mutated frame and then as it should be."""
        self._is_over = False
        calls = threading.Thread(target=self._call, daemon=True)
        calls.start()
        wanted = self.tally.sent + frames
        while self.tally.sent < wanted and calls.is_alive():
            self._serve()
        self._is_over = True
        until = time.monotonic() + PATIENCE_S
        while calls.is_alive() and time.monotonic() < until:
            self._serve()
        calls.join(PATIENCE_S)
        assert not calls.is_alive(), "a call is never over"

    def _begin(self) -> Bare:
        until = time.monotonic() + PATIENCE_S
        while not (born := list(self._run.born())):
            assert time.monotonic() < until, "nobody is started again"
            if not select.select([self._run.fd], [], [], 0.5)[0]:
                self._run.revive()
        *self._others, first = born  # who was born last has its whole time to begin in
        first.send(hello(), *ready(first.name))
        return first

    def _call(self) -> None:
        while not self._is_over:
            began = time.monotonic()
            with suppress(RemoteError):  # whatever a lie made of its answer: a stream, say
                self._caller.call(self._bare.name, "add", 1, 2, timeout=2 * PATIENCE_S)
            self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)

    def _serve(self) -> None:
        ends = [self._bare.end, *self._lanes.values()]
        for end in select.select(ends, [], [], 0.1)[0]:
            if end is self._bare.end:
                self._hear()
            else:
                self._answer(end)

    def _hear(self) -> None:
        packet, fds, _, _ = socket.recv_fds(self._bare.end, ROOM, 4)
        assert packet, "the callee was ended for what it said on a lane"
        if packet[:1] == Kind.NODE.value:
            message = TO_ENDPOINT.decode(packet[5:])
            if isinstance(message, Ping):
                self._bare.send(cut(Kind.NODE, FROM_ENDPOINT.encode(Pong(message.number, 3)))[0])
            elif isinstance(message, LaneOpened):
                lane = socket.socket(fileno=fds[0])
                lane.settimeout(PATIENCE_S)
                self._lanes[lane.fileno()], self._in[lane.fileno()] = lane, b""
                self._numbers[lane.fileno()] = message.lane

    def _answer(self, lane: socket.socket) -> None:
        fd = lane.fileno()
        try:
            chunk = lane.recv(ROOM)
            self._in[fd] += chunk
            while len(self._in[fd]) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._in[fd])
                if len(self._in[fd]) < _LENGTH.size + length:
                    break
                body = self._in[fd][_LENGTH.size : _LENGTH.size + length]
                self._in[fd] = self._in[fd][_LENGTH.size + length :]
                self._answer_one(lane, body)
        except OSError:
            chunk = b""
        if not chunk or lane.fileno() < 0:
            del self._lanes[fd], self._in[fd]
            lane.close()
            closed = LaneClosed(self._numbers.pop(fd))  # else it has as many as one may have, soon
            self._bare.send(cut(Kind.NODE, FROM_ENDPOINT.encode(closed))[0])

    def _answer_one(self, lane: socket.socket, body: bytes) -> None:
        parts = msgpack.unpackb(body, strict_map_key=False)
        if len(parts) != 7:
            return
        self.tally.sent += 1
        frame, is_lie = framed(self._mutator)
        if self._mutator.rng.random() < 0.5 and not is_lie:
            frame = self._about(frame, parts[0])
        answer = msgpack.packb([parts[0], 0, 3])
        lane.sendall(frame + _LENGTH.pack(len(answer)) + answer)
        if is_lie:  # what was announced never comes: the caller may wait for it, until we hang up
            lane.close()

    @staticmethod
    def _about(frame: bytes, number: int) -> bytes:
        """Make it a word about the call that waits, where it is a list with a number."""
        packed: bytes = msgpack.packb(number)
        body = frame[_LENGTH.size :]
        if body[:1] < b"\x92" or body[:1] > b"\x9f" or body[1:2] > b"\x7f":
            return frame
        body = body[:1] + packed + body[2:]
        return _LENGTH.pack(len(body)) + body
