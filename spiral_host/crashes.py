"""Compose the report of a death that nobody had asked for. Touches no disk and reads no clock.

    Death --compose--> CrashReport --to_dict--> what lies on disk and `spiral-host report` prints

A plugin chooses its log, its events, its traceback and its stacks: they are cut to a length here
and kept as they are. Who prints them makes them harmless (see harmless.py).
"""

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from protocol.messages import Cause, Flight, Remains, Vital
from protocol.version import VERSION

MAX_TEXT: Final = 32 << 10
"""Characters of a traceback, of the stacks, of the log: as JSON at most 12 times as many bytes."""

MAX_LINE: Final = 300
"""Characters of any one line but the path's; a name has 64, an event's type 200."""

MAX_LINES: Final = 100
"""Lines of the log, figures, and calls in flight; twice what one screen shows."""


class Kind(StrEnum):
    """What sort of death it was, in one word."""

    EXIT = "exit"
    SIGNAL = "signal"
    RAISED = "raised"
    OUT_OF_MEMORY = "out-of-memory"
    LIMIT = "limit"
    HANG = "hang"
    START_TIMEOUT = "start-timeout"
    VIOLATION = "protocol-violation"
    RULE = "rule"
    NOT_STARTED = "not-started"
    NODE_LOST = "node-lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """An earlier death of the same plugin that nobody had asked for."""

    ago_s: float
    cause: str
    lived_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """What the supervisor knows when a worker has died that nobody had asked to leave.

    Attributes:
        reason: Why, in one line, as `plugins` shows it.
        traceback: The author's, if the plugin's own code raised; else empty.
        state: Where the plugin stood when it died.
        lived_s: From its start to its death, seconds; None when nobody knows.
        remains: What the node had kept of it; None when there is no node to tell.
        past: Earlier deaths, newest last.
        next: What becomes of the plugin: `restart`, or the state in which it stays.
        next_in_s: In how many seconds; None when nothing follows by itself.
        restarts: How often it was started again without anybody asking, before this.
    """

    plugin_id: str
    version: str
    path: str
    incarnation: int
    pid: int
    cause: Cause
    reason: str
    traceback: str
    state: str
    lived_s: float | None
    remains: Remains | None
    past: tuple[Past, ...]
    next: str
    next_in_s: float | None
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """Everything that is known about one death; what a plugin wrote is in it as it wrote it.

    Attributes:
        kind: See `Kind`; `summary` says the same in one line, with when and where.
        cause: How the process ended: its signal or exit status, and the rule that ended it.
        rule: Which rule of the host's made it end, or empty.
        state: Where the plugin stood; it had lived for `lived_s`.
        traceback: The author's, when the plugin's own code raised.
        stacks: Every thread's stack, as faulthandler wrote them.
        calls: How many it had answered, None when nobody knows; `errors` those that raised.
        in_flight: Calls that it was in the middle of.
        events: The last that it was given, newest last; `log` its last lines.
        vitals: Its memory and processor time, oldest first.
        next: What becomes of it: `restart`, or the state in which it stays; `next_at` says when.
        at: When the daemon learned of it, in ISO form; `wall` and `monotonic` by both clocks.
        versions: Of the plugin, Python and the protocol; of spiral-host once it is on disk.
    """

    plugin_id: str
    version: str
    path: str
    incarnation: int
    pid: int
    kind: Kind
    summary: str
    cause: str
    signal: str | None
    exit_status: int | None
    rule: str
    reason: str
    state: str
    lived_s: float | None
    traceback: str
    stacks: str
    calls: int | None
    errors: int | None
    in_flight: tuple[Flight, ...]
    events: tuple[str, ...]
    log: tuple[str, ...]
    vitals: tuple[Vital, ...]
    past: tuple[Past, ...]
    restarts: int
    next: str
    next_in_s: float | None
    next_at: str | None
    at: str
    wall: float
    monotonic: float
    versions: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Give plain values, fit for JSON."""
        return asdict(self)


def compose(death: Death, now_wall: float, monotonic: float) -> CrashReport:
    """Say everything that is known about a death; it takes bounded room, whatever a worker said.

    Args:
        death: What the supervisor knows.
        now_wall: Seconds since 1970, to print.
        monotonic: The same moment on the machine's monotonic clock.
    """
    cause, remains = death.cause, death.remains
    kind = kind_of(death)
    lived = death.lived_s if death.lived_s is not None or remains is None else remains.lived_s
    return CrashReport(
        plugin_id=death.plugin_id,
        version=death.version,
        path=death.path[-MAX_TEXT:],
        incarnation=death.incarnation,
        pid=death.pid,
        kind=kind,
        summary=_summary(death, kind, lived),
        cause=_line(str(cause)),
        # Without its rule a cause's text is the signal's name.
        signal=str(Cause(kind="signal", code=cause.code)) if cause.kind == "signal" else None,
        exit_status=cause.code if cause.kind == "exit" else None,
        rule=_line(cause.rule),
        reason=_line(death.reason),
        state=death.state,
        lived_s=_finite(lived),
        traceback=death.traceback[-MAX_TEXT:],  # the exception is at its end
        stacks=remains.stacks[:MAX_TEXT] if remains else "",  # what happened is at its head
        calls=remains.calls if remains else None,
        errors=remains.errors if remains else None,
        in_flight=tuple(map(_flight, remains.flights[:MAX_LINES])) if remains else (),
        events=tuple(map(_line, remains.events[-MAX_LINES:])) if remains else (),
        log=tuple(remains.log[-MAX_TEXT:].splitlines()[-MAX_LINES:]) if remains else (),
        vitals=tuple(map(_vital, remains.vitals[-MAX_LINES:])) if remains else (),
        past=tuple(map(_past, death.past[-MAX_LINES:])),
        restarts=death.restarts,
        next=death.next,
        next_in_s=death.next_in_s,
        next_at=None if death.next_in_s is None else _iso(now_wall + death.next_in_s),
        at=_iso(now_wall),
        wall=now_wall,
        monotonic=monotonic,
        versions={
            "plugin": death.version,
            "python": ".".join(map(str, sys.version_info[:3])),
            "protocol": str(VERSION),
        },
    )


def kind_of(death: Death) -> Kind:
    """Say what sort of death it was: the first row of the table that fits."""
    return next((kind for kind, fits in _KINDS if fits(death)), Kind.UNKNOWN)


def _says(words: str) -> Callable[[Death], bool]:
    """Fit a death whose rule or reason is these words, or begins with them and a colon."""

    def fits(death: Death) -> bool:
        said = (death.cause.rule, death.reason)
        return any(text == words or text.startswith(f"{words}:") for text in said)

    return fits


_KINDS: Final[tuple[tuple[Kind, Callable[[Death], bool]], ...]] = (
    (Kind.OUT_OF_MEMORY, _says("out of memory")),
    (Kind.LIMIT, lambda death: death.cause.rule.startswith("limit ")),
    # A plugin that has raised leaves, or is ended because it did not: that is no other kind.
    (Kind.RAISED, lambda death: bool(death.traceback)),
    (Kind.HANG, _says("hang")),
    (Kind.START_TIMEOUT, _says("start timeout")),
    (Kind.VIOLATION, _says("protocol violation")),
    (Kind.NOT_STARTED, _says("could not be started")),
    (Kind.NODE_LOST, _says("the node was lost")),
    (Kind.RULE, lambda death: bool(death.cause.rule)),
    (Kind.EXIT, lambda death: death.cause.kind == "exit"),
    (Kind.SIGNAL, lambda death: death.cause.kind == "signal"),
)


def _summary(death: Death, kind: Kind, lived: float | None) -> str:
    """Say it in one line. A rule tells more than its signal, and what was raised than either."""
    what = "" if kind in {Kind.EXIT, Kind.SIGNAL} else death.reason
    if kind is not Kind.RAISED:
        what = death.cause.rule or what
    what = what or str(death.cause)
    after = "" if lived is None else f", {lived:.3g} s after its start"
    return f"{_line(what)}, while {death.state}{after}"


def _line(text: str) -> str:
    """Make one line of it, of bounded length."""
    return " ".join(text[: 4 * MAX_LINE].split())[:MAX_LINE]


def _flight(flight: Flight) -> Flight:
    return replace(
        flight,
        service=_line(flight.service),
        caller_name=_line(flight.caller_name),
        left_s=_number(flight.left_s),
    )


def _vital(vital: Vital) -> Vital:
    return replace(vital, ago_s=_number(vital.ago_s), cpu_s=_number(vital.cpu_s))


def _past(past: Past) -> Past:
    return replace(past, cause=_line(past.cause), lived_s=_finite(past.lived_s))


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _number(number: float) -> float:
    """Keep what JSON lacks out of it: a worker's page can hold any number."""
    return number if math.isfinite(number) else 0.0


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
