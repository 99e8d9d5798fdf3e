"""Deaths as the supervisor hands them over, for the tests of what becomes of them."""

from dataclasses import replace
from typing import Any, Final

from protocol.messages import Cause, Flight, Remains, Vital
from spiral_host.crashes import CrashReport, Death, Past, compose

WALL: Final = 1_700_000_000.0
"""2023-11-14T22:13:20 UTC."""

REMAINS: Final = Remains(
    incarnation=7,
    plugin_id="alpha",
    lived_s=61.5,
    stacks="Current thread 0x1 (most recent call first):\n  File alpha.py, line 3 in work\n",
    log="first line\nlast line\n",
    calls=12,
    errors=2,
    flights=(Flight(service="math", number=9, caller=3, caller_name="beta", left_s=1.25),),
    events=("EpochEnd", "EpochStart"),
    vitals=(Vital(ago_s=5.0, memory=40_000_000, cpu_s=2.5, threads=3),),
)


def death(**what: Any) -> Death:  # noqa: ANN401 - any field
    """Give a segmentation fault of the plugin alpha, but for what the test says."""
    usual = Death(
        plugin_id="alpha",
        version="1.2.0",
        path="/plugins/alpha",
        incarnation=7,
        pid=4242,
        cause=Cause(kind="signal", code=11),
        reason="SIGSEGV",
        traceback="",
        state="ready",
        lived_s=61.5,
        remains=REMAINS,
        past=(Past(ago_s=30.0, cause="exit status 3", lived_s=2.0),),
        next="restart",
        next_in_s=0.5,
        restarts=1,
    )
    return replace(usual, **what)


def remains(**what: Any) -> Remains:  # noqa: ANN401 - any field
    """Give what is left of it, but for what the test says."""
    return replace(REMAINS, **what)


def report(**what: Any) -> CrashReport:  # noqa: ANN401 - any field
    """Give the report of such a death."""
    return compose(death(**what), WALL, 100.0)
