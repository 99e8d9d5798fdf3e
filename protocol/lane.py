"""Frames over one socket pair: `u32 length, body`, from both ends. Knows nothing of calls.

A lane belongs to one thread. Its socket never blocks; who wants to wait polls its descriptor.
"""

import os
import select
import time
from typing import Final

from protocol.codec import MAX_MESSAGE
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.kernel import cut, head_of, length_at, read, write, write_frame

_HEAD: Final = 4
"""Bytes of a frame's length."""

_FEW: Final = 448
"""Bytes asked of the kernel where little came last: what Python has in store, and a small call."""

_CHUNK: Final = 64 * 1024
"""Bytes asked of the kernel where much came last. The buffer is made before it is known how little
will come, and from 128 KiB on the C library fetches it from the kernel each time, for 50 us."""

_FULL: Final = _FEW - _HEAD
"""Bytes behind a frame's head, when there were at least as many as is asked for at first."""

MAX_OUTBOX: Final = 4 * MAX_MESSAGE
"""Bytes that wait for a peer which does not read, before its lane is given up."""


class PeerGone(Exception):
    """The peer is gone while somebody waits for it; no EOFError, which a plugin may raise too."""


class Lane:
    """One end of a lane. Lives until either end closes it.

    Args:
        fd: One end of a stream socket pair; the lane's own from now on.
    """

    __slots__ = ("_ask", "_at", "_gathered", "_is_open", "fd", "rest", "unsent")

    def __init__(self, fd: int) -> None:
        self._is_open = False
        os.set_blocking(fd, False)
        self.fd = fd
        self._is_open = True
        self.rest: bytes | bytearray = b""
        """What came with an earlier frame; `has_more` says whether it is a frame itself."""
        self._ask = _FEW
        self._at = 0
        """Where in it the next frame begins; what lies before was received."""
        self.unsent = bytearray()
        """What the peer has no room for yet."""
        self._gathered: bytearray | None = None
        """Frames that leave together; None while each leaves by itself."""

    def send(self, body: bytes) -> bool:
        """Send one frame, or keep what the peer has no room for yet.

        Returns:
            Whether everything has left; if not, call `flush` when the descriptor is writable.

        Raises:
            LocalProtocolError: The frame is too long; nothing was sent.
            BrokenPipeError: The peer is gone; nothing was sent.
            RemoteProtocolError: The peer does not read and has `MAX_OUTBOX` waiting already.
        """
        length = len(body)
        if length > MAX_MESSAGE:
            raise LocalProtocolError(f"a frame of {length} bytes; the limit is {MAX_MESSAGE}")
        if self.unsent or self._gathered is not None:
            return self._write(head_of(body) + body)
        # As `_write`, without the way there: nearly every frame leaves here.
        try:
            sent = write_frame(self.fd, body)
        except BlockingIOError:
            sent = 0
        return sent == _HEAD + length or self._keep((head_of(body) + body)[sent:])

    def send_both(self, first: bytes, second: bytes) -> bool:
        """Send two frames at once, as `send` does each; the first is known to be short enough."""
        if len(second) > MAX_MESSAGE:
            raise LocalProtocolError(f"a frame of {len(second)} bytes; the limit is {MAX_MESSAGE}")
        return self._write(b"".join((head_of(first), first, head_of(second), second)))

    def gather(self) -> None:
        """Keep the frames that are sent from now on, to send them at once by `release`.

        Should they become many before, they leave, and it gathers no more.
        """
        if self._gathered is None:
            self._gathered = bytearray()

    @property
    def is_gathering(self) -> bool:
        """Whether frames are kept until `release`."""
        return self._gathered is not None

    def release(self) -> bool:
        """Send what was gathered, and gather no more; as `send` otherwise."""
        gathered, self._gathered = self._gathered, None
        return self._write(gathered) if gathered else True

    def _write(self, frames: bytes | bytearray) -> bool:
        if self._gathered is not None:
            self._gathered += frames
            if len(self._gathered) < _CHUNK:
                return True
            frames, self._gathered = self._gathered, None
        if self.unsent:
            return self._keep(frames)
        try:
            sent = write(self.fd, frames)
        except BlockingIOError:
            sent = 0
        return sent == len(frames) or self._keep(memoryview(frames)[sent:])

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for the peer to have room."""
        return bool(self.unsent)

    def flush(self) -> bool:
        """Send what was kept; say whether all of it has left.

        Raises:
            BrokenPipeError: The peer is gone.
        """
        try:
            while self.unsent:
                del self.unsent[: write(self.fd, self.unsent)]
        except BlockingIOError:
            return False
        return True

    def finish(self, deadline: float) -> None:
        """Wait until all that was kept has left; `deadline` is on `time.monotonic()`.

        Raises:
            BrokenPipeError: The peer is gone.
            RemoteProtocolError: It has not read in time.
        """
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while not self.flush():
            if time.monotonic() > deadline:
                raise RemoteProtocolError("the peer does not read what it is sent")
            poll.poll(50)

    def receive(self) -> bytes | None:
        """Give the next frame if it is all here.

        Raises:
            EOFError: The peer is gone and has said all it had to say.
            RemoteProtocolError: The peer announces a frame that is too long.
        """
        frame = self.next() if self.rest else None
        try:
            while frame is None:
                chunk = read(self.fd, self._ask)
                # The common case by far: exactly one frame, which needs no buffer.
                length = len(chunk) - _HEAD
                if length < _FULL:
                    self._ask = _FEW
                elif self._ask == _FEW:
                    chunk = self._with_more(chunk)
                    length = len(chunk) - _HEAD
                if length >= 0 and not self.rest and length_at(chunk, 0) == length:
                    return cut(chunk, _HEAD, _HEAD + length)
                if not chunk:
                    raise EOFError
                self._add(chunk)
                frame = self.next()
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise EOFError from None
        return frame

    def _with_more(self, chunk: bytes) -> bytes:
        """Read on where more is here than was asked for: what came together is taken together."""
        self._ask = _CHUNK
        try:
            return chunk + read(self.fd, _CHUNK)
        except (BlockingIOError, ConnectionResetError):  # the latter says so again, as an end
            return chunk

    def next(self) -> bytes | None:
        """Give the next frame if it came with an earlier one; asks the kernel for nothing.

        Raises:
            RemoteProtocolError: The peer announces a frame that is too long.
        """
        here, at = self.rest, self._at
        known = len(here)
        start = at + _HEAD
        if start > known:
            return None
        length = length_at(here, at)
        end = start + length
        if end < known:  # then it cannot be too long: no more is read than the rest of a frame
            self._at = end
        elif length > MAX_MESSAGE:
            raise RemoteProtocolError(f"a frame of {length} bytes; the limit is {MAX_MESSAGE}")
        elif end == known:
            self.rest, self._at = b"", 0
        else:
            return None
        return cut(here, start, end)

    def _add(self, chunk: bytes) -> None:
        if not self.rest:
            self.rest = chunk
            return
        # A part of a frame: a buffer takes in the rest of it without copying it each time.
        here = self.rest if type(self.rest) is bytearray else bytearray(self.rest)
        del here[: self._at]
        here += chunk
        self.rest, self._at = here, 0

    def has_more(self) -> bool:
        """Say whether a whole frame is here, which no poll of the descriptor will announce."""
        left = len(self.rest) - self._at - _HEAD
        if left < 0:
            return False
        length = length_at(self.rest, self._at)
        return length > MAX_MESSAGE or left >= length

    def close(self) -> None:
        """Close this end; the peer sees the end of the stream. Harmless when it is closed."""
        if self._is_open:
            fd, self.fd, self._is_open = self.fd, -1, False
            os.close(fd)

    def __del__(self) -> None:
        # The lanes of a thread that has ended: nobody is left to close them.
        self.close()

    def _keep(self, rest: bytes | bytearray | memoryview) -> bool:
        if len(self.unsent) + len(rest) > MAX_OUTBOX:
            raise RemoteProtocolError("the peer does not read its lane")
        self.unsent += rest
        return False
