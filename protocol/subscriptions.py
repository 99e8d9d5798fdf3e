"""The subscriptions of one process, and the callbacks that events are handed to. No I/O."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeAlias

from protocol.events import PluginEvent
from protocol.feed import Missing, decode_events, gap_event
from protocol.follower import Delivery
from protocol.names import EVERYTHING, Topic

EventCallback: TypeAlias = Callable[[PluginEvent], object]

CONFIRM_S: Final = 5.0
"""How long a subscription waits for its confirmation; it holds as soon as a daemon is there."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What `subscribe` gives and `unsubscribe` takes."""

    topic: Topic
    number: int


class Subscriptions:
    """Who in this process wants which events; lives as long as its connection."""

    def __init__(self) -> None:
        self._callbacks: dict[Topic, dict[int, EventCallback]] = {}
        self._numbers = count(1)

    def add(self, topic: Topic, callback: EventCallback) -> tuple[Subscription, bool]:
        """Add a callback; say whether it is the first of its type."""
        is_first = topic not in self._callbacks
        number = next(self._numbers)
        self._callbacks.setdefault(topic, {})[number] = callback
        return Subscription(topic, number), is_first

    def remove(self, subscription: Subscription) -> tuple[bool, bool]:
        """Remove a callback; say whether it was there, and whether it was its type's last."""
        callbacks = self._callbacks.get(subscription.topic, {})
        found = callbacks.pop(subscription.number, None) is not None
        if found and not callbacks:
            del self._callbacks[subscription.topic]
            return True, True
        return found, False

    def deliver(self, delivery: Delivery) -> None:
        """Call back for every event of a run, or for the gap where events are missing."""
        if isinstance(delivery, Missing):
            self._call_back(delivery.topic, gap_event(delivery))
            return
        for event in decode_events(delivery):
            self._call_back(delivery.topic, event)

    def _call_back(self, topic: Topic, event: PluginEvent) -> None:
        wanted = {**self._callbacks.get(topic, {}), **self._callbacks.get(EVERYTHING, {})}
        for number in sorted(wanted):
            try:
                wanted[number](event)
            except Exception:  # noqa: BLE001 - one callback's failure stops no other
                sys.stderr.write(f"a callback for {topic} raised\n{traceback.format_exc()}")
