"""Publishes numbers of several types as fast as `publish` lets it."""

import threading
from collections import Counter

from plugin_worker import Plugin, PluginContext, PluginEvent

BLOCK = 64
"""Events of one type in a row."""

LARGE_EACH, LARGE = 1024, "x" * 8192
"""Now and then one is large, so that bounds in bytes are met, too."""

PATIENCE_S = 20.0
"""For an event to be heard by everybody, on a busy machine."""


class Service:
    """Counts on for each type, from 1, in a thread of its own: calls are answered meanwhile."""

    def __init__(self, ctx: PluginContext) -> None:
        self._publish = ctx.event_bus.publish
        self._numbers: Counter[str] = Counter()
        self._thread = threading.Thread()
        self._failure = ""

    def start(self, event_types: list[str], count: int, fault: str = "") -> None:
        """Publish so many more, spread over the types; with one fault among them, where named."""
        order = (event_types, count, fault)
        self._thread = threading.Thread(target=self._run, args=order, daemon=True)
        self._thread.start()

    def published(self) -> dict[str, int]:
        """Give how many of each type have been published."""
        return dict(self._numbers)

    def is_done(self) -> bool:
        """Say whether all have been published."""
        if self._failure:
            raise RuntimeError(self._failure)
        return not self._thread.is_alive()

    def _run(self, event_types: list[str], count: int, fault: str) -> None:
        try:
            for begin in range(0, count, BLOCK):
                event_type = event_types[begin // BLOCK % len(event_types)]
                for _ in range(min(BLOCK, count - begin)):
                    self._say(event_type)
            self._err(event_types[0], fault)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            self._failure = repr(error)

    def _say(self, event_type: str) -> None:
        number = self._numbers[event_type] + 1
        self._publish(
            PluginEvent.custom(event_type, [number, LARGE] if number % LARGE_EACH == 0 else number)
        )
        self._numbers[event_type] = number

    def _err(self, event_type: str, fault: str) -> None:
        """Do wrong, and wait until it is heard: all that is right may have been heard before."""
        if fault == "lose":
            self._numbers[event_type] += 1
        elif fault == "double":
            said = PluginEvent.custom(event_type, self._numbers[event_type])
            self._publish(said, wait=True, timeout=PATIENCE_S)
        elif fault == "swap":
            self._numbers[event_type] += 2
            for back in (0, 1):
                number = self._numbers[event_type] - back
                self._publish(PluginEvent.custom(event_type, number), wait=True, timeout=PATIENCE_S)


class Numberer(Plugin):
    """Offers `count.ID`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(f"count.{ctx.plugin_id}", Service(ctx))
