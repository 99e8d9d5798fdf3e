"""What a plugin may touch: services, events, configuration, its log and its folder."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from protocol.errors import ServiceUnavailable
from protocol.events import PluginEvent
from protocol.messages import (
    FindByCapability,
    GetConfig,
    ListServices,
    Question,
    SetConfig,
)
from protocol.names import EVERYTHING, Topic, parse_topic
from protocol.plugin import PluginCapability
from protocol.running import is_cancelled
from protocol.stub import DEFAULT_TIMEOUT_S, Options
from protocol.subscriptions import EventCallback, Subscription

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from protocol.arena import Arena

T = TypeVar("T")

__all__ = ["EventBus", "EventCallback", "PluginContext", "Subscription"]


class Host(Protocol):
    """What the context needs of the worker's runtime."""

    def ask(self, build: Callable[[str], Question]) -> Any:  # noqa: ANN401
        """Ask the daemon and wait for its answer."""

    def publish(self, event: PluginEvent) -> None:
        """Put an event on the bus."""

    def subscribe(self, topic: Topic, callback: EventCallback) -> Subscription:
        """Have a callback called for events of a type."""

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription."""

    def offer(self, name: str, service: object, kind: Callable[..., Any] | None) -> None:
        """Offer a service."""

    def withdraw(self, name: str) -> bool:
        """Offer it no more."""

    def find_service(self, name: str, wait_s: float, options: Options) -> Any:  # noqa: ANN401
        """Give a stub, or None."""

    @property
    def arena(self) -> "Arena":
        """The worker's shared memory."""


class EventBus:
    """The bus as a plugin sees it; lives as long as the plugin."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def publish(self, event: PluginEvent) -> None:
        """Publish an event; who gets it, and when, is not waited for.

        Raises:
            UsageError: Its type is reserved for the daemon.
            LocalProtocolError: It cannot travel, or has more than 48 KiB.
        """
        self._host.publish(event)

    def subscribe(self, event_type: str, callback: EventCallback) -> Subscription:
        """Call back for every event of a type published from now on; `"*"` is every type."""
        topic = EVERYTHING if event_type == EVERYTHING else parse_topic(event_type)
        return self._host.subscribe(topic, callback)

    def unsubscribe(self, subscription: Subscription) -> bool:
        """Call back no more; say whether the subscription was there."""
        return self._host.unsubscribe(subscription)


class PluginContext:
    """The plugin's side of the host; lives as long as the plugin.

    Attributes:
        event_bus: Publish and subscribe.
        log: A logger; what it says stands in the plugin's log with everything printed.
        data_dir: The plugin's own folder, writable, kept when the plugin restarts.
    """

    def __init__(self, host: Host, plugin_id: str, data_dir: Path) -> None:
        self.event_bus = EventBus(host)
        self.log = logging.getLogger(plugin_id)
        self.data_dir = data_dir
        self.plugin_id = plugin_id
        self._host = host

    # --- services ---------------------------------------------------------------------------------

    def register_service(
        self, name: str, service: object, kind: Callable[..., Any] | None = None
    ) -> None:
        """Offer an object: its public methods can be called from other processes.

        Arguments are checked by the methods' annotations before a method runs.

        Args:
            kind: A `typing.Protocol`: its methods are offered, by its annotations, and no others.

        Raises:
            UsageError: The name is no service name, the object has no public method or is not what
                `kind` says, or an annotation names what cannot travel.
        """
        self._host.offer(name, service, kind)

    def unregister_service(self, name: str) -> bool:
        """Offer it no more; say whether it was offered."""
        return self._host.withdraw(name)

    @overload
    def get_service(self, name: str, *, timeout: float = ..., wait: bool = ...) -> Any: ...  # noqa: ANN401

    @overload
    def get_service(
        self, name: str, kind: Callable[..., T], *, timeout: float = ..., wait: bool = ...
    ) -> T | None: ...

    def get_service(
        self,
        name: str,
        kind: Callable[..., T] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        wait: bool = True,
    ) -> Any:
        """Give a stub of a service, the object itself if it is this plugin's own, else None.

        Args:
            kind: What the service is to be, most often a `typing.Protocol`; results are given as
                its annotations have them, and type checkers know the stub as one.
            timeout: Seconds that each call may take.
            wait: Whether a call waits while nobody offers the service any more, as during a
                restart, or fails at once.

        Raises:
            UsageError: `kind` is no class with public methods, or the timeout no time.
        """
        return self._host.find_service(name, 0.0, Options(kind, timeout, wait))

    @overload
    def wait_service(self, name: str, timeout: float) -> Any: ...  # noqa: ANN401

    @overload
    def wait_service(self, name: str, timeout: float, kind: Callable[..., T]) -> T: ...

    def wait_service(self, name: str, timeout: float, kind: Callable[..., T] | None = None) -> Any:
        """Give a stub as soon as somebody offers the service.

        Args:
            timeout: Seconds to wait for that.
            kind: As for `get_service`.

        Raises:
            ServiceUnavailable: Nobody did in time.
        """
        stub = self._host.find_service(name, timeout, Options(kind))
        if stub is None:
            raise ServiceUnavailable(name, f"nobody offered it within {timeout:g} s")
        return stub

    def list_services(self) -> list[str]:
        """Name every service that can be called."""
        return [row[0] for row in self._host.ask(ListServices)]

    def find_by_capability(self, capability: PluginCapability | str) -> list[str]:
        """Name the plugins that are ready and can do something."""
        found: list[str] = self._host.ask(lambda name: FindByCapability(name, str(capability)))
        return found

    def empty(self, shape: int | tuple[int, ...], dtype: "DTypeLike") -> "NDArray[Any]":
        """Give an array in shared memory: sending it, or a contiguous part of it, copies nothing.

        It is all zeros, and writable. Whoever it was sent to sees what is written to it later, so
        write to it first, and to another one while they still look.

        Raises:
            LocalProtocolError: Its dtype cannot travel, or there is no room: 2 GiB a worker.
        """
        return self._host.arena.empty(shape, dtype)

    def cancelled(self) -> bool:
        """Say whether nobody waits any more for what this handler is doing.

        Its caller has cancelled the call, has died, or the deadline has passed. Takes 1 us: it
        looks at the caller's lane.
        """
        return is_cancelled()

    # --- events -----------------------------------------------------------------------------------

    def subscribe(self, event_type: str, callback: EventCallback) -> Subscription:
        """Call back for every event of a type published from now on; `"*"` is every type."""
        return self.event_bus.subscribe(event_type, callback)

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
