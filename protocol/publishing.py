"""What a publisher hears of an event that it waits for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.errors import DeadlineExceeded, UsageError
from protocol.names import Topic

ROOM_S: Final = 1.0
"""How long a publisher waits for room, seconds, before it gives an event up."""

WAIT_S: Final = 5.0
"""How long a publisher waits for every callback, seconds, unless it says otherwise."""

MAX_WAIT_S: Final = 600.0

MARGIN_S: Final = 1.0
"""How much longer a publisher waits for the hub's word that some did not answer in time."""

LATE: Final = "did not answer in time"
"""Why there is no answer from a subscriber whose callbacks still run at the deadline."""

CROWDED: Final = "was not waited for: too many events were waited for at once"
"""Why there is none where a publisher waits for more than the hub keeps in mind."""


@dataclass(frozen=True, slots=True)
class PublishFailure:
    """A callback that raised, or a subscriber that did not answer.

    Attributes:
        subscriber: A plugin's id, or `app:NAME`.
        error: What it raised, as text, or why there is no answer.
    """

    subscriber: str
    error: str


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What became of one event.

    Attributes:
        matched: Callbacks that were subscribed when it came to them, in every process.
        delivered: Those that have run without raising.
        failures: The others; the first 16 of them.
    """

    event_type: str
    matched: int = 0
    delivered: int = 0
    failures: tuple[PublishFailure, ...] = ()


def report_of(
    topic: Topic, matched: int, delivered: int, failures: Iterable[Iterable[str]]
) -> PublishReport:
    """Build a report from what has travelled."""
    told = tuple(PublishFailure(*failure) for failure in failures)
    return PublishReport(topic, matched, delivered, told)


def check_wait(seconds: object) -> float:
    """Accept a time to wait.

    Raises:
        UsageError: It is none, or longer than `MAX_WAIT_S`.
    """
    if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_WAIT_S:
        raise UsageError(f"a timeout is more than 0 and at most {MAX_WAIT_S:g} seconds")
    return float(seconds)


def require_all(report: PublishReport, seconds: float) -> None:
    """Accept that every callback has run, whatever it raised.

    Raises:
        DeadlineExceeded: One has not.
    """
    late = [failure for failure in report.failures if failure.error in {LATE, CROWDED}]
    if late:
        who = ", ".join(failure.subscriber for failure in late)
        raise DeadlineExceeded(f"event {report.event_type} at {who}", seconds)
