"""Read a line in a thread that waits for it, which nobody drives meanwhile.

What comes is taken in as it would be by a loop: other answers are kept, calls are served or held.
"""

import select
from time import monotonic
from typing import TYPE_CHECKING, Any

from protocol.calls import is_value
from protocol.errors import Cancelled, RemoteProtocolError
from protocol.lane import PeerGone
from protocol.turn import Current

if TYPE_CHECKING:
    from protocol.line import Line


def next_word(line: "Line", number: int, until: float) -> list[Any] | None:
    """Give the outcome of a call if that is the next thing that comes by `until`.

    Anything else is taken in, for `read` to go on from.

    Raises:
        PeerGone, RemoteProtocolError: As `read`.
    """
    lane = line.lane
    if line.is_lost or line.early:
        return None
    if not (lane.rest and lane.has_more()) and (not line.wait(until) or line.is_lost):
        return None
    try:
        frame = lane.receive()
        while frame is not None:
            parts = line.unpack(frame)
            if is_value(parts) and parts[0] == number and not line.adopted:
                word: list[Any] = parts
                return word
            line.sort(parts, len(frame))
            # What it gives back comes before an answer, and with it.
            frame = None if line.early or line.is_lost else lane.next()
    except EOFError:
        line.lose()
        raise PeerGone from None
    except RemoteProtocolError:
        line.lose()
        raise
    return line.early.pop(number, None)


def read(line: "Line", deadline: float, current: Current) -> None:
    """Wait until something has come, and take it in.

    Args:
        current: The call on whose behalf this thread waits.

    Raises:
        PeerGone: The line is closed.
        TimeoutError: The time is up.
        Cancelled: Nobody waits for `current` any more.
        RemoteProtocolError: The peer broke the protocol; the line is closed.
    """
    if line.is_lost:
        raise PeerGone
    if not line.lane.has_more():
        if current.is_cancelled:
            raise Cancelled("")
        if line.lane.has_unsent:
            _flush_again(line)
        if not line.wait(deadline):
            raise TimeoutError
        if line.is_lost:
            raise PeerGone
    try:
        line.take_in()
    except EOFError:
        line.lose()
        raise PeerGone from None
    except RemoteProtocolError:
        line.lose()
        raise


def _flush_again(line: "Line") -> None:
    try:
        line.flush()
    except OSError:
        line.lose()
        raise PeerGone from None


def finish(line: "Line", deadline: float) -> None:
    """Wait until a call has left of which the peer had room for a part only.

    Raises:
        PeerGone: The line is closed; the peer may have had all of it.
        RemoteProtocolError: It broke the protocol; the line is closed.
        TimeoutError: It has not read in time.
    """
    poll = select.poll()
    poll.register(line.lane.fd, select.POLLIN | select.POLLOUT)
    try:
        while not line.flush():
            left = deadline - monotonic()
            if left <= 0:
                break
            poll.poll(min(left * 1000 + 1, 50))
            # It may have to be rid of answers before it takes in more calls.
            frame = line.lane.receive()
            if frame is not None:
                line.take(frame)
        else:
            return
    except (EOFError, OSError):
        line.lose()
        raise PeerGone from None
    except RemoteProtocolError:
        line.lose()
        raise
    raise TimeoutError
