"""The other ends of the baselines, as processes: `python -m benchmarks.bare ROLE ARGUMENT...`.

    echo FD ANSWER               answers on a socket pair what it was told to answer
    zmq-echo ADDRESS ANSWER      the same by ZeroMQ

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


_ROLES: Final[dict[str, Callable[..., None]]] = {
    "echo": echo,
    "zmq-echo": zmq_echo,
}

if __name__ == "__main__":
    _ROLES[sys.argv[1]](*sys.argv[2:])
