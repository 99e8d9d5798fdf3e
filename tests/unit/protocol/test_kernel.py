import errno
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from protocol.kernel import cut, head_of, length_at, put, read, wait, write, write_frame


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a stream, neither of which blocks."""
    one, other = socket.socketpair()
    for end in (one, other):
        end.setblocking(False)
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def epoll(pair: tuple[socket.socket, socket.socket]) -> Iterator[select.epoll]:
    """What tells when the first end can be read."""
    with select.epoll() as epoll:
        epoll.register(pair[0], select.EPOLLIN)
        yield epoll


class TestStreams:
    @pytest.mark.parametrize("size", [0, 1, 508, 509, 5_000])
    def test_a_frame_is_its_length_and_its_body(
        self, pair: tuple[socket.socket, socket.socket], size: int
    ) -> None:
        """
        However long it is, it leaves at once where there is room.
        """
        one, other = pair
        body = os.urandom(size)

        assert write_frame(other.fileno(), body) == 4 + size
        assert read(one.fileno(), 10_000) == struct.pack("!I", size) + body

    @pytest.mark.parametrize("kind", [bytes, bytearray])
    def test_what_there_is_no_room_for_does_not_leave(
        self, pair: tuple[socket.socket, socket.socket], kind: type[bytes | bytearray]
    ) -> None:
        """
        It is said how much has left; where nothing can, that is an error, as `os.write` has it.
        """
        one, other = pair
        much = kind(b"x" * 1_000_000)
        left = write_frame(other.fileno(), bytes(much))
        assert 0 < left < len(much)
        with suppress(BlockingIOError):
            while True:
                left += write(other.fileno(), much)
        with pytest.raises(BlockingIOError):
            write_frame(other.fileno(), b"more")

        came = 0
        while came < left:
            came += len(read(one.fileno(), 1 << 20))
        with pytest.raises(BlockingIOError):
            read(one.fileno(), 1)

    def test_no_more_is_read_than_was_asked_for(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        What is left is there for the next; at the end of the stream there is nothing.
        """
        one, other = pair
        other.send(b"x" * 2_000)

        assert [len(read(one.fileno(), most)) for most in (3, 512, 513, 5_000)] == [
            3,
            512,
            513,
            972,
        ]
        other.close()
        assert read(one.fileno(), 448) == b""

    def test_what_the_kernel_refuses_is_an_error(self) -> None:
        """
        With the kernel's own number.
        """
        one, other = os.pipe()
        os.close(one)
        os.close(other)
        for call in (lambda: read(one, 1), lambda: write(one, b"x"), lambda: write_frame(one, b"")):
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                call()


class TestBytes:
    @pytest.mark.parametrize("kind", [bytes, bytearray])
    def test_frames_are_cut_out_of_what_has_come(self, kind: type[bytes | bytearray]) -> None:
        """
        Whether that is bytes, or a buffer that has taken in the parts of a frame.
        """
        data = kind(b"before" + head_of(b"body") + b"body" + b"after")

        assert length_at(data, 6) == 4
        assert cut(data, 10, 14) == b"body"
        assert type(cut(data, 10, 14)) is bytes

    def test_a_length_has_32_bits(self) -> None:
        """
        No sign: a peer that lies is too long, and never less than nothing.
        """
        assert length_at(b"\xff\xff\xff\xff", 0) == 2**32 - 1

    def test_what_is_put_lies_where_it_was_put(self) -> None:
        """
        And nothing else is touched.
        """
        page = bytearray(8)
        put(memoryview(page), 3, b"abc")

        assert page == b"\0\0\0abc\0\0"


class TestWait:
    def test_it_says_what_has_happened(
        self, epoll: select.epoll, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        For as long as nobody reads it, and without a limit too.
        """
        one, other = pair
        assert wait(epoll, 0) == []
        other.send(b"x")

        assert wait(epoll, 0) == wait(epoll, -1) == [(one.fileno(), select.EPOLLIN)]

    def test_no_time_is_cut_short(self, epoll: select.epoll) -> None:
        """
        Whoever was promised a time has waited for it, a part of a millisecond too.
        """
        began = time.monotonic()

        assert wait(epoll, 0.0101) == []
        assert time.monotonic() - began >= 0.0101

    def test_a_signal_is_handled_and_does_not_end_it(self, epoll: select.epoll) -> None:
        """
        Its handler runs meanwhile; the time goes on.
        """
        seen: list[float] = []
        before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(time.monotonic()))
        began = time.monotonic()
        main = threading.main_thread().ident
        assert main is not None
        knock = threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1))
        knock.start()
        try:
            assert wait(epoll, 0.2) == []
            ended = time.monotonic()
        finally:
            knock.join()
            signal.signal(signal.SIGUSR1, before)

        assert len(seen) == 1
        assert began <= seen[0] < ended
        assert ended - began >= 0.2

    def test_what_a_handler_raises_ends_it(self, epoll: select.epoll) -> None:
        """
        One that came before it began, too.
        """

        def leave(*_: object) -> None:
            raise InterruptedError

        before = signal.signal(signal.SIGUSR1, leave)
        main = threading.main_thread().ident
        assert main is not None
        knock = threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1))
        knock.start()
        try:
            with pytest.raises(InterruptedError):
                wait(epoll, -1)
        finally:
            knock.join()
            signal.signal(signal.SIGUSR1, before)

    def test_what_is_closed_is_not_waited_for(self) -> None:
        """
        Its number may be another's by now.
        """
        epoll = select.epoll()
        epoll.close()
        with pytest.raises(ValueError, match="closed"):
            wait(epoll, 0)

    def test_what_is_no_time_is_not_waited_for(self, epoll: select.epoll) -> None:
        """
        It would be for ever.
        """
        with pytest.raises(ValueError, match="not a number|NaN"):
            wait(epoll, float("nan"))
