"""Say mutated frames at every door that an application has, and look after each what became of it.

As on umbilicals, an honest question goes behind each frame. Whoever is refused comes in again.
"""

import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from math import inf
from typing import Any, Final

import msgpack
import zmq

from protocol.codec import MAX_MESSAGE
from protocol.errors import RemoteProtocolError
from protocol.feed import ECHO, FROM_HUB, TO_HUB, Join, Recall, Recalled
from protocol.messages import (
    FROM_CLIENT,
    FROM_ENDPOINT,
    TO_CLIENT,
    TO_ENDPOINT,
    Answer,
    ClientTicket,
    ClientWelcome,
    GetConfig,
    LoadPlugins,
    Refused,
    Resolve,
    RestartPlugin,
    Share,
    ShutDown,
    UnloadPlugin,
)
from protocol.names import Topic
from protocol.packets import Kind, cut
from protocol.runs import Head, pack_body, pack_run
from protocol.session import greeting
from tests.chaos.packets.mutations import Frame, Mutator
from tests.chaos.packets.umbilicals import PATIENCE_S, Tally
from tests.doors import details

MS: Final = 1000
SEVERAL: Final = 0.05
"""How often a frame comes with others in one message, and a greeting is mutated, too."""

_CALL: Final = b"\x97"
"""How msgpack opens a list of a call's seven parts."""

LIE_S: Final = 0.03
"""How long it is waited for an answer that may never come, seconds."""

_ORDERS: Final = (LoadPlugins, UnloadPlugin, RestartPlugin, ShutDown)
"""What an application may order: carried out, they are no attack."""

_GREETING: Final = bytes.fromhex("ff00000000000000017f0300") + b"NULL".ljust(20, b"\0") + bytes(32)
_READY: Final = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"


class Control:
    """A client as the daemon knows it, until it says too much."""

    def __init__(self, run_dir: str, mutator: Mutator) -> None:
        self.tally = Tally()
        self._mutator = mutator
        self._marks = itertools.count(1)
        self._context = zmq.Context()
        self._end = self._context.socket(zmq.DEALER)
        self._end.set(zmq.LINGER, 0)
        self._end.connect(f"ipc://{run_dir}/control.sock")
        self.welcome = self.greet()

    def close(self) -> None:
        """Leave."""
        self._context.destroy(linger=0)

    def attack(self, frames: int) -> None:
        """Say so many."""
        for _ in range(frames):
            self._say(self._mutator.next())

    def greet(self) -> ClientWelcome:
        """Come in, or come in again; what was said before is not answered any more."""
        while True:
            self._end.send(greeting("client", FROM_CLIENT, details()))
            until = time.monotonic() + PATIENCE_S
            while self._end.poll(int((until - time.monotonic()) * MS)):
                said = TO_CLIENT.decode(self._end.recv())
                if isinstance(said, ClientWelcome):
                    return said
            raise AssertionError("the daemon does not welcome anybody")

    def greet_anew(self) -> ClientWelcome:
        """Leave, in the way that is noticed at once, and come in as somebody else."""
        self._end.send(b"")
        return self.greet()

    def ask(self, question: Any) -> None:  # noqa: ANN401 - one of the conversation
        """Say something honest."""
        self._end.send(FROM_CLIENT.encode(question))

    def _say(self, frame: bytes) -> None:
        if _is_order(frame):
            return
        rng, mark, began = self._mutator.rng, f"m{next(self._marks)}", time.monotonic()
        others = [self._mutator.next()] if rng.random() < SEVERAL else []
        self.tally.sent += 1
        self._end.send_multipart([frame, *others])
        self.ask(GetConfig(mark, "nothing."))
        outcome = self._outcome(mark, began + PATIENCE_S)
        self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)
        if outcome is None:
            self.tally.hung.append(frame)
        elif not outcome:
            self.tally.ended += 1
            if rng.random() < SEVERAL:
                hello = greeting("client", FROM_CLIENT, details())
                self._end.send(self._mutator.mutated(b"", hello))
            self.welcome = self.greet()

    def _outcome(self, mark: str, until: float) -> bool | None:
        while self._end.poll(max(0, int((until - time.monotonic()) * MS))):
            said = TO_CLIENT.decode(self._end.recv())
            if isinstance(said, Refused):
                return False
            if isinstance(said, Answer) and said.request == mark:
                return True
        return None


def _is_order(frame: bytes) -> bool:
    try:
        return isinstance(FROM_CLIENT.decode(frame), _ORDERS)
    except RemoteProtocolError:
        return False


class Events:
    """A peer of the bus that has joined as an application does."""

    def __init__(self, run_dir: str, mutator: Mutator, control: Control) -> None:
        self.tally = Tally()
        self._mutator = mutator
        self._numbers = itertools.count(1)
        self._context = zmq.Context()
        self._end = self._context.socket(zmq.DEALER)
        self._end.set(zmq.LINGER, 0)
        self._end.connect(f"ipc://{run_dir}/events-in.sock")
        number = control.welcome.incarnation
        self._end.send(TO_HUB.encode(Join(f"client:{number}", filters=False)))
        self._mutator = Mutator(mutator.rng.randrange(1 << 32), [*mutator.frames, *_runs(number)])

    def close(self) -> None:
        """Leave."""
        self._context.destroy(linger=0)

    def attack(self, frames: int) -> None:
        """Say so many."""
        for _ in range(frames):
            rng, mark, began = self._mutator.rng, next(self._numbers), time.monotonic()
            frame = self._mutator.next()
            others = [self._mutator.next()] if rng.random() < SEVERAL else []
            self.tally.sent += 1
            self._end.send_multipart([frame, *others])
            self._end.send(TO_HUB.encode(Recall(mark, "nothing", 1, inf)))
            if not self._is_answered(mark, began + PATIENCE_S):
                self.tally.hung.append(frame)
            self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)

    def _is_answered(self, mark: int, until: float) -> bool:
        while self._end.poll(max(0, int((until - time.monotonic()) * MS))):
            said = FROM_HUB.decode(self._end.recv())
            if isinstance(said, Recalled) and said.request == mark:
                return True
        return False


def _runs(number: int) -> Iterator[Frame]:
    """Give runs that the hub takes from this peer, and passes on to everybody."""
    for transmission in range(1, 9):
        head = Head(
            transmission=transmission,
            source="app:raw",
            incarnation=number,
            topic=Topic(f"Recorded.{transmission % 3}"),
            first=transmission,
            events=2,
            ts=time.time(),
            sticky=transmission == 5,
        )
        run = pack_run(head, pack_body([b"\x91\x01", b"\xa1x"]))
        at = len(run.frame) - len(run.body)
        yield Frame(run.frame[:at], run.frame[at:])


class Subscriptions:
    """A subscriber that says what it likes where subscriptions are said."""

    def __init__(self, run_dir: str, mutator: Mutator) -> None:
        self.tally = Tally()
        self._address = f"ipc://{run_dir}/events-out.sock"
        self._mutator = mutator
        self._marks = itertools.count(1)
        self._context = zmq.Context()

    def close(self) -> None:
        """Leave."""
        self._context.destroy(linger=0)

    def attack(self, frames: int) -> None:
        """Say so many, from a new connection every now and then."""
        while frames > 0:
            with self._context.socket(zmq.XSUB) as end:
                end.set(zmq.LINGER, 0)
                end.connect(self._address)
                for _ in range(min(frames, 500)):
                    self._say(end)
            frames -= 500

    def _say(self, end: "zmq.Socket[bytes]") -> None:
        mark, began = ECHO + b"m%d" % next(self._marks), time.monotonic()
        frame = self._mutator.next()
        others = [self._mutator.next()] if self._mutator.rng.random() < SEVERAL else []
        self.tally.sent += 1
        end.send_multipart([frame, *others])
        end.send(b"\1" + mark)
        if not self._is_echoed(end, mark, began + PATIENCE_S):
            self.tally.hung.append(frame)
        end.send(b"\0" + mark)
        self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)

    @staticmethod
    def _is_echoed(end: "zmq.Socket[bytes]", mark: bytes, until: float) -> bool:
        while end.poll(max(0, int((until - time.monotonic()) * MS))):
            if end.recv_multipart()[0] == mark:
                return True
        return False


class Greetings:
    """Connections that are none of ZeroMQ's: its own greeting, mutated, at each of its doors."""

    def __init__(self, run_dir: str, mutator: Mutator) -> None:
        self.tally = Tally()
        frames = [Frame(b"", _GREETING + _READY), Frame(b"", _GREETING), Frame(_GREETING, _READY)]
        self._mutator = Mutator(mutator.rng.randrange(1 << 32), frames)
        names = ("control.sock", "events-in.sock", "events-out.sock")
        self._doors = itertools.cycle([f"{run_dir}/{name}" for name in names])

    def attack(self, frames: int) -> None:
        """Knock so many times."""
        for _ in range(frames):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
                end.settimeout(PATIENCE_S)
                try:
                    end.connect(next(self._doors))
                    end.sendall(self._mutator.next())
                    end.shutdown(socket.SHUT_WR)
                except OSError:
                    self.tally.ended += 1
                self.tally.sent += 1


class NodeDoor:
    """A client at the node's own socket, with a ticket and without."""

    def __init__(self, control: Control, mutator: Mutator) -> None:
        self.tally = Tally()
        self.control = control
        self._mutator = mutator
        self._marks = itertools.count(1)
        self.end: socket.socket | None = None

    def close(self) -> None:
        """Leave."""
        if self.end is not None:
            self.end.close()

    def open(self) -> socket.socket:
        """Come in with a fresh ticket."""
        self.close()
        self.control.welcome = self.control.greet_anew()
        self.end = self._knock()
        ticket = ClientTicket(self.control.welcome.ticket)
        self.end.send(cut(Kind.NODE, greeting("client", FROM_ENDPOINT, ticket))[0])
        assert self.end.recv(1 << 17), "the node sends away who has a ticket"
        return self.end

    def attack(self, frames: int) -> None:
        """Say so many packets."""
        for _ in range(frames):
            self._say(self._mutator.next()[:65536])

    def _knock(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.settimeout(PATIENCE_S)
        end.connect(self.control.welcome.node_socket)
        return end

    def _say(self, packet: bytes) -> None:
        mark, began = f"m{next(self._marks)}", time.monotonic()
        self.tally.sent += 1
        if self._mutator.rng.random() < SEVERAL:
            with self._knock() as guest:
                guest.send(packet or b"\0")
            return
        end = self.end or self.open()
        if not self._is_answered(end, packet, mark):
            self.tally.ended += 1
            end.close()
            self.end = None
        self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)

    def _is_answered(self, end: socket.socket, packet: bytes, mark: str) -> bool:
        try:
            end.send(packet)
            end.send(cut(Kind.NODE, FROM_ENDPOINT.encode(Share(mark, 0, 0)))[0])
            while said := end.recv(1 << 17):
                if mark.encode() in said[:200]:
                    return True
        except TimeoutError:
            self.tally.hung.append(packet)
        except OSError:
            return False
        return False


class Lane:
    """A caller whose frames on a lane are what it likes."""

    def __init__(self, door: NodeDoor, mutator: Mutator, service: str) -> None:
        self.tally = Tally()
        self._door = door
        self._mutator = mutator
        self._service = service
        self._numbers = itertools.count(1 << 20)
        self._lane = -1
        self._in = b""

    def close(self) -> None:
        """Hang up."""
        if self._lane >= 0:
            os.close(self._lane)
        self._lane, self._in = -1, b""

    def attack(self, frames: int) -> None:
        """Say so many frames."""
        for _ in range(frames):
            if self._lane < 0:
                self._open()
            self._say(*framed(self._mutator))

    def _open(self) -> None:
        end = self._door.end or self._door.open()
        self._door.control.ask(Resolve(request="lane", service=self._service, wait_s=PATIENCE_S))
        while self._lane < 0:
            packet, fds, _, _ = socket.recv_fds(end, 1 << 17, 4)
            assert packet, "the node has hung up"
            if type(TO_ENDPOINT.decode(packet[5:])).__name__ == "LaneOpened":
                self._lane = fds.pop()
            for fd in fds:
                os.close(fd)
        os.set_blocking(self._lane, False)

    def _say(self, frame: bytes, is_lie: bool) -> None:  # noqa: FBT001
        number, began = next(self._numbers), time.monotonic()
        # Who is told of more than comes waits for it, by right, until we hang up.
        deadline = began + (LIE_S if is_lie else PATIENCE_S)
        call = msgpack.packb([number, self._service, "add", [1, 2], None, deadline, None])
        self.tally.sent += 1
        if not self._is_answered(frame + _with_length(call), number, deadline):
            self.tally.ended += 1
            self.close()
            if time.monotonic() > deadline and not is_lie:
                self.tally.hung.append(frame)
        self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)

    def _is_answered(self, out: bytes, number: int, deadline: float) -> bool:
        wanted = msgpack.packb(number)
        while time.monotonic() < deadline:
            try:
                if out:
                    out = out[os.write(self._lane, out) :]
                chunk = os.read(self._lane, 1 << 16)
                if not chunk:
                    return False
                self._in += chunk
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._lane, select.POLLIN | (select.POLLOUT if out else 0))
                poll.poll(max(1, int((deadline - time.monotonic()) * MS)))
            except OSError:
                return False
            for body in self._frames():
                if body[1:].startswith(wanted):
                    return True
                out += _answer_to(body)
        return False

    def _frames(self) -> Iterator[bytes]:
        while len(self._in) >= 4:
            (length,) = struct.unpack_from("!I", self._in)
            if len(self._in) < 4 + length:
                return
            body, self._in = self._in[4 : 4 + length], self._in[4 + length :]
            yield body


def framed(mutator: Mutator) -> tuple[bytes, bool]:
    """Give a mutated frame of a lane, and whether its length is a lie as well."""
    body = mutator.next()
    if mutator.rng.random() < SEVERAL:
        lie = mutator.rng.choice((0, 1, len(body) + 1, MAX_MESSAGE + 1, (1 << 32) - 1))
        return struct.pack("!I", lie) + body, True
    return _with_length(body[:MAX_MESSAGE]), False


def _answer_to(body: bytes) -> bytes:
    """Answer a call of a function that a frame has made up; other words have no answer."""
    if body[:1] != _CALL:
        return b""
    number, *_ = msgpack.unpackb(body, strict_map_key=False)
    return _with_length(msgpack.packb([number, 0, None]))


def _with_length(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body
