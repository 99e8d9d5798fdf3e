"""A hundred plugins: how soon they are up, what one of them takes, what it costs when all idle."""

import time
from statistics import median
from typing import Final

from benchmarks.figures import Figure
from benchmarks.hosts import check, copies_of, own_memory_mb, spent_s
from spiral_host import Host

COUNT: Final = 100
ROUNDS: Final = 5
IDLE_S: Final = 3.0


def measure() -> list[Figure]:
    """Start them `ROUNDS` times; look at memory and idling once."""
    up_s, figures = [], []
    with copies_of("victim", COUNT) as folder:
        for last in range(ROUNDS - 1, -1, -1):
            with Host(best_effort=True) as host:
                began = time.perf_counter()
                check(host.load(folder))
                up_s.append(time.perf_counter() - began)
                if not last:
                    figures = [_memory(host), idle(host, IDLE_S)]
    up = Figure(what=f"{COUNT} plugins up", value=median(up_s), unit="s", goal=1.0)
    return [up, *figures]


def _memory(host: Host) -> Figure:
    taken = [own_memory_mb(plugin.pid) for plugin in host.list_plugins() if plugin.pid]
    is_pss = all(pss for _, pss in taken)
    return Figure(
        what="memory of a worker",
        value=median(size for size, _ in taken),
        unit="MB",
        goal=6.0,
        note="PSS" if is_pss else "RSS - shared: reading PSS of what is confined takes root",
    )


def idle(host: Host, seconds: float) -> Figure:
    """Say what daemon and node take while nobody wants anything of them."""
    status = host.status()
    pids = (status["pid"], status["node_pid"])
    time.sleep(1.0)  # what starting them left to do is not idling
    before = spent_s(*pids)
    time.sleep(seconds)
    spent = spent_s(*pids) - before
    return Figure(
        what=f"daemon + node, {COUNT} plugins idle",
        value=100 * spent / seconds,
        unit="%",
        goal=1.0,
        note=f"of one core, over {seconds:g} s",
    )
