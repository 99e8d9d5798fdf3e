"""gRPC's asyncio stack over a unix socket: its documentation's faster way, and its `async def`.

Both ends run an event loop; bodies are msgpack, as in the synchronous stack's rival.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import grpc.aio
import msgpack

from benchmarks.rivals.roster import ADD, ASYNC, DEPTH, PIPELINE, Row
from benchmarks.rivals.servers import say_ready, serving_at_path
from benchmarks.rivals.work import SUM, Work, check

_METHOD: Final = "/adder/add"


async def _add(request: tuple[int, int], _: Any) -> int:  # noqa: ANN401 - grpc has no types
    return request[0] + request[1]


async def serve(path: str) -> None:
    """Answer until killed."""
    server = grpc.aio.server()
    add = grpc.unary_unary_rpc_method_handler(
        _add, request_deserializer=msgpack.unpackb, response_serializer=msgpack.packb
    )
    _, service, name = _METHOD.split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: add})])
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    say_ready()
    await server.wait_for_termination()


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    with serving_at_path(__spec__.name) as path, asyncio.Runner() as runner:
        channel = runner.run(_channel(path))
        add = channel.unary_unary(
            _METHOD, request_serializer=msgpack.packb, response_deserializer=msgpack.unpackb
        )

        async def add_once() -> object:
            return await add((1, 2))

        async def one_by_one(count: int) -> None:
            for _ in range(count):
                await add((1, 2))

        async def gathered(count: int) -> None:
            for _ in range(count // DEPTH):
                await asyncio.gather(*(add((1, 2)) for _ in range(DEPTH)))

        check(runner.run(add_once()), SUM)
        yield {
            ADD: lambda count: runner.run(one_by_one(count)),
            ASYNC: lambda count: runner.run(one_by_one(count)),
            PIPELINE: lambda count: runner.run(gathered(count)),
        }
        runner.run(channel.close())


async def _channel(path: str) -> Any:  # noqa: ANN401
    return grpc.aio.insecure_channel(f"unix:{path}")  # belongs to the loop it is made in


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
