"""Events with many publishers and listeners, and with a listener that is stopped."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Final

from benchmarks import cores, proxy
from benchmarks.bus import TOPIC, Bus, wait_done
from benchmarks.events import MANY, PROXY, whole_rate
from benchmarks.figures import Figure
from benchmarks.hosts import copies_of, host_with
from benchmarks.rounds import medians
from spiral_host import Host

CROWD: Final = 10
SHARE: Final = 10_000
"""Events of each publisher of a crowd; ten times as many reach each listener."""

CORES: Final = 2
FLOODS: Final = 5
PAIRS: Final = 7
"""Floods with and without: a few per cent are asked about, on a machine that is not quiet."""


def measure() -> list[Figure]:
    """Measure a crowd on two cores, and a stopped listener on one."""
    return [_crowd(), _stopped()]


def _crowd() -> Figure:
    lost: list[int] = []

    def deliveries() -> float:
        flood = bus.flood(SHARE)
        lost.append(flood.missed)
        return flood.rate

    with (
        cores.using(CORES) as count,
        copies_of("publisher", CROWD) as publishers,
        copies_of("listener", CROWD) as listeners,
        host_with(*publishers.iterdir(), *listeners.iterdir()) as host,
        proxy.running() as bare,
    ):
        ids = [sorted(path.name for path in folder.iterdir()) for folder in (publishers, listeners)]
        bus = Bus(host, *ids)
        bus.listen("*")
        seen = medians(
            {"ours": deliveries, "proxy": lambda: MANY / bare.flood(MANY)},
            FLOODS,
        )
    return Figure(
        what=f"deliveries, {CROWD} publishers to {CROWD} listeners",
        value=seen["ours"],
        unit="/s",
        baseline=f"{PROXY}, one to one",
        baseline_value=seen["proxy"],
        goal=4.0,
        goal_is_ratio=True,
        more_is_better=True,
        note=f"both on {count} cores; every listener subscribed to *; in {len(lost)} floods "
        f"{sum(lost):,} of {len(lost) * SHARE * CROWD**2:,} deliveries were named as missed",
    )


def _stopped() -> Figure:
    with (
        copies_of("listener", 2) as folder,
        host_with("publisher", *folder.iterdir()) as host,
    ):
        runs, stops = sorted(path.name for path in folder.iterdir())
        bus = Bus(host, ["publisher"], [runs])
        bus.listen(TOPIC)
        idle = Bus(host, [], [stops])

        def beside_a_stopped() -> float:
            with _stopped_listener(host, stops, idle):
                return whole_rate(bus, MANY)

        seen = medians({"alone": lambda: whole_rate(bus, MANY), "beside": beside_a_stopped}, PAIRS)
    return Figure(
        what="a stopped listener costs another",
        value=(1 - seen["beside"] / seen["alone"]) * 100,
        unit="%",
        goal=5.0,
        note=f"{seen['alone']:,.0f} events/s to it alone, {seen['beside']:,.0f} beside one "
        "that subscribed to the same and was stopped",
    )


@contextlib.contextmanager
def _stopped_listener(host: Host, plugin_id: str, idle: Bus) -> Iterator[None]:
    """Have a listener that reads nothing; afterwards it hears, or is told of, all of it."""
    (ear,) = idle.ears
    pid = host.get(plugin_id).pid or 0
    idle.listen(TOPIC)
    ear.expect(MANY)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_done(ear)
    ear.turn_away()
    if host.get(plugin_id).pid != pid:
        raise SystemExit(f"{plugin_id} was started anew while it was measured")
