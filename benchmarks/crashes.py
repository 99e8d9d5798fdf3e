"""A worker is killed in a call: when its caller knows, and when the service answers again."""

import contextlib
import os
import signal
import threading
import time
from statistics import median, quantiles
from typing import Final

from benchmarks.figures import Figure
from benchmarks.hosts import copies_of, host_with
from spiral_host import Host, WorkerLost

COUNT: Final = 25
"""Plugins, each killed once: a first crash is started again without waiting."""

PENDING: Final = 8
"""Calls that were submitted, and are lost with the one that is waited for."""

SETTLE_S: Final = 0.02
"""Until the call has surely reached the plugin."""

PAUSE_S: Final = 0.1
"""Between two crashes: more of them would wait for one another to be started again."""

PATIENCE_S: Final = 10.0


def measure(count: int = COUNT) -> list[Figure]:
    """Kill every plugin once, one after the other, while nothing else happens."""
    with copies_of("victim", count) as folder, host_with(*folder.iterdir()) as host:
        moments = [_crash(host, plugin.id, plugin.pid or 0) for plugin in host.list_plugins()]
    noticed, pending, back = zip(*moments, strict=True)
    return [
        Figure(what="crash noticed by its caller, p50", value=median(noticed), unit="ms"),
        Figure(
            what="crash noticed by its caller, p99",
            value=_p99(noticed),
            unit="ms",
            goal=5.0,
        ),
        Figure(
            what=f"the last of {PENDING} pending calls has its outcome, p99",
            value=_p99(pending),
            unit="ms",
            goal=10.0,
        ),
        Figure(what="service answers again, p50", value=median(back), unit="ms", goal=20.0),
    ]


def _p99(values: tuple[float, ...]) -> float:
    return quantiles(values, n=100, method="inclusive")[-1]


def _crash(host: Host, plugin_id: str, pid: int) -> tuple[float, float, float]:
    """Give the milliseconds from the kill to `WorkerLost`, of all calls, and to the next answer."""
    time.sleep(PAUSE_S)
    hold = host.get_service(f"hold.{plugin_id}")
    others = [hold.hold.submit() for _ in range(PENDING)]
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.perf_counter())
        os.kill(pid, signal.SIGKILL)

    threading.Timer(SETTLE_S, kill).start()
    try:
        hold.hold()
    except WorkerLost:
        noticed = time.perf_counter()
    for other in others:
        with contextlib.suppress(WorkerLost):
            other.result()
    ended = time.perf_counter()
    host.wait_service(f"hold.{plugin_id}", PATIENCE_S).ping()
    answered, then = time.perf_counter(), killed[0]
    return (noticed - then) * 1e3, (ended - then) * 1e3, (answered - then) * 1e3
