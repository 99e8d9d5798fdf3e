"""A host's publishers and listeners, told what to do from here."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from spiral_host import Host

TOPIC: Final = "EpochEnd"
PAUSE_S: Final = 0.05
"""Between two questions whether all has come; each takes the core from those who carry it."""

PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Flood:
    """What became of a flood.

    Attributes:
        seconds: From before the first `publish` to the last callback.
        heard: Callbacks, of all listeners together.
        missed: Events that listeners were told they had missed.
    """

    seconds: float
    heard: int
    missed: int

    @property
    def rate(self) -> float:
        """Deliveries in a second."""
        return self.heard / self.seconds


class Bus:
    """Publishes from plugins to plugins."""

    def __init__(self, host: Host, publishers: Iterable[str], listeners: Iterable[str]) -> None:
        self._presses = [host.get_service(f"press.{plugin_id}") for plugin_id in publishers]
        self.ears = [host.get_service(f"ear.{plugin_id}") for plugin_id in listeners]

    def listen(self, pattern: str) -> None:
        """Have every listener listen to this alone."""
        for ear in self.ears:
            ear.listen(pattern)

    def flood(self, count: int) -> Flood:
        """Have every publisher publish so many at once."""
        for ear in self.ears:
            ear.expect(count * len(self._presses))
        printed = [press.print_many.submit(count, timeout=PATIENCE_S) for press in self._presses]
        began = min(each.result() for each in printed)
        done = max(wait_done(ear) for ear in self.ears)
        counts = [ear.counts() for ear in self.ears]
        heard, missed = (sum(column) for column in zip(*counts, strict=True))
        return Flood(done - began, heard, missed)

    def latencies(self, count: int, pause_s: float) -> list[float]:
        """Publish so many from one plugin to another; give the seconds from end to end."""
        (press,), (ear,) = self._presses, self.ears
        ear.expect(0)
        press.tick(count, pause_s)
        deadline = time.monotonic() + PATIENCE_S
        while len(taken := ear.latencies()) < count:
            _wait(deadline, f"{count} ticks; {len(taken)} came")
        return list(taken)


def wait_done(ear: Any) -> float:  # noqa: ANN401 - a stub
    """Wait until all that it expects is here or named as missed; give the time of the last."""
    deadline = time.monotonic() + PATIENCE_S
    while not (done := float(ear.done_at())):
        _wait(deadline, f"all events; heard and missed: {ear.counts()}")
    return done


def _wait(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise SystemExit(f"waited {PATIENCE_S:g} s for {what}")
    time.sleep(PAUSE_S)
