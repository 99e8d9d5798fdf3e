"""One small call, `add(1, 2)`, against the same bytes through a bare socket pair and ZeroMQ."""

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Final

import zmq

from benchmarks import bare
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rounds import medians, per_call_us
from protocol.calls import pack_call, pack_value_reply
from protocol.codec import new_packer

COUNT: Final = 500
"""Calls in one go: 15 ms, so that a disturbance spoils one round and not all."""
ROUNDS: Final = 41
_HEAD: Final = 4


def _frames() -> tuple[bytes, bytes]:
    """Give a call and its reply as they lie in a lane."""
    pack = new_packer()
    call = pack_call(pack, COUNT, "adder", "add", (1, 2), {}, 1.5, ())
    reply = pack_value_reply(pack, COUNT, 3)
    return tuple(len(body).to_bytes(_HEAD, "big") + body for body in (call, reply))  # type: ignore[return-value]


@contextlib.contextmanager
def socket_echo() -> Iterator[Callable[[], None]]:
    """Have a process that answers on a socket pair; give one exchange with it."""
    call, reply = _frames()
    ours, theirs = socket.socketpair()
    with ours, bare.running("echo", str(theirs.fileno()), reply.hex(), fds=(theirs.fileno(),)):
        theirs.close()
        send, receive = ours.send, ours.recv

        def exchange() -> None:
            send(call)
            receive(bare.SIZE)

        yield exchange


@contextlib.contextmanager
def zmq_echo() -> Iterator[Callable[[], None]]:
    """The same by ZeroMQ, DEALER to ROUTER over `ipc://`."""
    call, reply = _frames()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        bare.running("zmq-echo", f"ipc://{folder}/echo", reply.hex()),
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.connect(f"ipc://{folder}/echo")

        def exchange() -> None:
            dealer.send(call)
            dealer.recv()

        yield exchange


def measure() -> list[Figure]:
    """Measure worker to worker and application to worker, all confined."""
    with host_with("adder", "caller") as host, socket_echo() as echo, zmq_echo() as by_zmq:
        stopwatch, adder = host.get_service("stopwatch"), host.get_service("adder")
        seen = medians(
            {
                "echo": lambda: per_call_us(echo, COUNT),
                "zmq": lambda: per_call_us(by_zmq, COUNT),
                "worker": lambda: stopwatch.time_adds(COUNT),
                "application": lambda: per_call_us(lambda: adder.add(1, 2), COUNT),
            },
            ROUNDS,
        )
    worker, application = "add(1, 2), worker to worker", "add(1, 2), application to worker"
    return [
        Figure(
            what=worker,
            value=seen["worker"],
            unit="us",
            baseline="bare socketpair echo",
            baseline_value=seen["echo"],
            goal=1.6,
            goal_is_ratio=True,
        ),
        _beside(worker, seen["worker"], "ZeroMQ echo, ipc", seen["zmq"]),
        _beside(application, seen["application"], "bare socketpair echo", seen["echo"]),
        _beside(application, seen["application"], "ZeroMQ echo, ipc", seen["zmq"]),
    ]


def _beside(what: str, value: float, baseline: str, baseline_value: float) -> Figure:
    return Figure(
        what=what, value=value, unit="us", baseline=baseline, baseline_value=baseline_value
    )
