import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_worker.node.clients import Clients
from protocol.messages import (
    FROM_ENDPOINT,
    TO_ENDPOINT,
    AdmitClient,
    ClientTicket,
    Deadlock,
    FromEndpoint,
    Greeted,
    Held,
    LaneClosed,
    Subscribe,
    ToEndpoint,
    WaitOver,
)
from protocol.packets import Kind
from protocol.reactor import Reactor
from protocol.session import greeting
from protocol.umbilical import Umbilical


class Door:
    """The node's door, with one client inside, and what the node heard of it."""

    def __init__(self, folder: Path) -> None:
        self.reactor = Reactor()
        self.left: list[int] = []
        self.heard: list[tuple[int, object]] = []
        self.clients = Clients(
            self.reactor,
            folder / "node.sock",
            self.left.append,
            lambda lane, callee: self.heard.append((callee, lane)),
            lambda incarnation, message: self.heard.append((incarnation, message)),
            lambda incarnation, message: self.heard.append((incarnation, message)),
        )
        self.clients.admit(AdmitClient(incarnation=5, name="app", ticket=b"t"))
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.connect(str(folder / "node.sock"))
        self.client = Umbilical(end, takes_descriptors=True)
        self.client.send(Kind.NODE, greeting("client", FROM_ENDPOINT, ClientTicket(b"t")))
        self.turn()

    def turn(self) -> None:
        for _ in range(5):
            self.reactor.turn(0)

    def say(self, message: FromEndpoint) -> None:
        self.client.send(Kind.NODE, FROM_ENDPOINT.encode(message))
        self.turn()

    def said(self) -> ToEndpoint | None:
        packet = self.client.receive()
        return TO_ENDPOINT.decode(packet[1]) if packet else None

    def close(self) -> None:
        self.clients.close()
        self.client.close()
        self.reactor.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    assert door.said() == Greeted(5)
    yield door
    door.close()


class TestClients:
    def test_a_client_tells_whom_it_waits_for(self, door: Door) -> None:
        """
        Waits and their ends reach the node in the name of the client that told them, in order.
        """
        told = Held(waits=1, waits_for=2, holds=3, holds_of=4)
        for message in (told, WaitOver(1), LaneClosed(7)):
            door.say(message)

        assert door.heard == [(5, told), (5, WaitOver(1)), (5, 7)]
        assert door.left == []

    def test_a_client_is_told_that_its_call_cannot_be_answered(self, door: Door) -> None:
        """
        The node's word reaches the client that it is for.
        """
        assert door.clients.send(5, Deadlock(1, "app -> a -> app"), ())
        assert not door.clients.send(6, Deadlock(1, "app -> a -> app"), ())
        assert door.said() == Deadlock(1, "app -> a -> app")

    def test_a_client_that_says_what_is_not_its_to_say_is_sent_away(self, door: Door) -> None:
        """
        Whatever only workers may say ends a client's connection, and the daemon hears that it left.
        """
        door.say(Subscribe(request="1", pattern="t", last=0, since=0.0))

        assert door.left == [5]
        assert door.heard == []
