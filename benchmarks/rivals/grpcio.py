"""gRPC's synchronous stack over a unix socket, with msgpack bodies in generic handlers.

A body of two small integers takes as many bytes in msgpack as in protobuf, and no generated code
is needed; arrays travel as they are. Received messages may be of any size, which by default they
may not.
"""

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from typing import Final

import grpc
import grpc.experimental
import msgpack

from benchmarks.rivals.roster import ADD, ARRAY, PIPELINE, STREAM, Row
from benchmarks.rivals.servers import say_ready, serving_at_path
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

SERVICE: Final = "adder"
OPTIONS: Final = [("grpc.max_receive_message_length", -1)]


def serve(path: str) -> None:
    """Answer until killed."""
    # One thread: the handlers never wait, and on one core more would only take turns.
    server = grpc.server(ThreadPoolExecutor(1), options=OPTIONS)
    adder = Arithmetic()
    packed = {"request_deserializer": msgpack.unpackb, "response_serializer": msgpack.packb}
    plain, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "add": plain(lambda request, _: adder.add(*request), **packed),
        "ends": plain(
            lambda request, _: adder.ends_of_bytes(request), response_serializer=msgpack.packb
        ),
        "count_up": stream(lambda request, _: adder.count_up(request), **packed),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    say_ready()
    server.wait_for_termination()


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    array = new_array()
    packed = {"request_serializer": msgpack.packb, "response_deserializer": msgpack.unpackb}
    single_threaded = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with (
        serving_at_path(__spec__.name) as path,
        grpc.insecure_channel(f"unix:{path}", options=[*OPTIONS, single_threaded]) as channel,
    ):
        add = channel.unary_unary(f"/{SERVICE}/add", **packed)
        send = channel.unary_unary(f"/{SERVICE}/ends", response_deserializer=msgpack.unpackb)
        rows = channel.unary_stream(f"/{SERVICE}/count_up", **packed)
        yield {
            ADD: one_by_one(SUM, add, (1, 2)),
            PIPELINE: in_flight(lambda: add.future((1, 2)), methodcaller("result")),
            ARRAY: one_by_one(ENDS, lambda: send(array.tobytes())),
            STREAM: item_by_item(rows),
        }


if __name__ == "__main__":
    serve(*sys.argv[1:])
