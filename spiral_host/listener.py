"""A bounded queue of events for code that fetches them itself. Subscribes; publishes nothing.

    callback thread --put--> [oldest ... newest] --poll, drain, for, async for--> any thread or loop
                              a full queue forgets its oldest and counts it

Whoever puts never waits for whoever takes. Nobody who waits keeps a thread of ours busy.
"""

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Final, Protocol, Self

from protocol.errors import NoDaemon, UsageError
from protocol.events import PluginEvent
from protocol.names import EVERYTHING, Topic, parse_pattern
from protocol.patterns import patterns_of
from protocol.subscriptions import EventCallback, Subscription

MAXLEN: Final = 1024
"""Events that wait by default: a few hundred KB, and some ms of a busy bus."""

QUIET_S: Final = 2.0
"""Seconds without an event after which the daemon is asked whether it is still there."""


class Bus(Protocol):
    """What a listener needs of the host."""

    @property
    def is_closed(self) -> bool: ...

    def subscribe(self, event_type: str, callback: EventCallback) -> Subscription: ...

    def unsubscribe(self, subscription: Subscription) -> bool: ...

    def status(self) -> dict[str, Any]: ...


class Listener(Iterator[PluginEvent], AsyncIterator[PluginEvent]):
    """What has arrived and nobody has taken yet; lives until it or its host is closed.

    Any number of threads and loops may take from it; each event goes to one of them. A callback
    may `poll` and `drain`, but must not wait: the thread that it would wait for is its own.

    Args:
        maxlen: How many events may wait.

    Raises:
        UsageError: `maxlen` is no positive number.
    """

    def __init__(self, bus: Bus, maxlen: int = MAXLEN) -> None:
        if type(maxlen) is not int or maxlen < 1:
            raise UsageError(f"a listener keeps at least one event; got maxlen={maxlen!r}")
        self._bus = bus
        self._maxlen = maxlen
        self._lock = threading.Lock()
        self._events: deque[PluginEvent] = deque()
        self._dropped = 0
        self._is_closed = False
        self._wakers: list[Callable[[], object]] = []
        self._subscriptions: list[Subscription] = []

    def hear(self, patterns: Iterable[str]) -> None:
        """Subscribe; an event that several patterns match comes once. None are every type.

        Raises:
            UsageError: One is neither an event type nor a pattern.
            NoDaemon: The subscription was not confirmed; the listener is closed.
        """
        wanted = fewest(patterns)
        try:
            for pattern in wanted:
                self._subscriptions.append(self._bus.subscribe(pattern, self.put))
        except BaseException:
            self.close()
            raise

    def put(self, event: PluginEvent) -> None:
        """Keep an event, and forget the oldest if there is no room. Runs in the callback thread."""
        with self._lock:
            if self._is_closed:
                return
            if len(self._events) >= self._maxlen:
                self._events.popleft()
                self._dropped += 1
            self._events.append(event)
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    # --- taking -----------------------------------------------------------------------------------

    def poll(self, timeout: float = 0.0) -> PluginEvent | None:
        """Take the oldest event; None if there is none within `timeout` seconds."""
        until = monotonic() + timeout
        while (event := self._taken()) is None:
            left = until - monotonic()
            if not left > 0 or self._is_closed:
                return None
            woken = threading.Event()
            try:
                if self._call_on_change(woken.set):
                    woken.wait(min(left, threading.TIMEOUT_MAX))
            finally:
                self._forget(woken.set)
        return event

    def _taken(self) -> PluginEvent | None:
        with self._lock:
            return self._events.popleft() if self._events else None

    def _call_on_change(self, wake: Callable[[], object]) -> bool:
        """Have something called, once, when there is something to take or the end; not if so."""
        with self._lock:
            if self._events or self._is_closed:
                return False
            self._wakers.append(wake)
            return True

    def _forget(self, wake: Callable[[], object]) -> None:
        with self._lock, suppress(ValueError):
            self._wakers.remove(wake)

    def drain(self) -> list[PluginEvent]:
        """Take all that wait, oldest first."""
        with self._lock:
            taken, self._events = list(self._events), deque()
        return taken

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PluginEvent:
        """Wait for the oldest event; the end comes when the listener is closed and empty.

        Raises:
            NoDaemon: It has gone and nobody has come in its place for some seconds.
        """
        while True:
            is_last = self._is_closed
            event = self.poll(0.0 if is_last else QUIET_S)
            if event is not None:
                return event
            if is_last:
                raise StopIteration
            self._look_after_daemon()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PluginEvent:
        """Do as `__next__`, in any asyncio loop."""
        while True:
            is_last = self._is_closed
            event = self._taken()
            if event is not None:
                return event
            if is_last:
                raise StopAsyncIteration
            await self._arrival()

    async def _arrival(self) -> None:
        import asyncio  # noqa: PLC0415 - most applications have no loop

        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed while somebody waited in it
                loop.call_soon_threadsafe(arrived.set)

        try:
            if not self._call_on_change(wake):
                return
            async with asyncio.timeout(QUIET_S):
                await arrived.wait()
        except TimeoutError:
            await asyncio.to_thread(self._look_after_daemon)
        finally:
            self._forget(wake)

    def _look_after_daemon(self) -> None:
        if self._is_closed:
            return
        try:
            self._bus.status()
        except NoDaemon:
            # A host that is being closed comes to its listeners last: they end without an error.
            if not self._is_closed and not self._bus.is_closed:
                raise

    # --- figures, and the end ---------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """How many events, gaps among them, were forgotten because nobody took them in time."""
        return self._dropped

    @property
    def is_closed(self) -> bool:
        """Whether nothing comes any more; what waits can still be taken."""
        return self._is_closed

    def __len__(self) -> int:
        return len(self._events)

    def close(self) -> None:
        """Listen no more; whoever waits is woken. What has arrived can still be taken."""
        with self._lock:
            self._is_closed = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()
        while self._subscriptions:
            with suppress(NoDaemon):
                self._bus.unsubscribe(self._subscriptions.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self.close()


def fewest(patterns: Iterable[str]) -> list[Topic]:
    """Leave out the patterns that others include; none at all are every type.

    Raises:
        UsageError: One is neither an event type nor a pattern.
    """
    wanted = dict.fromkeys(map(parse_pattern, patterns)) or {EVERYTHING: None}
    return [
        pattern
        for pattern in wanted
        if not any(wider in wanted for wider in patterns_of(pattern) if wider != pattern)
    ]
