"""A worker is killed in a call: when its caller knows, and when the service answers again."""

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

SETTLE_S: Final = 0.02
"""Until the call has surely reached the plugin."""

PATIENCE_S: Final = 10.0


def measure() -> list[Figure]:
    """Kill every plugin once, one after the other, while nothing else happens."""
    with copies_of("victim", COUNT) as folder, host_with(*folder.iterdir()) as host:
        moments = [_crash(host, plugin.id, plugin.pid or 0) for plugin in host.list_plugins()]
    noticed, back = zip(*moments, strict=True)
    return [
        Figure(what="crash noticed by its caller, p50", value=median(noticed), unit="ms"),
        Figure(
            what="crash noticed by its caller, p99",
            value=quantiles(noticed, n=100, method="inclusive")[-1],
            unit="ms",
            goal=5.0,
        ),
        Figure(what="service answers again, p50", value=median(back), unit="ms", goal=20.0),
    ]


def _crash(host: Host, plugin_id: str, pid: int) -> tuple[float, float]:
    """Give the milliseconds from the kill to `WorkerLost`, and to the next answer."""
    hold = host.get_service(f"hold.{plugin_id}")
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.perf_counter())
        os.kill(pid, signal.SIGKILL)

    threading.Timer(SETTLE_S, kill).start()
    try:
        hold.hold()
    except WorkerLost:
        noticed = time.perf_counter()
    host.wait_service(f"hold.{plugin_id}", PATIENCE_S).ping()
    return (noticed - killed[0]) * 1e3, (time.perf_counter() - killed[0]) * 1e3
