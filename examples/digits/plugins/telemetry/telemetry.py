"""Count and time what the events say. Reads no clock: every time is an event's own stamp."""

from collections import Counter
from typing import Any

from plugin_worker import Plugin, PluginContext, PluginEvent


class Tally:
    """The figures so far. Lives in the worker; events go in, `figures` come out."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()
        self._operations: Counter[str] = Counter()
        self._epoch_starts: dict[int, float] = {}
        self._epoch_seconds: list[float] = []

    def count(self, event: PluginEvent) -> None:
        """Take in one event of any type."""
        self._events[event.type] += 1
        if isinstance(event, PluginEvent.TensorOp):
            self._operations[event.op_name] += 1
        elif isinstance(event, PluginEvent.EpochStart):
            self._epoch_starts[event.epoch] = event.ts
        elif isinstance(event, PluginEvent.EpochEnd) and event.epoch in self._epoch_starts:
            self._epoch_seconds.append(event.ts - self._epoch_starts.pop(event.epoch))

    def figures(self) -> dict[str, float]:
        """Return epochs, their seconds, and operations, fit for a `Telemetry` event."""
        seconds = sum(self._epoch_seconds)
        operations = self._operations.total()
        return {
            "epochs": float(len(self._epoch_seconds)),
            "seconds": seconds,
            "tensor_ops": float(operations),
            "tensor_ops_per_second": operations / seconds if seconds else 0.0,
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many events of each type there were, and how many of each operation."""
        return {"events": dict(self._events), "operations": dict(self._operations)}


class TelemetryService:
    """What others may ask; counting is not among it, so nobody can add to the figures."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def report(self) -> dict[str, Any]:
        """Return totals, seconds and counts of all events up to now, ready for JSON."""
        return {**self._tally.figures(), **self._tally.counts()}


class TelemetryPlugin(Plugin):
    """Offers the service `telemetry`; answers `TrainingEnd` with a `Telemetry` event."""

    def on_load(self, ctx: PluginContext) -> None:
        """Listen to everything."""
        tally = Tally()
        ctx.register_service("telemetry", TelemetryService(tally))
        ctx.subscribe("*", tally.count)
        # Events of one sender arrive in order: what came before this one has been counted.
        ctx.subscribe(
            "TrainingEnd",
            lambda _: ctx.event_bus.publish(PluginEvent.Telemetry(data=tally.figures())),
        )
