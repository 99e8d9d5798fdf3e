import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from plugin_worker.node.launcher import Order, Started
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

    def __post_init__(self) -> None:
        super().__init__(Reactor(), self.folder / "lib", self.folder / "tmp")

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
                started=_never,
                failed=self.failures.append,
            )
        )


def _never(started: Started) -> None:
    raise AssertionError(started)


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
