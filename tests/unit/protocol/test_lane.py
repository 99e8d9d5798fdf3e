import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import MAX_MESSAGE
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.lane import MAX_OUTBOX, Lane
from tests.only_plain import only_plain


@pytest.fixture
def pair() -> Iterator[tuple[Lane, Lane]]:
    """Two ends of a lane."""
    one, other = (Lane(end.detach()) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Lane]]:
    """A peer that may say anything, and our end."""
    peer, ours = socket.socketpair()
    lane = Lane(ours.detach())
    yield peer, lane
    peer.close()
    lane.close()


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


class TestLane:
    def test_frames_arrive_in_order(self, pair: tuple[Lane, Lane]) -> None:
        """
        Both ends send, and each frame arrives whole.
        """
        one, other = pair
        assert one.send(b"first")
        assert one.send(b"")
        assert other.send(b"back")

        assert [other.receive(), other.receive(), other.receive()] == [b"first", b"", None]
        assert one.receive() == b"back"

    @given(st.lists(st.binary(max_size=20), max_size=5), st.data())
    def test_any_chunking_is_put_together(self, bodies: list[bytes], data: st.DataObject) -> None:
        """
        However the kernel cuts the stream, the same frames come out.
        """
        peer, ours = socket.socketpair()
        lane = Lane(ours.detach())
        stream = b"".join(map(frame, bodies))
        received = []
        with peer:
            while stream:
                size = data.draw(st.integers(1, len(stream)))
                peer.send(stream[:size])
                stream = stream[size:]
                while (body := lane.receive()) is not None:
                    received.append(body)
        with pytest.raises(EOFError):
            lane.receive()
        lane.close()

        assert received == bodies

    def test_only_a_whole_frame_is_more(self, raw: tuple[socket.socket, Lane]) -> None:
        """
        Who waits for a frame is told of one that is here, and not of a part, which would spin.
        """
        peer, lane = raw
        peer.send(frame(b"one") + frame(b"two") + frame(b"three")[:5])

        assert lane.receive() == b"one"
        assert lane.has_more()
        assert lane.receive() == b"two"
        assert not lane.has_more()
        assert lane.receive() is None
        peer.send(frame(b"three")[5:] + b"\0")
        assert lane.receive() == b"three"
        assert not lane.has_more()

    @pytest.mark.parametrize("before", [b"", frame(b"fine")])
    def test_a_frame_that_is_too_long_is_refused(
        self, raw: tuple[socket.socket, Lane], before: bytes
    ) -> None:
        """
        A length beyond the limit ends the lane before anything is kept for it.
        """
        peer, lane = raw
        peer.send(before + (MAX_MESSAGE + 1).to_bytes(4, "big"))
        if before:
            assert lane.receive() == b"fine"
            assert lane.has_more()

        with pytest.raises(RemoteProtocolError):
            lane.receive()

    def test_our_own_long_frame_is_not_sent(self, pair: tuple[Lane, Lane]) -> None:
        """
        A frame beyond the limit is refused, and the lane goes on.
        """
        one, other = pair
        with pytest.raises(LocalProtocolError):
            one.send(bytes(MAX_MESSAGE + 1))

        one.send(b"next")
        assert other.receive() == b"next"

    def test_what_there_is_no_room_for_is_kept(self, pair: tuple[Lane, Lane]) -> None:
        """
        Large frames leave piece by piece, in order, while the peer reads.
        """
        one, other = pair
        assert not one.send(b"a" * MAX_MESSAGE)
        assert not one.send(b"b")
        received: list[bytes] = []
        while len(received) < 2:
            one.flush()
            if (body := other.receive()) is not None:
                received.append(body)

        assert received == [b"a" * MAX_MESSAGE, b"b"]
        assert one.flush()

    def test_what_is_gathered_leaves_together(self, pair: tuple[Lane, Lane]) -> None:
        """
        Nothing leaves before it is released, and then all of it in its order.
        """
        one, other = pair
        one.gather()
        assert one.send(b"first")
        one.gather()
        assert one.send(b"second")
        assert (other.receive(), one.is_gathering) == (None, True)

        assert one.release()
        assert [other.receive(), other.receive(), other.receive()] == [b"first", b"second", None]
        assert one.send(b"third")
        assert (other.receive(), one.is_gathering) == (b"third", False)

    def test_what_is_gathered_is_bounded(self, pair: tuple[Lane, Lane]) -> None:
        """
        Much of it leaves by itself, and what follows does not overtake what there was no room for.
        """
        one, other = pair
        one.gather()
        one.send(b"a" * MAX_MESSAGE)
        assert (one.is_gathering, one.has_unsent) == (False, True)
        one.gather()
        one.send(b"b")
        assert not one.release()
        received: list[bytes] = []
        while len(received) < 2:
            one.flush()
            if (body := other.receive()) is not None:
                received.append(body)

        assert received == [b"a" * MAX_MESSAGE, b"b"]

    def test_nothing_gathered_is_sent_to_a_peer_that_is_gone(self, pair: tuple[Lane, Lane]) -> None:
        """
        Whoever releases it is told, and it is told once.
        """
        one, other = pair
        one.gather()
        one.send(b"first")
        other.close()

        with pytest.raises(BrokenPipeError):
            one.release()
        assert one.release()

    def test_a_peer_that_does_not_read_is_given_up(self, pair: tuple[Lane, Lane]) -> None:
        """
        What waits for a peer is bounded.
        """
        one, _ = pair
        for _ in range(MAX_OUTBOX // MAX_MESSAGE):
            one.send(bytes(MAX_MESSAGE))

        with pytest.raises(RemoteProtocolError, match="does not read"):
            one.send(bytes(MAX_MESSAGE))

    def test_the_end_comes_after_the_last_word(self, pair: tuple[Lane, Lane]) -> None:
        """
        What a peer said before it left is still heard.
        """
        one, other = pair
        one.send(b"bye")
        one.close()

        assert other.receive() == b"bye"
        with pytest.raises(EOFError):
            other.receive()
        with pytest.raises(BrokenPipeError):
            other.send(b"too late")

    def test_a_peer_that_left_without_reading_is_at_its_end(
        self, raw: tuple[socket.socket, Lane]
    ) -> None:
        """
        A connection that was reset is an end like any other.
        """
        peer, lane = raw
        lane.send(b"never read")
        peer.close()

        with pytest.raises(EOFError):
            lane.receive()

    def test_what_came_together_is_received_together(self, raw: tuple[socket.socket, Lane]) -> None:
        """
        However little is asked for at first: who has received the first frame has the others.
        """
        peer, lane = raw
        bodies = [bytes([n]) * 100 for n in range(20)]
        peer.sendall(b"".join(map(frame, bodies)))

        assert [lane.receive(), *(lane.next() for _ in bodies[1:])] == bodies

    def test_a_peer_that_left_without_reading_has_said_what_it_said(
        self, raw: tuple[socket.socket, Lane]
    ) -> None:
        """
        A connection that was reset ends after the last frame, also where more came than was asked.
        """
        peer, lane = raw
        lane.send(b"never read")
        peer.sendall(frame(b"x" * 100) * 20)
        peer.close()

        assert [lane.receive() for _ in range(20)] == [b"x" * 100] * 20
        with pytest.raises(EOFError):
            lane.receive()

    @only_plain
    def test_little_is_asked_for_where_little_comes(
        self, raw: tuple[socket.socket, Lane], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A buffer for much takes longer to make than a small frame to read; many frames in a row that
        are large are read with one buffer each.
        """
        peer, lane = raw
        asked: list[int] = []
        read = os.read

        def spy(fd: int, size: int) -> bytes:
            asked.append(size)
            return read(fd, size)

        monkeypatch.setattr(os, "read", spy)
        for size in (9, 999, 999, 9, 9):
            peer.sendall(frame(b"x" * size))
            assert lane.receive() == b"x" * size

        assert [size > 1000 for size in asked] == [False, False, True, True, True, False]
