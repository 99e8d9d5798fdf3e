"""Events from a plugin's `publish` to another's callback, beside what carries less."""

from collections.abc import Callable
from statistics import median
from typing import Final

from benchmarks import proxy
from benchmarks.bus import TOPIC, Bus
from benchmarks.comparison import PLUGIN_EVENTS
from benchmarks.figures import Figure
from benchmarks.hosts import host_with
from benchmarks.rivals.callers import callers
from benchmarks.rounds import medians

MANY: Final = 200_000
"""A second of ours at 200,000 events/s."""

FLOODS: Final = 5
TICKS: Final = 200
PAUSE_S: Final = 0.003
"""Between ticks: long enough for the whole way to come to rest, and to go to sleep."""

PROXY: Final = "bare XSUB/XPUB proxy"


def measure() -> list[Figure]:
    """Measure a flood from one plugin to another, and single events with silence between them."""
    row = PLUGIN_EVENTS
    with (
        host_with("publisher", "listener") as host,
        proxy.running() as bare,
        callers(row.row) as others,
    ):
        bus = Bus(host, ["publisher"], ["listener"])
        bus.listen(TOPIC)
        flood = medians(
            {
                "ours": lambda: whole_rate(bus, MANY),
                "proxy": lambda: MANY / bare.flood(MANY),
                "one frame": lambda: MANY / bare.flood(MANY, frames=1),
                **row.measures(others),
            },
            FLOODS,
        )
        bus.listen("Tick")
        rest = medians(
            {"ours": lambda: _p50_us(bus.latencies), "proxy": lambda: _p50_us(bare.latencies)},
            FLOODS,
        )
    what = "events, plugin to plugin"
    return [
        Figure(
            what=what,
            value=flood["ours"],
            unit="/s",
            baseline=PROXY,
            baseline_value=flood["proxy"],
            goal=2.0,
            goal_is_ratio=True,
            more_is_better=True,
            note="from publish to callback, numbered, in order, none lost; "
            "the proxy's are bytes that nobody looks at",
        ),
        Figure(
            what=what,
            value=flood["ours"],
            unit="/s",
            baseline=f"{PROXY}, one frame each",
            baseline_value=flood["one frame"],
        ),
        *row.figures(what, flood["ours"], others, flood),
        Figure(
            what="one event at rest, p50",
            value=rest["ours"],
            unit="us",
            baseline=PROXY,
            baseline_value=rest["proxy"],
            goal=3.0,
            goal_is_ratio=True,
        ),
    ]


def whole_rate(bus: Bus, count: int) -> float:
    """Give the rate of a flood; refuse to call it one if any of it was lost."""
    flood = bus.flood(count)
    if flood.missed:
        raise SystemExit(f"{flood.missed} of {count} events were lost")
    return flood.rate


def _p50_us(latencies: Callable[[int, float], list[float]]) -> float:
    return median(latencies(TICKS, PAUSE_S)) * 1e6
