"""Listeners on a fake bus; threads and loops are real, and wait for each other, not for time."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from protocol.errors import NoDaemon, UsageError
from protocol.events import PluginEvent
from protocol.names import Topic, parse_pattern
from protocol.patterns import matches
from protocol.subscriptions import EventCallback, Subscription
from spiral_host import listener as listening
from spiral_host.listener import Listener, fewest

DEADLINE = 20.0

T = TypeVar("T")


class FakeBus:
    """Calls back in the thread that publishes."""

    def __init__(self) -> None:
        self.is_closed = False
        self.is_there = True
        self.wanted: dict[Subscription, EventCallback] = {}
        self.asked = 0
        self.refuses: str | None = None

    def subscribe(self, event_type: str, callback: EventCallback) -> Subscription:
        if event_type == self.refuses:
            raise NoDaemon("/run/town")
        subscription = Subscription(parse_pattern(event_type), len(self.wanted))
        self.wanted[subscription] = callback
        return subscription

    def unsubscribe(self, subscription: Subscription) -> bool:
        return self.wanted.pop(subscription, None) is not None

    def status(self) -> dict[str, Any]:
        self.asked += 1
        if not self.is_there:
            raise NoDaemon("/run/town")
        return {}

    def publish(self, *events: PluginEvent) -> None:
        for event in events:
            for subscription, callback in list(self.wanted.items()):
                if matches(subscription.topic, event.type):
                    callback(event)


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait without an event is one in which the daemon is asked at once."""
    monkeypatch.setattr(listening, "QUIET_S", 0.001)


def listen(bus: FakeBus, *patterns: str, maxlen: int = 1024) -> Listener:
    listener = Listener(bus, maxlen)
    listener.hear(patterns)
    return listener


def epochs(*numbers: int) -> list[PluginEvent]:
    return [PluginEvent.EpochStart(epoch=number) for number in numbers]


def in_thread(job: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start a job; give its thread, and the list that its result will be in."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(job())
        except NoDaemon as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def waits(listener: Listener) -> bool:
    """Say whether somebody waits for the listener's next event; wait for that."""
    while not listener._wakers:
        pass
    return True


class TestQueue:
    def test_events_are_taken_in_order(self, bus: FakeBus) -> None:
        """
        `poll` takes one, `drain` the rest; then there is none, and nobody has waited.
        """
        listener = listen(bus, "*")
        bus.publish(*epochs(1, 2, 3))

        assert len(listener) == 3
        assert listener.poll() == PluginEvent.EpochStart(1)
        assert listener.drain() == epochs(2, 3)
        assert (listener.poll(), listener.drain(), len(listener)) == (None, [], 0)

    def test_the_oldest_make_room_and_are_counted(self, bus: FakeBus) -> None:
        """
        A full queue holds the newest; gaps count like any event.
        """
        listener = listen(bus, "*", maxlen=2)
        bus.publish(*epochs(1), PluginEvent.EventGap("X", 1, 9), *epochs(3, 4))

        assert listener.dropped == 2
        assert listener.drain() == epochs(3, 4)
        bus.publish(*epochs(5))
        assert (listener.poll(), listener.dropped) == (PluginEvent.EpochStart(5), 2)

    @pytest.mark.parametrize("maxlen", [0, -1, 1.5, True, None])
    def test_no_room_is_refused(self, bus: FakeBus, maxlen: int) -> None:
        """
        A queue that holds nothing, or no whole number, cannot be meant.
        """
        with pytest.raises(UsageError, match="at least one event"):
            Listener(bus, maxlen)

    def test_what_several_patterns_match_comes_once(self, bus: FakeBus) -> None:
        """
        A pattern that another includes is not subscribed to.
        """
        listener = listen(bus, "Trainer.epoch", "Trainer.*", "EpochStart")
        bus.publish(PluginEvent.custom("Trainer.epoch", 1), *epochs(2), PluginEvent.SystemInit())

        assert [event.type for event in listener.drain()] == ["Trainer.epoch", "EpochStart"]

    @pytest.mark.parametrize(
        ("patterns", "kept"),
        [
            ((), ["*"]),
            (("A", "*"), ["*"]),
            (("A", "A"), ["A"]),
            (("A.b.*", "A.b.c", "A.*", "A"), ["A.*", "A"]),
            (("Ab.*", "A.*"), ["Ab.*", "A.*"]),
        ],
        ids=str,
    )
    def test_fewest(self, patterns: tuple[str, ...], kept: list[str]) -> None:
        """
        Nothing is everything; what is wider stands for what is narrower.
        """
        assert fewest(patterns) == [Topic(pattern) for pattern in kept]

    def test_a_bad_pattern_subscribes_to_nothing(self, bus: FakeBus) -> None:
        """
        All are looked at before the bus is told of any.
        """
        with pytest.raises(UsageError):
            listen(bus, "A", "b\n")

        assert not bus.wanted

    def test_a_subscription_that_fails_takes_the_others_along(self, bus: FakeBus) -> None:
        """
        Nothing is left of a listener that nobody has been given.
        """
        bus.refuses = "B"
        with pytest.raises(NoDaemon):
            listen(bus, "A", "B")

        assert not bus.wanted


class TestWaiting:
    def test_poll_waits_for_an_event(self, bus: FakeBus) -> None:
        """
        Whoever waits is given the next event, from the thread in which it comes.
        """
        listener = listen(bus)
        thread, results = in_thread(lambda: listener.poll(DEADLINE))
        assert waits(listener)
        bus.publish(*epochs(1))
        thread.join(DEADLINE)

        assert results == epochs(1)

    def test_nobody_waits_for_what_is_there(self, bus: FakeBus) -> None:
        """
        An event, or the end, that came just before the wait is seen: nothing would announce it.
        """
        listener = listen(bus)
        assert listener._call_on_change(print)
        bus.publish(*epochs(1))
        assert not listener._call_on_change(print)
        assert listener.drain() == epochs(1)
        listener.close()
        assert not listener._call_on_change(print)

    def test_poll_gives_up_in_time(self, bus: FakeBus) -> None:
        """
        None is the answer at the end of the timeout, and nothing is left of the wait.
        """
        listener = listen(bus)

        assert listener.poll(0.001) is None
        assert listener.poll(-1.0) is None
        assert not listener._wakers

    def test_several_who_wait_share(self, bus: FakeBus) -> None:
        """
        Each event goes to one of them.
        """
        listener = listen(bus)
        threads = [in_thread(lambda: listener.poll(DEADLINE)) for _ in range(4)]
        bus.publish(*epochs(1, 2, 3, 4))
        for thread, _ in threads:
            thread.join(DEADLINE)

        taken = [event for _, results in threads for event in results]
        assert sorted(event.epoch for event in taken) == [1, 2, 3, 4]  # type: ignore[attr-defined]

    def test_iteration_ends_with_the_listener(self, bus: FakeBus) -> None:
        """
        What has arrived is given first; who waits is woken.
        """
        listener = listen(bus)
        bus.publish(*epochs(1, 2))
        thread, results = in_thread(lambda: list(listener))
        assert waits(listener)
        listener.close()
        thread.join(DEADLINE)

        assert results == [epochs(1, 2)]
        assert not bus.wanted

    def test_what_waits_at_the_end_can_be_taken(self, bus: FakeBus) -> None:
        """
        After `close` nothing is added; closing again does nothing.
        """
        with listen(bus) as listener:
            callback = next(iter(bus.wanted.values()))
            bus.publish(*epochs(1, 2))
        callback(PluginEvent.EpochStart(3))
        listener.close()

        assert listener.is_closed
        assert listener.poll(DEADLINE) == PluginEvent.EpochStart(1)
        assert list(listener) == epochs(2)
        assert listener.poll(DEADLINE) is None

    @pytest.mark.usefixtures("quiet")
    def test_a_daemon_that_has_gone_is_an_error(self, bus: FakeBus) -> None:
        """
        Iteration asks after it when nothing comes; one that is there is waited for.
        """
        listener = listen(bus)
        thread, results = in_thread(lambda: next(listener))
        while bus.asked < 3:
            pass
        assert not results
        bus.is_there = False
        thread.join(DEADLINE)

        assert isinstance(results[0], NoDaemon)

    @pytest.mark.usefixtures("quiet")
    def test_a_host_that_closes_is_no_error(self, bus: FakeBus) -> None:
        """
        While it closes, its daemon cannot be asked; then iteration ends as with any close.
        """
        listener = listen(bus)
        bus.is_closed, bus.is_there = True, False
        thread, results = in_thread(lambda: list(listener))
        while bus.asked < 3:
            pass
        listener.close()
        thread.join(DEADLINE)

        assert results == [[]]


async def waiting(listener: Listener, tasks: int = 1) -> list[asyncio.Task[PluginEvent]]:
    """Start tasks that wait for an event each."""
    started = [asyncio.create_task(_take(listener)) for _ in range(tasks)]
    while len(listener._wakers) < tasks:  # noqa: ASYNC110 - the listener tells nobody
        await asyncio.sleep(0)
    return started


async def _take(listener: Listener) -> PluginEvent:
    return await anext(listener)


def run(job: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine in a loop of its own, with a deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(DEADLINE):
            return await job()

    return asyncio.run(bounded())


class TestAsync:
    def test_events_come_without_a_thread(
        self, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A hundred loops' tasks wait at no cost in threads, and each event goes to one.
        """
        monkeypatch.setattr(listening, "QUIET_S", 2 * DEADLINE)  # to ask the daemon takes a thread
        listener = listen(bus)

        async def job() -> list[PluginEvent]:
            before = set(threading.enumerate())  # some may be about to end
            tasks = await waiting(listener, 100)
            assert set(threading.enumerate()) <= before
            in_thread(lambda: bus.publish(*epochs(*range(100))))
            return await asyncio.gather(*tasks)

        taken = run(job)
        assert {event.fields()["epoch"] for event in taken} == set(range(100))

    def test_it_ends_with_the_listener(self, bus: FakeBus) -> None:
        """
        `async for` gives what has arrived, and ends when another thread closes.
        """
        listener = listen(bus)

        def close() -> None:
            waits(listener)
            listener.close()

        async def job() -> list[PluginEvent]:
            bus.publish(*epochs(1, 2))
            taken = []
            async for event in listener:
                taken.append(event)
                if len(taken) == 2:
                    in_thread(close)
            return taken

        assert run(job) == epochs(1, 2)

    @pytest.mark.usefixtures("quiet")
    def test_a_daemon_that_has_gone_is_an_error(self, bus: FakeBus) -> None:
        """
        As in a thread.
        """
        listener = listen(bus)
        bus.is_there = False

        with pytest.raises(NoDaemon):
            run(lambda: _take(listener))

    def test_a_task_that_is_cancelled_leaves_nothing(self, bus: FakeBus) -> None:
        """
        The event that comes next is for others.
        """
        listener = listen(bus)

        async def job() -> None:
            (task,) = await waiting(listener)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(job)
        assert not listener._wakers
        bus.publish(*epochs(1))
        assert listener.poll() == PluginEvent.EpochStart(1)

    def test_a_loop_that_was_closed_harms_nobody(self, bus: FakeBus) -> None:
        """
        An event that arrives just then has nobody to wake, and that is no error.
        """
        listener = listen(bus)
        wakers: list[Callable[[], object]] = []

        async def job() -> None:
            (task,) = await waiting(listener)
            wakers.extend(listener._wakers)
            task.cancel()

        run(job)
        listener._wakers += wakers
        bus.publish(*epochs(1))

        assert listener.poll() == PluginEvent.EpochStart(1)
