import errno
import os
import socket
from collections.abc import Iterator

import pytest

from plugin_worker.node.backlog import AGAIN_S, flush_later
from protocol import reactor as reactor_module
from protocol.packets import Kind
from protocol.reactor import Reactor
from protocol.umbilical import Umbilical
from tests.clock import Clock


class Crowded(socket.socket):
    """A socket of a user who has too many descriptors on their way, until it has fewer."""

    is_crowded = True
    tries = 0

    def sendmsg(self, *arguments: object) -> int:
        self.tries += 1
        if self.is_crowded:
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return super().sendmsg(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def pair() -> Iterator[tuple[Crowded, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    crowded = Crowded(fileno=ours.detach())
    yield crowded, theirs
    crowded.close()
    theirs.close()


def test_what_is_held_up_is_tried_now_and_then(
    pair: tuple[Crowded, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Not in a loop that takes the processor, however many messages wait; and it does leave.
    """
    monkeypatch.setattr(reactor_module, "monotonic", (clock := Clock()).monotonic)
    end, theirs = pair
    reactor, umbilical = Reactor(), Umbilical(end, takes_descriptors=False)

    def flush() -> None:
        if umbilical.flush():
            reactor.forget_writable(umbilical.fd)
        else:
            flush_later(reactor, umbilical, flush)

    for _ in range(3):
        assert not umbilical.send(Kind.NODE, b"lane", (theirs.fileno(),))
        flush_later(reactor, umbilical, flush)
    for _ in range(4):
        reactor.turn(0)
    assert end.tries == 1

    end.is_crowded = False
    clock.now += AGAIN_S
    while umbilical.backlog:
        reactor.turn(0)
    assert end.tries == 4
    assert len(theirs.recv(64)) > len(b"lane")
    reactor.close()
