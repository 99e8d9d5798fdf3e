"""What plugins and applications do alike: services, events, configuration, finding plugins."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from protocol.eventbus import EventBus
from protocol.messages import FindByCapability, GetConfig, Question, SetConfig
from protocol.plugin import PluginCapability
from protocol.services import Provider, Services
from protocol.subscriptions import EventCallback, Subscription


class Asking(Provider, Protocol):
    """What a process has to do for it."""

    def ask(self, build: Callable[[str], Question]) -> Any:  # noqa: ANN401 - as the daemon answers
        """Ask the daemon and wait for its answer."""


class Access(Services):
    """A process's access to its host."""

    @property
    @abstractmethod
    def _provider(self) -> Asking:
        """Who does it."""

    @property
    @abstractmethod
    def event_bus(self) -> EventBus:
        """Publish and subscribe."""

    def find_by_capability(self, capability: PluginCapability | str) -> list[str]:
        """Name the plugins that are ready and can do something."""
        found: list[str] = self._provider.ask(lambda name: FindByCapability(name, str(capability)))
        return found

    def subscribe(
        self,
        event_type: str,
        callback: EventCallback,
        *,
        replay: int = 0,
        since: float | None = None,
    ) -> Subscription:
        """Call back for every event published from now on; see `EventBus.subscribe`.

        A plugin's callbacks run in its main thread, an application's in one in the background.
        """
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
        self._provider.ask(lambda name: SetConfig(name, key, value))

    def list_config(self, prefix: str = "") -> dict[str, str]:
        """Give every configured value whose key begins with a prefix, by key."""
        found: dict[str, str] = self._provider.ask(lambda name: GetConfig(name, prefix))
        return found
