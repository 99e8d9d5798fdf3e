import errno
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import pytest

from plugin_worker.node.launcher import Order
from plugin_worker.node.zygote_link import ZygoteLink
from plugin_worker.sandbox.confinement import Confinement
from protocol.reactor import Reactor

MOST = 20
"""Zygotes that may be started before it is called a loop."""


@dataclass
class Link(ZygoteLink):
    """A link whose zygotes are sockets that nobody reads; those that are dead are closed."""

    folder: Path
    dead: int = 0
    launched: int = 0
    ends: list[socket.socket] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    reactor: Reactor = field(default_factory=Reactor)

    def __post_init__(self) -> None:
        super().__init__(self.reactor, self.folder / "lib", self.folder / "tmp")

    def _launch(self) -> socket.socket:
        self.launched += 1
        assert self.launched < MOST
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        if self.launched <= self.dead:
            theirs.close()
        self.ends.append(theirs)
        return ours

    def order(self, incarnation: int, descriptor: int = 0) -> None:
        self.launch(
            Order(
                incarnation=incarnation,
                confinement=Confinement(read=(), write=(), tmp="/tmp", node_pid=1, layers=()),
                environment={},
                frame=b"order %d" % incarnation,
                descriptors=(descriptor,) * 4,
                taken=lambda: None,
                started=lambda started: self.started.append(started.pid),
                failed=self.failures.append,
            )
        )

    def turn_until(self, predicate: Callable[[], bool]) -> None:
        """Have the loop turn until something is so."""
        deadline = time.monotonic() + 20.0
        while not predicate():
            assert time.monotonic() < deadline
            self.reactor.turn(0.01)

    def hear(self) -> object:
        """Have the loop turn until it has said something more to its zygote."""
        end = self.ends[-1]
        self.turn_until(lambda: bool(select.select([end], [], [], 0)[0]))
        packet = end.recv(64)
        return packet if packet.startswith(b"order") else msgpack.unpackb(packet)

    def answer(self, **answer: object) -> None:
        """Be the zygote that answers."""
        self.ends[-1].send(msgpack.packb(answer))


@pytest.fixture
def process() -> Iterator[int]:
    """A child of this process that does nothing."""
    child = subprocess.Popen(["sleep", "60"])
    yield child.pid
    child.kill()
    child.wait()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    link = Link(tmp_path)
    yield link
    link.close()
    for end in link.ends:
        end.close()


def test_what_is_not_the_zygotes_fault_fails_one_order(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The zygote lives on, and the next order is sent to it.
    """
    send = socket.send_fds

    def crowded(*_: object) -> int:
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    monkeypatch.setattr(socket, "send_fds", crowded)
    link.order(1)
    monkeypatch.setattr(socket, "send_fds", send)
    link.order(2)

    assert len(link.failures) == 1
    assert os.strerror(errno.ETOOMANYREFS) in link.failures[0]
    assert link.launched == 1
    assert link.ends[0].recv(64) == b"order 2"


def test_a_zygote_that_is_dead_is_replaced(link: Link) -> None:
    """
    One that has served before: the order that it does not take is given to the next.
    """
    link.order(1)
    link.ends[0].close()
    link.order(2)

    assert link.launched == 2
    assert link.failures == ["the zygote died while it forked"]
    assert link.ends[1].recv(64) == b"order 2"


def test_zygotes_that_die_at_once(link: Link) -> None:
    """
    The order fails; a later one tries again.
    """
    link.dead = 1
    link.order(1)
    assert link.failures == ["the zygote died as soon as it was started"]

    link.order(2)
    assert link.launched == 2
    assert link.ends[1].recv(64) == b"order 2"


def test_a_spare_is_asked_for_when_nobody_wants_a_worker(process: int, link: Link) -> None:
    """
    Not before: an order that comes goes first. There is one at a time.
    """
    link.order(1)
    assert link.hear() == b"order 1"
    link.answer(incarnation=1, pid=7)
    link.turn_until(lambda: link.started == [7])
    link.order(2)
    assert link.hear() == b"order 2"
    link.answer(incarnation=2, pid=8)

    assert link.hear() == {"kind": "spare"}
    assert link.is_forking  # so that its child is not taken for an orphan
    link.answer(spare=process)
    link.turn_until(lambda: not link.is_forking)
    assert process in link.pids


def test_a_spare_that_becomes_a_worker(process: int, link: Link) -> None:
    """
    From then on it is reaped by who holds the worker; another is asked for.
    """
    spare(link, process)
    link.order(2)
    assert link.hear() == b"order 2"
    link.answer(incarnation=2, pid=process)
    link.turn_until(lambda: link.started == [7, process])
    assert process not in link.pids
    assert link.hear() == {"kind": "spare"}


def test_a_spare_that_dies(process: int, link: Link) -> None:
    """
    It is reaped: no dead child is kept.
    """
    spare(link, process)
    os.kill(process, signal.SIGKILL)
    link.turn_until(lambda: process not in link.pids)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)


def test_a_spare_that_dies_when_it_may_be_a_worker(process: int, link: Link) -> None:
    """
    It is left to who holds the worker, to be told how it ended.
    """
    spare(link, process)
    link.order(2)
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    link.reactor.turn(0)
    link.answer(incarnation=2, pid=process)
    link.turn_until(lambda: link.started == [7, process])
    assert os.waitpid(process, 0) == (process, signal.SIGKILL)


def test_a_spare_that_dies_while_the_zygote_forks_another(process: int, link: Link) -> None:
    """
    It is heard of once, however long the zygote takes; then it is reaped.
    """
    spare(link, process)
    link.order(2)
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    link.reactor.turn(0)
    began = time.monotonic()
    link.reactor.turn(0.1)
    assert time.monotonic() - began >= 0.1
    link.answer(incarnation=2, pid=8)
    link.turn_until(lambda: process not in link.pids)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)


def test_a_spare_that_cannot_be_held(
    process: int, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    There is none, then: it ends, and orders go on.
    """

    def full(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    link.order(1)
    assert link.hear() == b"order 1"
    link.answer(incarnation=1, pid=7)
    assert link.hear() == {"kind": "spare"}
    monkeypatch.setattr(os, "pidfd_open", full)
    link.answer(spare=process)
    link.turn_until(lambda: not link.is_forking)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)
    link.order(2)
    assert link.hear() == b"order 2"


def test_a_spare_ends_with_the_link(process: int, link: Link) -> None:
    """
    Nothing is left of it when the node leaves.
    """
    spare(link, process)
    link.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)


def spare(link: Link, pid: int) -> None:
    link.order(1)
    assert link.hear() == b"order 1"
    link.answer(incarnation=1, pid=7)
    assert link.hear() == {"kind": "spare"}
    link.answer(spare=pid)
    link.turn_until(lambda: pid in link.pids)
