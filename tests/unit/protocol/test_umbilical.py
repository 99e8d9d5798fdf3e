import os
import socket
from collections.abc import Iterator

import pytest

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.packets import MAX_PACKET, Kind
from protocol.umbilical import MAX_BACKLOG, Umbilical
from tests.descriptors import count_open

LARGE = bytes(900_000)


@pytest.fixture
def pair() -> Iterator[tuple[Umbilical, Umbilical]]:
    """A node's end and a worker's end."""
    up, down = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    node = Umbilical(up, takes_descriptors=False)
    worker = Umbilical(down, takes_descriptors=True)
    yield node, worker
    node.close()
    worker.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe to pass on."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


class TestUmbilical:
    def test_messages_arrive_with_their_kind(self, pair: tuple[Umbilical, Umbilical]) -> None:
        """
        Both ends send messages of every kind, empty ones too.
        """
        node, worker = pair
        for kind in Kind:
            assert node.send(kind, b"")
            assert worker.send(kind, b"up")

        assert [worker.receive() for _ in Kind] == [(kind, b"", []) for kind in Kind]
        assert [node.receive() for _ in Kind] == [(kind, b"up", []) for kind in Kind]
        assert node.receive() is None

    def test_a_descriptor_flows_down(
        self, pair: tuple[Umbilical, Umbilical], pipe: tuple[int, int]
    ) -> None:
        """
        The worker is given a descriptor of its own, with the message it belongs to.
        """
        node, worker = pair
        node.send(Kind.NODE, b"before")
        node.send(Kind.NODE, b"here", (pipe[1],))

        assert worker.receive() == (Kind.NODE, b"before", [])
        message = worker.receive()
        assert message is not None
        (fd,) = message[2]
        os.write(fd, b"x")
        os.close(fd)
        assert os.read(pipe[0], 1) == b"x"

    def test_a_descriptor_does_not_flow_up(
        self, pair: tuple[Umbilical, Umbilical], pipe: tuple[int, int]
    ) -> None:
        """
        What a hostile worker attaches never becomes the node's.
        """
        node, worker = pair
        worker.send(Kind.NODE, b"gift", (pipe[1],))

        assert node.receive() == (Kind.NODE, b"gift", [])

    def test_what_there_is_no_room_for_is_kept(
        self, pair: tuple[Umbilical, Umbilical], pipe: tuple[int, int]
    ) -> None:
        """
        Messages and descriptors that wait leave in order once there is room.
        """
        node, worker = pair
        assert not node.send(Kind.RELAY, LARGE)
        assert not node.send(Kind.NODE, b"last", (pipe[0],))
        assert node.backlog > 0
        received: list[tuple[Kind, bytes, list[int]]] = []
        while len(received) < 2:
            node.flush()
            if (message := worker.receive()) is not None:
                received.append(message)

        assert node.flush()
        assert node.backlog == 0
        assert [(kind, body) for kind, body, _ in received] == [
            (Kind.RELAY, LARGE),
            (Kind.NODE, b"last"),
        ]
        os.close(received[1][2][0])

    def test_a_worker_that_does_not_read_is_given_up(
        self, pair: tuple[Umbilical, Umbilical]
    ) -> None:
        """
        What waits for one worker is bounded.
        """
        node, _ = pair
        for _ in range(MAX_BACKLOG // len(LARGE)):
            node.send(Kind.EVENTS, LARGE)

        with pytest.raises(RemoteProtocolError, match="does not read"):
            node.send(Kind.EVENTS, LARGE)

    def test_closing_lets_go_of_every_descriptor(
        self, pair: tuple[Umbilical, Umbilical], pipe: tuple[int, int]
    ) -> None:
        """
        Descriptors that were still to leave or to be taken do not outlive the umbilical.
        """
        node, worker = pair
        before = count_open()
        node.send(Kind.RELAY, LARGE)
        node.send(Kind.NODE, b"kept", (pipe[1],))
        assert count_open() == before + 1

        node.close()
        worker.close()

        assert count_open() == before - 2

    def test_the_end_of_a_peer_is_seen(self, pair: tuple[Umbilical, Umbilical]) -> None:
        """
        Who waits for a peer that is gone is told so, and cannot send to it.
        """
        node, worker = pair
        worker.send(Kind.NODE, b"bye")
        node.send(Kind.NODE, b"unread")
        worker.close()

        assert node.receive() == (Kind.NODE, b"bye", [])
        with pytest.raises(EOFError):
            node.receive()
        with pytest.raises(OSError, match="Broken pipe"):
            node.send(Kind.NODE, b"too late")

    @pytest.mark.parametrize("packet", [b"x", b"q\0\0\0\1", bytes(MAX_PACKET + 9)], ids=len)
    def test_what_is_no_packet_is_refused(self, packet: bytes) -> None:
        """
        A worker that says nonsense breaks the protocol, whatever its length.
        """
        up, down = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        node = Umbilical(up, takes_descriptors=False)
        with down:
            down.send(packet)
            with pytest.raises(RemoteProtocolError):
                node.receive()
        node.close()

    def test_a_message_that_is_too_long_is_not_sent(
        self, pair: tuple[Umbilical, Umbilical]
    ) -> None:
        """
        Our own message beyond the limit is refused whole.
        """
        node, worker = pair
        with pytest.raises(LocalProtocolError):
            node.send(Kind.NODE, bytes(2 << 20))
        assert worker.receive() is None

    def test_who_is_heard_no_more_has_been_heard_to_the_end(
        self, pair: tuple[Umbilical, Umbilical]
    ) -> None:
        """
        What was said before can be received; then it is over, whoever still has the other end.
        """
        node, worker = pair
        worker.send(Kind.NODE, b"first")
        worker.send(Kind.NODE, b"last")
        node.stop_hearing()
        with pytest.raises(BrokenPipeError):
            worker.send(Kind.NODE, b"more")

        assert node.receive() == (Kind.NODE, b"first", [])
        assert node.receive() == (Kind.NODE, b"last", [])
        with pytest.raises(EOFError):
            node.receive()
