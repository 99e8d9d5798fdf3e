"""What a plugin may touch: services, events, configuration, its log and its folder."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from protocol.eventbus import EventBus, Publishing
from protocol.messages import (
    FindByCapability,
    GetConfig,
    ListServices,
    Question,
    SetConfig,
)
from protocol.names import Topic
from protocol.plugin import PluginCapability
from protocol.running import is_cancelled
from protocol.services import Provider, Services
from protocol.subscriptions import EventCallback, Past, Subscription

__all__ = ["EventBus", "EventCallback", "PluginContext", "Subscription"]


class Host(Provider, Protocol):
    """What the context needs of the worker's runtime."""

    def ask(self, build: Callable[[str], Question]) -> Any:  # noqa: ANN401
        """Ask the daemon and wait for its answer."""

    @property
    def publisher(self) -> Publishing:
        """The way onto the bus."""

    def subscribe(self, pattern: Topic, callback: EventCallback, past: Past) -> Subscription:
        """Have a callback called for past events and those to come."""

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription."""


class PluginContext(Services):
    """The plugin's side of the host; lives as long as the plugin.

    Attributes:
        event_bus: Publish and subscribe.
        log: A logger; what it says stands in the plugin's log with everything printed.
        data_dir: The plugin's own folder, writable, kept when the plugin restarts.
    """

    def __init__(self, host: Host, plugin_id: str, data_dir: Path) -> None:
        self.event_bus = EventBus(host.publisher, host)
        self.log = logging.getLogger(plugin_id)
        self.data_dir = data_dir
        self.plugin_id = plugin_id
        self._host = host

    @property
    def _provider(self) -> Host:
        return self._host

    # --- services, beside those of `Services` -----------------------------------------------------

    def list_services(self) -> list[str]:
        """Name every service that can be called."""
        return [row[0] for row in self._host.ask(ListServices)]

    def find_by_capability(self, capability: PluginCapability | str) -> list[str]:
        """Name the plugins that are ready and can do something."""
        found: list[str] = self._host.ask(lambda name: FindByCapability(name, str(capability)))
        return found

    def cancelled(self) -> bool:
        """Say whether nobody waits any more for what this handler is doing.

        Its caller has cancelled the call, has died, or the deadline has passed. Takes 1 us: it
        looks at the caller's lane.
        """
        return is_cancelled()

    # --- events -----------------------------------------------------------------------------------

    def subscribe(
        self,
        event_type: str,
        callback: EventCallback,
        *,
        replay: int = 0,
        since: float | None = None,
    ) -> Subscription:
        """Call back for every event published from now on; see `EventBus.subscribe`."""
        return self.event_bus.subscribe(event_type, callback, replay=replay, since=since)

    def unsubscribe(self, subscription: Subscription) -> bool:
        """Call back no more; say whether the subscription was there."""
        return self.event_bus.unsubscribe(subscription)

    # --- configuration ----------------------------------------------------------------------------

    def get_config(self, key: str) -> str | None:
        """Give a configured value, or None."""
        return self.list_config(key).get(key)

    def set_config(self, key: str, value: str) -> None:
        """Configure a value, for everybody."""
        self._host.ask(lambda name: SetConfig(name, key, value))

    def list_config(self, prefix: str = "") -> dict[str, str]:
        """Give every configured value whose key begins with a prefix, by key."""
        found: dict[str, str] = self._host.ask(lambda name: GetConfig(name, prefix))
        return found
