import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.reactor import POLLIN, Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


class FakeZmq:
    """A ZeroMQ socket as the loop sees it: an edge, and an answer when asked."""

    def __init__(self, fd: int) -> None:
        self.FD: Any = fd
        self.EVENTS: Any = 0


class TestDescriptors:
    def test_who_can_read_is_called(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A callback is called while there is something to read, and not otherwise.
        """
        one, other = pair
        seen: list[bytes] = []
        reactor.watch(one.fileno(), lambda: seen.append(one.recv(10)))
        reactor.turn(0)
        other.send(b"x")
        reactor.turn(0)
        reactor.turn(0)

        assert seen == [b"x"]

    def test_who_is_forgotten_is_not_called(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        Forgetting takes effect at once, for what was ready in the same turn too.
        """
        one, other = pair
        seen: list[str] = []

        def first() -> None:
            seen.append("one")
            reactor.forget(other.fileno())

        def second() -> None:
            seen.append("other")
            reactor.forget(one.fileno())

        reactor.watch(one.fileno(), first)
        reactor.watch(other.fileno(), second)
        one.send(b"x")
        other.send(b"x")
        reactor.turn(0)
        reactor.forget(one.fileno())
        reactor.forget(one.fileno())

        assert len(seen) == 1

    def test_room_to_write_is_told_until_it_is_forgotten(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A writer is called every turn; forgetting it leaves the reader.
        """
        one, other = pair
        seen: list[str] = []
        reactor.watch(one.fileno(), lambda: seen.append(one.recv(9).decode()))
        reactor.watch_writable(one.fileno(), lambda: seen.append("room"))
        reactor.turn(0)
        reactor.turn(0)
        reactor.forget_writable(one.fileno())
        reactor.forget_writable(one.fileno())
        other.send(b"read")
        reactor.turn(0)

        assert seen == ["room", "room", "read"]

    def test_a_writer_that_is_forgotten_leaves_nothing(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A descriptor that nobody watches any more wakes nobody when its other end leaves.
        """
        one, other = pair
        reactor.watch_writable(one.fileno(), lambda: None)
        reactor.forget_writable(one.fileno())
        other.close()

        assert reactor._wait(0) == []
        reactor.watch_writable(one.fileno(), lambda: None)

    def test_the_end_of_the_other_side_is_something_to_read(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        Who waits for a peer is called when it leaves.
        """
        one, other = pair
        seen: list[bytes] = []
        reactor.watch(one.fileno(), lambda: seen.append(one.recv(1)))
        other.close()
        reactor.turn(0)

        assert seen == [b""]


class TestTimers:
    def test_what_is_due_is_called_in_order_and_once(self, reactor: Reactor) -> None:
        """
        Timers are called in the order of their moments, then of their making.
        """
        seen: list[int] = []
        for when, name in ((2.0, 3), (1.0, 1), (1.0, 2)):
            reactor.call_at(when, lambda name=name: seen.append(name))  # type: ignore[misc]
        reactor.turn()
        reactor.turn(0)

        assert seen == [1, 2, 3]

    def test_what_is_not_due_waits(self, reactor: Reactor) -> None:
        """
        A turn ends after the time it was given, whatever is due later.
        """
        seen: list[int] = []
        reactor.call_later(3600.0, lambda: seen.append(1))
        reactor.turn(0)

        assert seen == []

    def test_what_is_cancelled_is_not_called(self, reactor: Reactor) -> None:
        """
        Cancelling works before the moment, in the same turn and afterwards.
        """
        seen: list[str] = []
        later = reactor.call_at(2.0, lambda: seen.append("later"))
        reactor.call_at(1.0, later.cancel)
        gone = reactor.call_at(0.5, lambda: seen.append("gone"))
        gone.cancel()
        gone.cancel()
        reactor.turn(0)
        later.cancel()

        assert seen == []


class TestZmq:
    def test_a_socket_is_asked_before_the_loop_sleeps(self, reactor: Reactor) -> None:
        """
        What a callback left for later is taken up in the next turn, without any new edge.
        """
        fd = os.eventfd(0)
        zmq = FakeZmq(fd)
        seen: list[int] = []
        reactor.watch_zmq(zmq, lambda: seen.append(1))
        reactor.turn(0)
        zmq.EVENTS = POLLIN
        reactor.turn()
        reactor.turn()
        reactor.forget_zmq(zmq)
        reactor.turn(0)
        os.close(fd)

        assert seen == [1, 1]
