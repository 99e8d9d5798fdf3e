"""A client's connection to its node: opened with a ticket, and given up when the node has gone."""

import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from protocol.errors import NoDaemon
from protocol.messages import (
    FROM_ENDPOINT,
    TO_ENDPOINT,
    Cause,
    ClientWelcome,
    Down,
    Explain,
    FromEndpoint,
    Subscribe,
    ToEndpoint,
    Unexplained,
)
from protocol.packets import Kind
from protocol.reactor import Reactor
from protocol.turn import TURN
from protocol.umbilical import Umbilical
from spiral_host import node_side
from spiral_host.node_side import NodeSide
from tests.actors import Aside
from tests.hosts import DEADLINE, eventually

CRASH = Cause(kind="signal", code=11)


def test_an_end_that_nobody_has_read_yet_is_found_by_looking(tmp_path: Path) -> None:
    """Whoever is welcomed by another node is not misled by the last one's connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(tmp_path / "door"))
        door.listen()
        side = NodeSide(Reactor(), NoThread(), "run", lambda *_: None)
        side.look()  # there is none yet
        side.open(
            ClientWelcome(epoch=1, incarnation=2, ticket=b"", node_socket=str(tmp_path / "door"))
        )
        side.look()  # it says nothing
        assert side.is_open
        door.accept()[0].close()
        assert side.is_open
        side.look()
        assert not side.is_open


def test_nobody_waits_for_the_word_of_a_node_that_has_gone(tmp_path: Path) -> None:
    """What it has not said of a death it will not say."""
    with Opened(tmp_path) as opened:
        side = opened.side
        asking = Aside(lambda: side.cause_of_death(9, time.monotonic() + 2 * DEADLINE))
        opened.question()
        opened.node.close()
        side.look()
        assert asking.outcome() == "unknown cause"
        assert side.cause_of_death(9, time.monotonic() + 2 * DEADLINE) == "unknown cause"


def test_the_next_node_is_not_waited_for_either(tmp_path: Path) -> None:
    """It knows nothing of what was asked of the last one."""
    with Opened(tmp_path) as opened:
        asking = Aside(lambda: opened.side.cause_of_death(9, time.monotonic() + 2 * DEADLINE))
        opened.question()
        with opened.side._news:  # who waits is woken when both have happened
            opened.side.close()
            opened.node.close()
            opened.open()
        assert asking.outcome() == "unknown cause"


def test_the_node_is_asked_how_a_peer_ended(tmp_path: Path) -> None:
    """A death that it tells, however late, is the answer; and is known from then on."""
    with Opened(tmp_path) as opened:
        asking = Aside(lambda: opened.side.cause_of_death(9, time.monotonic() + 2 * DEADLINE))
        assert opened.question() == Explain("1", 9)
        opened.say(Unexplained("another"))
        opened.say(Down(8, "shop", CRASH))
        opened.say(Down(9, "math", CRASH))
        assert asking.outcome() == "SIGSEGV"
        assert opened.side.cause_of_death(9, 0.0) == "SIGSEGV"
        assert opened.node.receive() is None


def test_a_node_that_says_it_soon_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly always the word comes by itself; a question would only keep the node from it."""
    monkeypatch.setattr(node_side, "UNASKED_S", 2 * DEADLINE)
    with Opened(tmp_path) as opened:
        asking = Aside(lambda: opened.side.cause_of_death(9, time.monotonic() + 2 * DEADLINE))
        eventually(lambda: opened.side._unexplained)
        opened.say(Down(9, "math", CRASH))
        assert asking.outcome() == "SIGSEGV"
        assert opened.node.receive() is None


def test_a_peer_that_lives_has_no_cause_of_death(tmp_path: Path) -> None:
    """The node says that there is none to tell, and nobody waits any longer."""
    with Opened(tmp_path) as opened:
        asking = Aside(lambda: opened.side.cause_of_death(9, time.monotonic() + 2 * DEADLINE))
        opened.question()
        opened.say(Unexplained("1"))
        assert asking.outcome() == "unknown cause"


def test_a_node_that_says_nothing_is_waited_for_no_longer_than_that(tmp_path: Path) -> None:
    """Then the cause is unknown, and the question is forgotten."""
    with Opened(tmp_path) as opened:
        assert opened.side.cause_of_death(9, time.monotonic() + 0.01) == "unknown cause"
        assert not opened.side._unexplained


def test_what_is_ready_leaves_before_anybody_waits_for_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answers to calls that came together do not wait for the answer to a question."""
    said: list[str] = []
    with closing(Reactor()) as reactor:
        reactor.unsent[reactor] = lambda: said.append("what is ready")
        monkeypatch.setattr(TURN, "reactor", reactor)
        side = NodeSide(reactor, OneThread(said), "run", lambda *_: None)
        with pytest.raises(NoDaemon):
            side.ask_node(lambda name: Subscribe(name, "Loss", 0, 0.0), DEADLINE)
    assert said == ["what is ready", "the question"]


class Opened:
    """A client's side, and a node that has let it in. Whoever says something drives the side."""

    def __init__(self, folder: Path) -> None:
        self.reactor = Reactor()
        self.side = NodeSide(self.reactor, SoonThread(), "run", lambda *_: None)
        self._path = str(folder / "door")
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(self._path)
        self._door.listen()
        self.open()

    def open(self) -> None:
        """Have the client come in."""
        welcome = ClientWelcome(epoch=1, incarnation=2, ticket=b"", node_socket=self._path)
        self.side.open(welcome)
        self.node = Umbilical(self._door.accept()[0], takes_descriptors=False)
        assert self.node.receive() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.side.close()
        self.node.close()
        self._door.close()
        self.reactor.close()

    def question(self) -> FromEndpoint:
        """Wait for what the client asks."""
        message = eventually(self.node.receive)
        assert message is not None
        return FROM_ENDPOINT.decode(message[1])

    def say(self, message: ToEndpoint) -> None:
        """Have the node say something, and the client read it."""
        self.node.send(Kind.NODE, TO_ENDPOINT.encode(message))
        self.side.look()


class SoonThread:
    """Does at once what is to be done without waiting for a lock."""

    def do(self, job: object) -> None:
        """Not called."""
        raise AssertionError

    def do_soon(self, job: Callable[[], None]) -> None:
        job()


class OneThread:
    """Does at once what it is told."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def do(self, job: Callable[[], None]) -> None:
        self._said.append("the question")
        job()

    def do_soon(self, job: object) -> None:
        """Not called."""
        raise AssertionError


class NoThread:
    """Has nothing to do."""

    def do(self, job: object) -> None:
        """Not called."""
        raise AssertionError

    def do_soon(self, job: object) -> None:
        """Not called."""
        raise AssertionError
