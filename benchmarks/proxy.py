"""What anybody would build first: ZeroMQ's XSUB/XPUB proxy, a publisher and a subscriber.

Each is a process: `python -m benchmarks.proxy ROLE ARGUMENT...`, and works on request.

    proxy IN OUT             ZeroMQ's own proxy
    publisher IN ORDERS      "flood COUNT FRAMES", "tick COUNT PAUSE"  ->  when it began
    subscriber OUT ORDERS    the same  ->  when the last came; of ticks, how long each took

Nothing is stamped, checked or sent again, and nothing is built of what came.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgpack
import zmq

TOPIC: Final = b"EpochEnd\0"
PAYLOAD: Final[bytes] = msgpack.packb({"epoch": 1, "loss": 0.5})
JOIN_MS: Final = 50
PATIENCE_MS: Final = 60_000


class Proxy:
    """The publisher and the subscriber, as they are told what to do."""

    def __init__(self, publisher: "zmq.Socket[bytes]", subscriber: "zmq.Socket[bytes]") -> None:
        self._publisher, self._subscriber = publisher, subscriber
        for orders in (publisher, subscriber):
            orders.set(zmq.RCVTIMEO, PATIENCE_MS)

    def flood(self, count: int, frames: int = 2) -> float:
        """Publish so many as fast as it goes; give the seconds until the last has come.

        Args:
            frames: Of each message: topic and body, or 1 with both, which pyzmq carries faster.
        """
        order = b"flood %d %d" % (count, frames)
        self._subscriber.send(order)
        self._publisher.send(order)
        began = _answer(self._publisher)
        return float(_answer(self._subscriber) - began)

    def latencies(self, count: int, pause_s: float) -> list[float]:
        """Publish so many with silence between them; give the seconds that each was under way."""
        order = b"tick %d %f" % (count, pause_s)
        self._subscriber.send(order)
        self._publisher.send(order)
        _answer(self._publisher)
        taken: list[float] = _answer(self._subscriber)
        return taken

    def wait_joined(self) -> None:
        """Return when the subscription is in force; only an event that comes can tell."""
        self._subscriber.send(b"flood 1 2")
        while not self._subscriber.poll(JOIN_MS):
            self._publisher.send(b"flood 1 2")
            _answer(self._publisher)
        _answer(self._subscriber)
        self._subscriber.send(b"drain 0 0")
        _answer(self._subscriber)


def _answer(orders: "zmq.Socket[bytes]") -> Any:  # noqa: ANN401 - a number, or several
    return json.loads(orders.recv())


@contextlib.contextmanager
def running() -> Iterator[Proxy]:
    """Have the three processes ready to work."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        into, out, one, two = (f"ipc://{folder}/{name}" for name in ("in", "out", "one", "two"))
        for role in (("proxy", into, out), ("publisher", into, one), ("subscriber", out, two)):
            process = subprocess.Popen([sys.executable, "-m", __spec__.name, *role])
            stack.callback(process.wait)
            stack.callback(process.kill)
        context = stack.enter_context(zmq.Context())
        ends = [stack.enter_context(context.socket(zmq.REQ)) for _ in range(2)]
        for end, address in zip(ends, (one, two), strict=True):
            end.set(zmq.LINGER, 0)
            end.connect(address)
        proxy = Proxy(*ends)
        proxy.wait_joined()
        yield proxy


# --- the processes --------------------------------------------------------------------------------


def _proxy(context: "zmq.Context[Any]", into: str, out: str) -> None:
    front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    for end, address in ((front, into), (back, out)):
        end.set_hwm(0)
        end.bind(address)
    zmq.proxy(front, back)


def _publish(context: "zmq.Context[Any]", into: str, orders: str) -> None:
    with _obeying(context, zmq.PUB, into, orders) as (bus, told):
        while True:
            order, count, option = told.recv().split()
            began = time.monotonic()
            if order == b"flood" and option == b"1":
                for _ in range(int(count)):
                    bus.send(TOPIC + PAYLOAD)
            elif order == b"flood":
                for _ in range(int(count)):
                    bus.send_multipart([TOPIC, PAYLOAD])
            else:
                for _ in range(int(count)):
                    time.sleep(float(option))
                    bus.send_multipart([TOPIC, msgpack.packb(time.monotonic())])
            told.send(json.dumps(began).encode())


def _subscribe(context: "zmq.Context[Any]", out: str, orders: str) -> None:
    with _obeying(context, zmq.SUB, out, orders) as (bus, told):
        bus.subscribe(TOPIC)
        while True:
            order, count, option = told.recv().split()
            answer: object = None
            if order == b"drain":
                while bus.poll(JOIN_MS):
                    bus.recv_multipart()
            elif order == b"flood":
                receive = bus.recv if option == b"1" else bus.recv_multipart
                for _ in range(int(count)):
                    receive()
                answer = time.monotonic()
            else:
                answer = [_under_way(bus.recv_multipart()[1]) for _ in range(int(count))]
            told.send(json.dumps(answer).encode())


def _under_way(stamp: bytes) -> float:
    now = time.monotonic()
    return now - float(msgpack.unpackb(stamp))


@contextlib.contextmanager
def _obeying(
    context: "zmq.Context[Any]", kind: int, address: str, orders: str
) -> "Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]":
    with context.socket(kind) as bus, context.socket(zmq.REP) as told:
        bus.set_hwm(0)
        bus.connect(address)
        told.bind(orders)
        yield bus, told


_ROLES: Final[dict[str, Callable[..., None]]] = {
    "proxy": _proxy,
    "publisher": _publish,
    "subscriber": _subscribe,
}

if __name__ == "__main__":
    with zmq.Context() as own:
        _ROLES[sys.argv[1]](own, *sys.argv[2:])
