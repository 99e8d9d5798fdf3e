"""Publish events up the umbilical, with bounds: a full window waits, then the loss is said."""

import threading
import time
from typing import TYPE_CHECKING, Final

from plugin_worker.desk import Desk
from protocol.events import PluginEvent
from protocol.feed import encode_event, pack_publication
from protocol.messages import Dropped
from protocol.packets import Kind
from protocol.window import Window

if TYPE_CHECKING:
    from protocol.names import Topic

WAIT_S: Final = 1.0
"""How long a publisher whose window is full waits for room, seconds."""


class Publisher:
    """The worker's way onto the bus; lives as long as the worker."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._window = Window()
        self._order = threading.Lock()
        self._room = threading.Lock()
        self._dropped: dict[Topic, int] = {}

    def publish(self, event: PluginEvent) -> None:
        """Send an event up, in the order of the calls.

        Raises:
            UsageError: Its type is reserved.
            LocalProtocolError: It cannot travel.
        """
        topic, payload = encode_event(event)
        with self._order:
            if self._window.is_full and not self._wait_for_room():
                self._dropped[topic] = self._dropped.get(topic, 0) + 1
                return
            self._say_dropped()
            with self._room:
                self._window.sent(len(payload))
            self._desk.send(Kind.EVENTS, pack_publication(topic, [payload]))

    def taken(self, count: int) -> None:
        """The node has taken so many of them in."""
        with self._room:
            self._window.taken(count)

    def _wait_for_room(self) -> bool:
        deadline = time.monotonic() + WAIT_S
        while self._window.is_full:
            if not self._desk.wait_for_news(deadline):
                return False
        return True

    def _say_dropped(self) -> None:
        dropped, self._dropped = self._dropped, {}
        for topic, count in dropped.items():
            self._desk.tell_node(Dropped(topic, count))
