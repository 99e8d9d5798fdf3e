"""Counts events, keeps when the last one that was expected came, and how long ticks took."""

import time

from plugin_worker import Plugin, PluginContext, PluginEvent, Subscription


class Ear:
    """Counts in the callback, which is all that is measured of a subscriber."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._subscription: Subscription | None = None
        self._heard = self._missed = self._until = 0
        self._done_at = 0.0
        self._latencies: list[float] = []

    def listen(self, pattern: str) -> None:
        """Listen to this, and to nothing else."""
        self.turn_away()
        self._subscription = self._ctx.subscribe(pattern, self._hear)

    def turn_away(self) -> None:
        """Listen to nothing."""
        if self._subscription is not None:
            self._ctx.unsubscribe(self._subscription)
            self._subscription = None

    def expect(self, count: int) -> None:
        """Start counting anew, up to so many events that are heard or named as missed."""
        self._heard = self._missed = 0
        self._until, self._done_at = count, 0.0
        self._latencies = []

    def done_at(self) -> float:
        """Give the machine's monotonic time of the last expected event, 0 while it is not here."""
        return self._done_at

    def counts(self) -> tuple[int, int]:
        """Give how many events were heard, and how many were named as missed."""
        return self._heard, self._missed

    def latencies(self) -> list[float]:
        """Give the seconds from `publish` to here of every tick since counting began."""
        return self._latencies

    def _hear(self, event: PluginEvent) -> None:
        if type(event) is PluginEvent.EpochEnd:
            self._heard += 1
            if self._heard == self._until:
                self._done_at = time.monotonic()
        elif event.type == "Tick":
            self._latencies.append(time.monotonic() - event.data)  # type: ignore[attr-defined]
        elif isinstance(event, PluginEvent.EventGap) and event.event_type == "EpochEnd":
            self._miss(event.last - event.first + 1)

    def _miss(self, count: int) -> None:
        self._missed += count
        self._until -= count
        if self._heard >= self._until:
            self._done_at = time.monotonic()


class Listener(Plugin):
    """Offers `ear.ID`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(f"ear.{ctx.plugin_id}", Ear(ctx))
