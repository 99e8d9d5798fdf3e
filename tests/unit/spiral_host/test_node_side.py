"""A client's connection to its node: opened with a ticket, and given up when the node has gone."""

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from protocol.errors import NoDaemon
from protocol.messages import ClientWelcome, Subscribe
from protocol.reactor import Reactor
from protocol.turn import TURN
from spiral_host import node_side
from spiral_host.node_side import NodeSide
from tests.actors import Aside
from tests.hosts import DEADLINE


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


def test_nobody_waits_for_the_word_of_a_node_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has not said of a death it will not say."""
    monkeypatch.setattr(node_side, "CAUSE_S", 2 * DEADLINE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(tmp_path / "door"))
        door.listen()
        side = NodeSide(Reactor(), NoThread(), "run", lambda *_: None)
        side.open(
            ClientWelcome(epoch=1, incarnation=2, ticket=b"", node_socket=str(tmp_path / "door"))
        )
        asking = Aside(lambda: side.cause_of_death(9))
        door.accept()[0].close()
        side.look()
        assert asking.outcome() == "unknown cause"
        assert side.cause_of_death(9) == "unknown cause"


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
