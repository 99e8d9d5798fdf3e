"""A plugin that subscribes as it is told and remembers what came."""

import time

from plugin_worker import Plugin, PluginContext, PluginEvent, Subscription


class Service:
    """Keeps every event that reached it, in order."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._seen: list[PluginEvent] = []
        self._subscriptions: dict[str, Subscription] = {}

    def subscribe(self, event_type: str) -> None:
        """Listen to a type from now on."""
        self._subscriptions[event_type] = self._ctx.subscribe(event_type, self._seen.append)

    def unsubscribe(self, event_type: str) -> bool:
        """Listen to it no more."""
        return self._ctx.unsubscribe(self._subscriptions.pop(event_type))

    def subscribe_badly(self, event_type: str) -> None:
        """Listen with a callback that always raises."""
        self._ctx.subscribe(event_type, self._raise)

    def count(self) -> int:
        """Say how many events came."""
        return len(self._seen)

    def seen(self, first: int = 0, last: int = 1000) -> list[dict[str, object]]:
        """Give the events that came, from one place in their order to another."""
        return [event.to_dict() for event in self._seen[first:last]]

    def hold(self) -> None:
        """Read nothing until a file says so; a callback that takes its time looks the same."""
        (self._ctx.data_dir / "holds").touch()
        while not (self._ctx.data_dir / "go").exists():
            time.sleep(0.005)

    def _raise(self, event: PluginEvent) -> None:
        raise RuntimeError(event.type)


class Subscriber(Plugin):
    """Offers its memory."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("subscriber", Service(ctx))
