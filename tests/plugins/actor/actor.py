"""A plugin for tests of the bus: publishes in every way, and has callbacks of every kind.

Its service bears its id, because tests load it under several (tests/actors.py).
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from plugin_worker import Plugin, PluginContext, PluginEvent, SpiralHostError, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD_S = 120.0
"""How long a callback waits for its sign at most, seconds: longer than any test that gives it."""

IN_TIME_S = 20.0
"""What is waited for takes milliseconds, and on a machine that is busy less than this, seconds."""

CROWD = 10
"""Threads that subscribe to very much together: each waits for daemon and node and back."""


class Service:
    """Keeps every event that its callbacks have run to the end, in order."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._bus = ctx.event_bus
        self._seen: list[PluginEvent] = []
        self._subscriptions: list[Subscription] = []
        self._counts: list[int] = []
        self._goes_on = False
        self._number = 0
        self._thread = threading.Thread()

    # --- listening --------------------------------------------------------------------------------

    def subscribe(
        self,
        pattern: str,
        how: str = "keep",
        then: str = "",
        replay: int = 0,
        since: float | None = None,
    ) -> None:
        """Listen with one of the callbacks below; `then` is what it does it with."""
        does: Callable[[PluginEvent, str], None] = getattr(self, f"_{how}")

        def callback(event: PluginEvent) -> None:
            does(event, then)
            self._seen.append(event)

        self._subscriptions.append(
            self._ctx.subscribe(pattern, callback, replay=replay, since=since)
        )

    def unsubscribe(self) -> bool:
        """End the newest subscription."""
        return self._ctx.unsubscribe(self._subscriptions.pop())

    def come_and_go(self, pattern: str, times: int) -> None:
        """Subscribe and unsubscribe, again and again."""

        def once(_: int) -> bool:
            return self._ctx.unsubscribe(self._ctx.subscribe(pattern, self._seen.append))

        with ThreadPoolExecutor(CROWD) as pool:
            assert all(pool.map(once, range(times)))

    def subscribe_many(self, pattern: str, first: int, last: int) -> None:
        """Listen to as many patterns, each with its number in it."""
        with ThreadPoolExecutor(CROWD) as pool:
            list(pool.map(self.subscribe, map(pattern.format, range(first, last + 1))))

    def unsubscribe_all(self) -> None:
        """End every subscription."""
        while self._subscriptions:
            self.unsubscribe()

    def count(self) -> int:
        """Say how many events came."""
        return len(self._seen)

    def highest(self) -> int:
        """Give the number that the newest event carries."""
        return int(str(self._seen[-1].to_dict()["data"])) if self._seen else 0

    def seen(self, first: int = 0, last: int = 1000) -> list[dict[str, object]]:
        """Give the events that came, from one place in their order to another."""
        return [event.to_dict() for event in self._seen[first:last]]

    def _keep(self, event: PluginEvent, then: str) -> None:
        pass

    def _raise(self, event: PluginEvent, then: str) -> None:
        raise ValueError(f"{then} {event.type}")

    def _die(self, event: PluginEvent, then: str) -> None:
        os._exit(3)

    def _hold(self, event: PluginEvent, then: str) -> None:
        """Say with a file that it runs, and run until another file says that it may end."""
        (self._ctx.data_dir / f"{then}-holds").touch()
        until = time.monotonic() + HOLD_S
        while not (self._ctx.data_dir / f"{then}-go").exists() and time.monotonic() < until:
            time.sleep(0.002)

    def _pass_on(self, event: PluginEvent, then: str) -> None:
        self._bus.publish(PluginEvent.custom(then, event.to_dict()["data"]))

    def _pass_on_and_wait(self, event: PluginEvent, then: str) -> None:
        report = self.report(then, event.to_dict()["data"])
        assert report.get("failures") == [], report

    # --- publishing -------------------------------------------------------------------------------

    def say(self, event_type: str, value: object = None) -> None:
        """Publish one event."""
        self._bus.publish(PluginEvent.custom(event_type, value))

    def count_to(self, last: int, *event_types: str) -> None:
        """Publish the numbers from 1, over types in turn."""
        for number in range(1, last + 1):
            event_type = event_types[number % len(event_types)]
            self._bus.publish(PluginEvent.custom(event_type, number))

    def report(
        self, event_type: str, value: object = None, timeout: float = IN_TIME_S
    ) -> dict[str, Any]:
        """Publish one event and wait; give the report, or the error's kind."""
        try:
            report = self._bus.publish_report(PluginEvent.custom(event_type, value), timeout)
        except SpiralHostError as error:
            return {"error": type(error).__name__}
        failures = [[failure.subscriber, failure.error] for failure in report.failures]
        return {"matched": report.matched, "delivered": report.delivered, "failures": failures}

    def wait(self, event_type: str, value: object = None, timeout: float = IN_TIME_S) -> int:
        """Publish one event and wait; give how many events had come to itself by then."""
        self._bus.publish(PluginEvent.custom(event_type, value), wait=True, timeout=timeout)
        return len(self._seen)

    def wait_in_thread(self, event_type: str) -> None:
        """Begin the same in a thread of its own, while this one goes on."""
        self._counts.clear()
        self._thread = threading.Thread(target=lambda: self._counts.append(self.wait(event_type)))
        self._thread.start()

    def waited(self) -> list[int]:
        """Give what that thread found, once it has."""
        return self._counts

    def call(self, service: str, method: str, *arguments: object) -> object:
        """Call another plugin."""
        return getattr(self._ctx.wait_service(service, 10.0), method)(*arguments)

    def make_sticky(self, event_type: str) -> None:
        """Have the last event of a type kept."""
        self._bus.make_sticky(event_type)

    def flood(self, event_type: str, burst: int = 0) -> None:
        """Publish numbers in a thread until told to stop.

        Args:
            burst: Rest for a millisecond after so many; 0 publishes as fast as it can.
        """

        def publish() -> None:
            while self._goes_on:
                self._number += 1
                self._bus.publish(PluginEvent.custom(event_type, self._number))
                if burst and not self._number % burst:
                    time.sleep(0.001)

        self._goes_on = True
        self._thread = threading.Thread(target=publish, daemon=True)
        self._thread.start()

    def flooded(self) -> int:
        """Give the number that is being published: whatever is higher is published from now on."""
        return self._number

    def stop(self) -> int:
        """Flood no more; give the last number."""
        self._goes_on = False
        self._thread.join()
        return self._number

    def publish_in_threads(self, event_type: str, threads: int, count: int) -> None:
        """Publish pairs of thread and number in several threads at once."""
        together = threading.Barrier(threads)

        def publish(me: int) -> None:
            together.wait()
            for number in range(count):
                self._bus.publish(PluginEvent.custom(event_type, [me, number]))

        workers = [threading.Thread(target=publish, args=(me,)) for me in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def publish_and_compute(self, event_type: str, count: int) -> bool:
        """Publish, then compute until somebody has seen it; say whether that was in time."""
        for number in range(count):
            self._bus.publish(PluginEvent.custom(event_type, number))
        until = time.monotonic() + IN_TIME_S
        while time.monotonic() < until:
            sum(range(2000))
            if (self._ctx.data_dir / "seen").exists():
                return True
        return False

    def publish_and_change(self, event_type: str) -> None:
        """Publish an event, then change it."""
        data = {"numbers": [1, 2, 3]}
        event = PluginEvent.custom(event_type, data)
        self._bus.publish(event)
        data["numbers"].clear()
        event.data = "changed"

    def refuse(self, kind: str) -> list[str]:
        """Try to publish something that cannot be; give the error's kind and text."""
        events: dict[str, Callable[[], object]] = {
            "field": lambda: PluginEvent.EpochEnd(epoch="one", loss=0.5),  # type: ignore[arg-type]
            "class": lambda: {"type": "Epoch"},
            "reserved": PluginEvent.SystemInit,
            "large": lambda: PluginEvent.custom("Heavy", "x" * 49_152),
            "name": lambda: PluginEvent.custom("a\nb", None),
        }
        try:
            self._bus.publish(events[kind]())  # type: ignore[arg-type]
        except SpiralHostError as error:
            return [type(error).__name__, str(error)]
        return []


class Actor(Plugin):
    """Offers all that under its own id."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(ctx.plugin_id, Service(ctx))
