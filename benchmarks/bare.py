"""The other ends of the baselines, as processes: `python -m benchmarks.bare ROLE ARGUMENT...`.

    echo FD ANSWER               answers on a socket pair what it was told to answer
    zmq-echo ADDRESS ANSWER      the same by ZeroMQ
    proxy IN OUT                 ZeroMQ's own XSUB/XPUB proxy
    publisher IN CONTROL TOPIC PAYLOAD   publishes on request, as fast as it can

They do what anybody would do first with the same means, and nothing else.
"""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final

SIZE: Final = 4096
IMPORTS: Final = [sys.executable, "-c", "import zmq, msgpack; print('ready', flush=True)"]
"""What a worker that spoke ZeroMQ itself would need before it is ready."""


@contextlib.contextmanager
def running(role: str, *arguments: str, fds: tuple[int, ...] = ()) -> Iterator[None]:
    """Have one of these processes for a while."""
    process = subprocess.Popen(command(role, *arguments), pass_fds=fds)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def command(role: str, *arguments: str) -> list[str]:
    """Give the command line of one of these processes."""
    return [sys.executable, "-m", "benchmarks.bare", role, *arguments]


def echo(fd: str, answer: str) -> None:
    """Answer everything with the same bytes, blocking in `recv`."""
    end, reply = socket.socket(fileno=int(fd)), bytes.fromhex(answer)
    while end.recv(SIZE):
        end.send(reply)


def zmq_echo(address: str, answer: str) -> None:
    """Answer everything with the same bytes."""
    import zmq  # noqa: PLC0415 - the roles without ZeroMQ are measured without it

    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(address)
        reply = bytes.fromhex(answer)
        while True:
            sender, _ = router.recv_multipart()
            router.send_multipart([sender, reply])


def proxy(into: str, out: str) -> None:
    """Pass on what is published, by ZeroMQ's own proxy."""
    import zmq  # noqa: PLC0415

    with zmq.Context() as context:
        front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
        for end, address in ((front, into), (back, out)):
            end.set_hwm(0)
            end.bind(address)
        zmq.proxy(front, back)


def publisher(into: str, control: str, topic: str, payload: str) -> None:
    """Publish the same event as often as the control socket says, then say when it began."""
    import time  # noqa: PLC0415

    import zmq  # noqa: PLC0415

    with zmq.Context() as context:
        bus, orders = context.socket(zmq.PUB), context.socket(zmq.REP)
        bus.set_hwm(0)
        bus.connect(into)
        orders.bind(control)
        frames = [topic.encode() + b"\0", bytes.fromhex(payload)]
        while True:
            count = int(orders.recv())
            began = time.monotonic()
            for _ in range(count):
                bus.send_multipart(frames)
            orders.send(repr(began).encode())


_ROLES: Final[dict[str, Callable[..., None]]] = {
    "echo": echo,
    "zmq-echo": zmq_echo,
    "proxy": proxy,
    "publisher": publisher,
}

if __name__ == "__main__":
    _ROLES[sys.argv[1]](*sys.argv[2:])
