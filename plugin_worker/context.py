"""What a plugin may touch: services, events, configuration, its log and its folder."""

import logging
import time
from pathlib import Path
from typing import NoReturn, Protocol

from protocol.access import Access, Asking
from protocol.errors import UsageError
from protocol.eventbus import EventBus, Publishing
from protocol.flight import MAX_BUSY_S
from protocol.messages import ListServices
from protocol.names import Topic
from protocol.permissions import Permissions
from protocol.running import is_cancelled
from protocol.subscriptions import EventCallback, Past, Subscription

__all__ = ["EventBus", "EventCallback", "PluginContext", "Subscription"]


class Host(Asking, Protocol):
    """What the context needs of the worker's runtime."""

    @property
    def publisher(self) -> Publishing:
        """The way onto the bus."""

    def subscribe(self, pattern: Topic, callback: EventCallback, past: Past) -> Subscription:
        """Have a callback called for past events and those to come."""

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription."""

    def busy(self, until: float) -> None:
        """Say until when the plugin may not answer its node, `time.monotonic()` seconds."""

    @property
    def permissions(self) -> Permissions:
        """Those in force."""

    def deny(self, permission: str, what: str) -> NoReturn:
        """Raise that a permission was not granted."""


class PluginContext(Access):
    """The plugin's side of the host; lives as long as the plugin.

    Attributes:
        log: A logger; what it says stands in the plugin's log with everything printed.
        data_dir: The plugin's own folder, writable, kept when the plugin restarts.
    """

    def __init__(self, host: Host, plugin_id: str, data_dir: Path) -> None:
        self._event_bus = EventBus(host.publisher, host)
        self.log = logging.getLogger(plugin_id)
        self.data_dir = data_dir
        self.plugin_id = plugin_id
        self._host = host

    @property
    def _provider(self) -> Host:
        return self._host

    @property
    def event_bus(self) -> EventBus:
        """Publish and subscribe."""
        return self._event_bus

    def get_config(self, key: str) -> str | None:
        """Give a configured value, or None.

        Raises:
            PermissionDenied: The setting is not this plugin's to read, whether there is one or not.
        """
        if not self._host.permissions.may_configure(key):
            self._host.deny("config", key)
        return super().get_config(key)

    def list_services(self) -> list[str]:
        """Name every service that this plugin can call."""
        return [row[0] for row in self._host.ask(ListServices)]

    def cancelled(self) -> bool:
        """Say whether nobody waits any more for what this handler is doing.

        Its caller has cancelled the call, has died, or the deadline has passed. Takes 1 us: it
        looks at the caller's lane.
        """
        return is_cancelled()

    def busy(self, seconds: float) -> None:
        """Say that the plugin may not answer for so long; from any thread.

        For what takes seconds outside a call (an event's callback, a build of something large): a
        plugin that says nothing then counts as hung. A call needs none until its deadline. It
        holds for the whole plugin; the last word counts, and 0 ends it.

        Raises:
            UsageError: It is below 0 or more than an hour.
        """
        if not 0 <= seconds <= MAX_BUSY_S:
            raise UsageError(f"busy for {seconds!r} s; say 0 to {MAX_BUSY_S:g}")
        self._host.busy(time.monotonic() + seconds if seconds else 0.0)
