"""RPyC over a socket pair, uncompressed.

By default a channel compresses what is longer than 3,000 bytes, which is for networks: compressing
costs more than copying. The function is looked up once, since each look-up is an exchange.
"""

import contextlib
import socket
import sys
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import rpyc
from rpyc.core.channel import Channel
from rpyc.core.stream import SocketStream
from rpyc.utils.factory import connect_channel
from rpyc.utils.helpers import async_, buffiter

from benchmarks.rivals.roster import ADD, ARRAY, CALLBACK, PIPELINE, STREAM, Row
from benchmarks.rivals.servers import say_ready, serving_on_pair
from benchmarks.rivals.work import (
    ENDS,
    SUM,
    Arithmetic,
    Work,
    in_flight,
    item_by_item,
    new_array,
    one_by_one,
)


class _Stream(SocketStream):  # type: ignore[misc]
    """A socket that is written to in pieces of 16 MiB.

    After each piece the rest is copied, so that with pieces of 64 kB, the default, 64 MB take
    10 s. Smaller and larger ones than these were slower.
    """

    MAX_IO_CHUNK = 1 << 24


class _Service(Arithmetic, rpyc.Service):  # type: ignore[misc] # the package has no types
    """Offers `Arithmetic`."""


def _connected(end: socket.socket, **options: Any) -> Any:  # noqa: ANN401
    return connect_channel(Channel(_Stream(end), compress=False), **options)


def serve(fd: str) -> None:
    """Answer until the caller is gone."""
    end = socket.socket(fileno=int(fd))
    connection = _connected(end, service=_Service, config={"allow_public_attrs": True})
    say_ready()
    connection.serve_all()


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    array = new_array()
    with serving_on_pair(__spec__.name) as end, _connected(end) as connection:
        adder = connection.root
        submit, send, rows = async_(adder.add), adder.ends_of_bytes, adder.count_up
        yield {
            ADD: one_by_one(SUM, adder.add, 1, 2),
            PIPELINE: in_flight(lambda: submit(1, 2), attrgetter("value")),
            ARRAY: one_by_one(ENDS, lambda: send(array.tobytes())),
            CALLBACK: one_by_one(1, adder.call_back, lambda value: value),
            STREAM: item_by_item(lambda count: buffiter(rows(count))),
        }


if __name__ == "__main__":
    serve(*sys.argv[1:])
