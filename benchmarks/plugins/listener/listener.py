"""Counts events and keeps when the last one that was expected came."""

import time

from plugin_worker import Plugin, PluginContext, PluginEvent


class Ear:
    """Counts in the callback, which is all that is measured of a subscriber."""

    def __init__(self) -> None:
        self.heard = 0
        self.missed = 0
        self._expected = 0
        self._done_at = 0.0

    def expect(self, count: int) -> None:
        """Start counting anew."""
        self.heard = self.missed = 0
        self._expected, self._done_at = count, 0.0

    def done_at(self) -> float:
        """Give the machine's monotonic time of the last expected event, 0 while it is not here."""
        return self._done_at

    def lost(self) -> int:
        """Give how many events were reported missing."""
        return self.missed

    def hear(self, event: PluginEvent) -> None:
        """Count an event. Called by the bus; that others could call it too harms nobody."""
        if event.type == "EventGap":
            self.missed += 1
            return
        self.heard += 1
        if self.heard == self._expected:
            self._done_at = time.monotonic()


class Listener(Plugin):
    """Offers `ear`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Listen."""
        ear = Ear()
        ctx.subscribe("EpochEnd", ear.hear)
        ctx.register_service("ear", ear)
