"""Events from a plugin's `publish` to another's callback, against an unstamped ZeroMQ proxy."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Final

import zmq

from benchmarks import bare
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rounds import medians
from protocol.events import PluginEvent
from protocol.feed import encode_event
from spiral_host import Host

MANY: Final = 20_000
ROUNDS: Final = 5
AT_REST: Final = 100
PAUSE_S: Final = 0.005
DEADLINE_S: Final = 30.0


@contextlib.contextmanager
def _proxy() -> Iterator[Callable[[int], float]]:
    """Have ZeroMQ's proxy and a publisher; give what publishes, and says how long it took."""
    topic, payload = encode_event(PluginEvent.EpochEnd(epoch=1, loss=0.5))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, zmq.Context() as context:
        into, out, control = (f"ipc://{folder}/{name}" for name in ("in", "out", "control"))
        with (
            bare.running("proxy", into, out),
            bare.running("publisher", into, control, topic, payload.hex()),
            context.socket(zmq.SUB) as bus,
            context.socket(zmq.REQ) as orders,
        ):
            bus.set_hwm(0)
            bus.connect(out)
            bus.subscribe(topic.encode() + b"\0")
            orders.connect(control)

            def publish(count: int) -> float:
                orders.send(b"%d" % count)
                for _ in range(count):
                    bus.recv_multipart()
                arrived = time.monotonic()
                return arrived - float(orders.recv())

            while not _is_connected(orders, bus):
                pass
            yield publish


def _is_connected(orders: "zmq.Socket[bytes]", bus: "zmq.Socket[bytes]") -> bool:
    """Publish once; nobody knows when a subscription is in force until an event comes."""
    orders.send(b"1")
    orders.recv()
    if not bus.poll(50):
        return False
    bus.recv_multipart()
    return True


class _Bus:
    """Publishes from one plugin to another and says how long it took."""

    def __init__(self, host: Host) -> None:
        self._press = host.get_service("press")
        self._ear = host.get_service("ear")

    def publish(self, count: int) -> float:
        """Give the seconds from before the first to the last callback."""
        self._ear.expect(count)
        began: float = self._press.print_many(count)
        deadline = time.monotonic() + DEADLINE_S
        done = 0.0
        while not done:
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of {count} events came; gaps: {self._ear.lost()}")
            time.sleep(PAUSE_S)  # asking takes the core from those who carry the events
            done = self._ear.done_at()
        return done - began


def _at_rest_us(publish: Callable[[int], float]) -> float:
    taken = []
    for _ in range(AT_REST):
        time.sleep(PAUSE_S)
        taken.append(publish(1))
    return sorted(taken)[AT_REST // 2] * 1e6


def measure() -> list[Figure]:
    """Measure a flood, and single events with silence between them."""
    with host_with("publisher", "listener") as host, _proxy() as through_proxy:
        ours = _Bus(host).publish
        rates = medians(
            {"ours": lambda: MANY / ours(MANY), "proxy": lambda: MANY / through_proxy(MANY)},
            ROUNDS,
        )
        rest = medians(
            {"ours": lambda: _at_rest_us(ours), "proxy": lambda: _at_rest_us(through_proxy)},
            ROUNDS,
        )
    proxy = "unstamped XSUB/XPUB proxy"
    return [
        Figure(
            what="events, plugin to plugin",
            value=rates["ours"],
            unit="/s",
            baseline=proxy,
            baseline_value=rates["proxy"],
            goal=2.0,
            goal_is_ratio=True,
            more_is_better=True,
        ),
        Figure(
            what="one event at rest",
            value=rest["ours"],
            unit="us",
            baseline=proxy,
            baseline_value=rest["proxy"],
            goal=3.0,
            goal_is_ratio=True,
        ),
    ]
