"""Pyro5 with its msgpack serializer, over a socket pair.

A daemon on a connected socket serves it from its one thread, without a pool to hand calls to. The
serializer is the one that ours uses too; the default, serpent, is text and slower.
"""

import contextlib
import socket
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import Pyro5.api

from benchmarks.rivals.roster import ADD, ARRAY, DEPTH, PIPELINE, STREAM, Row
from benchmarks.rivals.servers import say_ready, serving_on_pair
from benchmarks.rivals.work import ENDS, SUM, Arithmetic, Work, item_by_item, new_array, one_by_one

_NAME: Final = "adder"


def serve(fd: str) -> None:
    """Answer until the caller is gone."""
    Pyro5.api.config.SERIALIZER = "msgpack"
    with socket.socket(fileno=int(fd)) as end:
        daemon = Pyro5.api.Daemon(connected_socket=end)
        daemon.register(Pyro5.api.expose(Arithmetic)(), _NAME)
        say_ready()
        daemon.requestLoop()


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    Pyro5.api.config.SERIALIZER = "msgpack"
    buffer = new_array().data.cast("B")
    with (
        serving_on_pair(__spec__.name) as end,
        Pyro5.api.Proxy(_NAME, connected_socket=end) as adder,
    ):
        yield {
            ADD: one_by_one(SUM, adder.add, 1, 2),
            PIPELINE: _batches(adder),
            ARRAY: one_by_one(ENDS, adder.ends_of_bytes, buffer),
            STREAM: item_by_item(adder.count_up),
        }


def _batches(adder: Any) -> Work:  # noqa: ANN401 - a proxy
    def work(count: int) -> None:
        batch = Pyro5.api.BatchProxy(adder)
        for _ in range(count // DEPTH):
            for _ in range(DEPTH):
                batch.add(1, 2)
            deque(batch(), maxlen=0)

    return work


if __name__ == "__main__":
    serve(*sys.argv[1:])
