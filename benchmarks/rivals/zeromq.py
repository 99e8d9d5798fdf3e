"""Bare ZeroMQ, DEALER to ROUTER over `ipc://`: no calls, only the bytes of ours.

Arrays go without copies of pyzmq's own (`copy=False`), as its documentation advises for large
messages; the kernel and libzmq still copy.
"""

import contextlib
import struct
import sys
import tempfile
from collections.abc import Iterator
from typing import Final

import zmq

from benchmarks import bare
from benchmarks.rivals.frames import lane_frames
from benchmarks.rivals.roster import ADD, ARRAY, DEPTH, PIPELINE, Row
from benchmarks.rivals.servers import say_ready, serving
from benchmarks.rivals.work import ENDS, Arithmetic, Work, new_array, one_by_one

_REPLY: Final = struct.Struct("=d")


def serve(address: str) -> None:
    """Look at the arrays that come."""
    adder = Arithmetic()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(address)
        say_ready()
        while True:
            sender, array = router.recv_multipart(copy=False)
            router.send_multipart([sender, _REPLY.pack(adder.ends_of_bytes(array.buffer))])


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    call, reply = lane_frames()
    array = new_array().data
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        bare.running("zmq-echo", f"ipc://{folder}/echo", reply.hex()),
        serving(__spec__.name, f"ipc://{folder}/arrays"),
        zmq.Context() as context,
        context.socket(zmq.DEALER) as echo,
        context.socket(zmq.DEALER) as arrays,
    ):
        echo.connect(f"ipc://{folder}/echo")
        arrays.connect(f"ipc://{folder}/arrays")
        send, receive = echo.send, echo.recv

        def exchanges(count: int) -> None:
            for _ in range(count):
                send(call)
                receive()

        def in_flight(count: int) -> None:
            for _ in range(count // DEPTH):
                for _ in range(DEPTH):
                    send(call)
                for _ in range(DEPTH):
                    receive()

        def send_array() -> float:
            arrays.send(array, copy=False)
            return float(_REPLY.unpack(arrays.recv())[0])

        yield {ADD: exchanges, PIPELINE: in_flight, ARRAY: one_by_one(ENDS, send_array)}


if __name__ == "__main__":
    serve(*sys.argv[1:])
