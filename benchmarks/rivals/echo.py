"""The bytes of our own call and reply through a bare socket pair: the bound, not a rival."""

import contextlib
import socket
from collections.abc import Iterator

from benchmarks import bare
from benchmarks.rivals.frames import lane_frames
from benchmarks.rivals.roster import ADD, Row
from benchmarks.rivals.work import Work


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    call, reply = lane_frames()
    ours, theirs = socket.socketpair()
    with ours, bare.running("echo", str(theirs.fileno()), reply.hex(), fds=(theirs.fileno(),)):
        theirs.close()
        send, receive = ours.send, ours.recv

        def exchanges(count: int) -> None:
            for _ in range(count):
                send(call)
                receive(bare.SIZE)

        yield {ADD: exchanges}
