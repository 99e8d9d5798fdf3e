"""A plugin that goes behind its library's back and writes to its own descriptors."""

import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable

from plugin_worker import Plugin, PluginContext, SpiralHostError
from protocol.errors import UsageError
from protocol.flight import SIZE, STACKS


class Service:
    """Lies."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def to(self, service: str, body: bytes) -> list[object]:
        """Write bytes on a lane to a service, then go on calling; give what came of the calls."""
        stub = self._ctx.wait_service(service, 10.0)
        stub.echo(0)
        lane = self._ctx._host._caller.lines.by_service[service].lane  # type: ignore[attr-defined]
        os.write(lane.fd, body)
        answers: list[object] = []
        for number in range(5):
            try:
                answers.append(stub.echo(number))
            except SpiralHostError as error:
                answers.append(type(error).__name__)
        return answers

    def on_umbilical(self, packets: list[bytes]) -> None:
        """Send packets of its own up the umbilical."""
        self.play([(packets, 1)])

    def play(self, score: list[tuple[list[bytes], int]]) -> None:
        """Send runs of packets up the umbilical, each so many times, and read nothing meanwhile."""
        (umbilical,) = sockets(socket.SOCK_SEQPACKET)
        room = select.poll()
        room.register(umbilical, select.POLLOUT)
        for packets, times in score:
            for packet in packets * times:
                room.poll()
                os.write(umbilical, packet)

    def node_has_read(self) -> None:
        """Return when the node has taken in all that was sent before: it answers in order."""
        self._ctx.subscribe("Nothing", print)

    def resize_page(self) -> list[str]:
        """Cut off, lengthen and write beyond the page of counters; give what came of each."""
        page = flight_page()
        beyond = bytes(SIZE)
        return [
            outcome(lambda: os.ftruncate(page, 0)),
            outcome(lambda: os.ftruncate(page, 1 << 30)),
            outcome(lambda: os.pwrite(page, beyond, SIZE + STACKS)),
        ]

    def scribble(self) -> None:
        """Fill the page of counters, in its bounds, with numbers close to the largest."""
        os.pwrite(flight_page(), b"\0\xff\xff\xff\xff\xff\xff\xff" * (SIZE // 8), 0)

    def hoard(self, keys: int) -> int:
        """Configure so many keys, without a break; give how many were taken."""
        for number in range(keys):
            try:
                self._ctx.set_config(f"hoard.{number}", "x" * 1000)
            except UsageError:
                return number
        return keys

    def lie_and_hang(self, packet: bytes) -> None:
        """Send a packet up the umbilical and never answer."""
        self.on_umbilical([packet])
        threading.Event().wait()

    def on_lanes(self, body: bytes) -> int:
        """Write bytes of its own on every lane; give how many lanes there were."""
        lanes = sockets(socket.SOCK_STREAM)
        for lane in lanes:
            os.write(lane, body)
        return len(lanes)

    def shut_lanes(self, until: str) -> None:
        """Shut every lane down, and go on until there is a file of this name."""
        for lane in sockets(socket.SOCK_STREAM):
            with socket.socket(fileno=os.dup(lane)) as end:
                end.shutdown(socket.SHUT_RDWR)
        while not (self._ctx.data_dir / until).exists():
            time.sleep(0.01)

    def lanes(self) -> int:
        """Say how many lanes there are."""
        return len(sockets(socket.SOCK_STREAM))

    def echo(self, value: object) -> object:
        """Give back what came."""
        return value

    def pid(self) -> int:
        """Say which process this is."""
        return os.getpid()


def sockets(wanted: socket.SocketKind) -> list[int]:
    """Find this process's sockets of a kind."""
    found = []
    for name in range(3, 256):
        try:
            end = socket.socket(fileno=name)
        except OSError:
            continue
        if end.type == wanted:
            found.append(name)
        end.detach()
    return found


def flight_page() -> int:
    """Find the flight page: the one regular file that has its size."""
    for name in range(3, 256):
        try:
            status = os.fstat(name)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size == SIZE + STACKS:
            return name
    raise FileNotFoundError


def outcome(attempt: Callable[[], object]) -> str:
    """Say what came of an attempt."""
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"


class Liar(Plugin):
    """Offers to lie."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("liar", Service(ctx))
