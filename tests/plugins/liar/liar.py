"""A plugin that goes behind its library's back and writes to its own descriptors."""

import os
import socket
import threading

from plugin_worker import Plugin, PluginContext, SpiralHostError


class Service:
    """Lies."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def to(self, service: str, body: bytes) -> list[object]:
        """Write bytes on a lane to a service, then go on calling; give what came of the calls."""
        stub = self._ctx.wait_service(service, 10.0)
        stub.echo(0)
        lane = self._ctx._host._caller._mine.by_service[service].lane  # type: ignore[attr-defined]
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
        (umbilical,) = sockets(socket.SOCK_SEQPACKET)
        for packet in packets:
            os.write(umbilical, packet)

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


class Liar(Plugin):
    """Offers to lie."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("liar", Service(ctx))
