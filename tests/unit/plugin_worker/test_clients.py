import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_worker.node.clients import MAX_WAITING, Clients
from protocol.messages import (
    FROM_ENDPOINT,
    TO_ENDPOINT,
    AdmitClient,
    ClientTicket,
    Deadlock,
    Explain,
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
            lambda incarnation, message: self.heard.append((incarnation, message)),
        )
        self._path = str(folder / "node.sock")
        self.client = self.come(5)

    def come(self, incarnation: int) -> Umbilical:
        """Have a client come with its ticket."""
        ticket = str(incarnation).encode()
        self.clients.admit(AdmitClient(incarnation=incarnation, name="app", ticket=ticket))
        client = self.knock()
        client.send(Kind.NODE, greeting("client", FROM_ENDPOINT, ClientTicket(ticket)))
        self.turn()
        return client

    def knock(self) -> Umbilical:
        """Have somebody come and say nothing."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.connect(self._path)
        return Umbilical(end, takes_descriptors=True)

    def turn(self) -> None:
        for _ in range(5):
            self.reactor.turn(0)

    def say(self, message: FromEndpoint) -> None:
        self.client.send(Kind.NODE, FROM_ENDPOINT.encode(message))
        self.turn()

    def said(self, client: Umbilical | None = None) -> ToEndpoint | None:
        packet = (client or self.client).receive()
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

    def test_a_client_asks_how_a_peer_ended(self, door: Door) -> None:
        """
        The question reaches the node in the client's name.
        """
        door.say(Explain("1", 7))

        assert door.heard == [(5, Explain("1", 7))]
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

    def test_who_comes_while_many_are_at_the_door_is_let_in_when_one_has_gone(
        self, door: Door
    ) -> None:
        """
        Whoever has a ticket waits outside, and is not turned away.
        """
        silent = [door.knock() for _ in range(MAX_WAITING)]
        for _ in silent:
            door.turn()
        client = door.come(6)
        assert door.said(client) is None
        silent.pop().close()
        door.turn()

        assert door.said(client) == Greeted(6)
        for one in (*silent, client):
            one.close()
