"""The event bus as plugins and applications see it: publish, wait, subscribe."""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from protocol.errors import UsageError
from protocol.events import PluginEvent
from protocol.names import Topic, parse_pattern
from protocol.publishing import WAIT_S, PublishReport, check_wait, require_all
from protocol.subscriptions import EventCallback, Past, Subscription, parse_past

_COROUTINE: Final = 0x80
"""CO_COROUTINE of `inspect`, which takes long to import."""


class Publishing(Protocol):
    """A way onto the bus."""

    def publish(self, event: PluginEvent) -> None:
        """Send an event, and wait for nobody."""

    def publish_report(self, event: PluginEvent, timeout: float) -> PublishReport:
        """Send an event, and wait until every callback for it has run."""

    def make_sticky(self, event_type: str) -> None:
        """Have the last event of a type kept for whoever subscribes later."""


class Subscribing(Protocol):
    """A way to hear from the bus."""

    def subscribe(self, pattern: Topic, callback: EventCallback, past: Past) -> Subscription:
        """Have a callback called; holds when this returns."""

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription."""


class EventBus:
    """The bus of one plugin or application; lives as long as it. Any thread may use it."""

    def __init__(self, publishing: Publishing, subscribing: Subscribing) -> None:
        self._publishing = publishing
        self._subscribing = subscribing
        self._publish = publishing.publish

    def publish(self, event: PluginEvent, *, wait: bool = False, timeout: float = WAIT_S) -> None:
        """Publish an event.

        Args:
            wait: Whether to return only when every callback that is subscribed now has run, in
                every process. What they raise is theirs: see `publish_report`.
            timeout: Seconds to wait.

        Raises:
            UsageError: Its type is reserved for the daemon, or a field holds what it should not.
            LocalProtocolError: It cannot travel, or has more than 48 KiB.
            DeadlineExceeded: A callback still runs at the end of the timeout.
        """
        if not wait:
            self._publish(event)
            return
        require_all(self.publish_report(event, timeout), timeout)

    def publish_report(self, event: PluginEvent, timeout: float = WAIT_S) -> PublishReport:
        """Publish an event, wait until every callback for it has run, and say what became of it.

        Args:
            timeout: Seconds; who has not answered by then is among the failures.

        Raises:
            UsageError, LocalProtocolError: As `publish` does.
            DeadlineExceeded: There is no daemon that would know.
        """
        return self._publishing.publish_report(event, check_wait(timeout))

    def make_sticky(self, event_type: str) -> None:
        """Let the last event of a type be kept, of those published here from now on.

        Whoever subscribes later is given it at once, and who falls behind is not spared it.
        """
        self._publishing.make_sticky(event_type)

    def subscribe(
        self,
        event_type: str,
        callback: EventCallback,
        *,
        replay: int = 0,
        since: float | None = None,
    ) -> Subscription:
        """Call back for every event published from now on, by anybody; that holds on return.

        Args:
            event_type: `"*"` is every type, `"Trainer.*"` every one that begins with `Trainer.`.
            replay: Call back for so many past events first, as far as they are still kept.
            since: Or for those since then, seconds since the epoch.

        Raises:
            UsageError: An argument cannot be meant.
            NoDaemon, DeadlineExceeded: No daemon confirms it.
        """
        pattern, past = parse_pattern(event_type), parse_past(replay, since)
        if not callable(callback):
            raise UsageError(f"a callback is called; got {callback!r:.60}")
        if _is_async(callback):
            raise UsageError("a callback for events is a plain function, not `async def`")
        return self._subscribing.subscribe(pattern, callback, past)

    def unsubscribe(self, subscription: Subscription) -> bool:
        """Call back no more; say whether the subscription was there."""
        return self._subscribing.unsubscribe(subscription)


def _is_async(callback: Callable[..., object]) -> bool:
    while isinstance(callback, partial):
        callback = callback.func
    function = getattr(callback, "__func__", callback)
    if not hasattr(function, "__code__"):
        function = getattr(type(callback), "__call__", None)  # noqa: B004 - an object of a class
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _COROUTINE)
