from collections.abc import Callable
from functools import partial

import pytest

from protocol.errors import DeadlineExceeded, UsageError
from protocol.eventbus import EventBus
from protocol.events import PluginEvent
from protocol.names import Topic
from protocol.publishing import LATE, WAIT_S, PublishFailure, PublishReport
from protocol.subscriptions import EventCallback, Past, Subscription

EVENT = PluginEvent.EpochStart(1)


class Way:
    """A way onto the bus and back that notes what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.report = PublishReport("EpochStart")

    def publish(self, event: PluginEvent) -> None:
        self.said.append(("publish", event))

    def publish_report(self, event: PluginEvent, timeout: float) -> PublishReport:
        self.said.append(("report", event, timeout))
        return self.report

    def make_sticky(self, event_type: str) -> None:
        self.said.append(("sticky", event_type))

    def subscribe(self, pattern: Topic, callback: EventCallback, past: Past) -> Subscription:
        self.said.append(("subscribe", pattern, callback, past))
        return Subscription(pattern, 7)

    def unsubscribe(self, subscription: Subscription) -> bool:
        self.said.append(("unsubscribe", subscription))
        return True


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def bus(way: Way) -> EventBus:
    return EventBus(way, way)


class Listener:
    def hear(self, event: PluginEvent) -> None:
        """Take an event."""

    async def later(self, event: PluginEvent) -> None:
        """Take an event, some time."""

    def __call__(self, event: PluginEvent) -> None:
        """Take an event."""


class Waiter:
    async def __call__(self, event: PluginEvent) -> None:
        """Take an event, some time."""


async def later(event: PluginEvent) -> None:
    """Take an event, some time."""


class TestPublish:
    def test_an_event_leaves_without_waiting(self, bus: EventBus, way: Way) -> None:
        """
        Nobody asks what becomes of it.
        """
        bus.publish(EVENT)

        assert way.said == [("publish", EVENT)]

    def test_a_publisher_may_wait(self, bus: EventBus, way: Way) -> None:
        """
        For five seconds, or as long as it says; callbacks that raise have run.
        """
        way.report = PublishReport("EpochStart", 1, 0, (PublishFailure("a", "ValueError: no"),))
        bus.publish(EVENT, wait=True)
        bus.publish(EVENT, wait=True, timeout=2)

        assert way.said == [("report", EVENT, WAIT_S), ("report", EVENT, 2.0)]

    def test_a_callback_that_still_runs_is_an_error(self, bus: EventBus, way: Way) -> None:
        """
        Whoever waits for all of them hears that one has not come to its end.
        """
        way.report = PublishReport("EpochStart", 1, 0, (PublishFailure("a", LATE),))

        with pytest.raises(DeadlineExceeded, match="at a"):
            bus.publish(EVENT, wait=True)

    def test_a_report_says_who_is_late(self, bus: EventBus, way: Way) -> None:
        """
        Whoever asks for it is told, and no error is raised.
        """
        way.report = PublishReport("EpochStart", 1, 0, (PublishFailure("a", LATE),))

        assert bus.publish_report(EVENT, timeout=2) is way.report
        assert bus.publish_report(EVENT) is way.report
        assert way.said == [("report", EVENT, 2.0), ("report", EVENT, WAIT_S)]

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), 601, None])
    def test_a_timeout_that_is_none_sends_nothing(
        self, bus: EventBus, way: Way, timeout: float
    ) -> None:
        """
        Nothing has left when it is refused.
        """
        with pytest.raises(UsageError, match="timeout"):
            bus.publish(EVENT, wait=True, timeout=timeout)
        with pytest.raises(UsageError, match="timeout"):
            bus.publish_report(EVENT, timeout)

        assert way.said == []

    def test_a_type_is_made_sticky(self, bus: EventBus, way: Way) -> None:
        """
        By its publisher.
        """
        bus.make_sticky("Config")

        assert way.said == [("sticky", "Config")]


class TestSubscribe:
    @pytest.mark.parametrize(
        "callback",
        [print, Listener().hear, Listener(), lambda _: None, partial(print, "event")],
        ids=["builtin", "method", "object", "lambda", "partial"],
    )
    def test_whatever_can_be_called_is_a_callback(
        self, bus: EventBus, way: Way, callback: EventCallback
    ) -> None:
        """
        It is handed on as it is, with the pattern and what is wanted of the past.
        """
        added = bus.subscribe("Trainer.*", callback)

        assert way.said == [("subscribe", Topic("Trainer.*"), callback, Past())]
        assert bus.unsubscribe(added)
        assert way.said[1:] == [("unsubscribe", added)]

    def test_the_past_is_asked_for_by_number_or_time(self, bus: EventBus, way: Way) -> None:
        """
        One of them.
        """
        bus.subscribe("*", print, replay=5)
        bus.subscribe("Loss", print, since=12)

        assert [said[3] for said in way.said] == [Past(5), Past(0, 12.0)]

    @pytest.mark.parametrize(
        "use",
        [
            lambda bus: bus.subscribe("", print),
            lambda bus: bus.subscribe("A.*.*", print),
            lambda bus: bus.subscribe(5, print),
            lambda bus: bus.subscribe("Loss", None),
            lambda bus: bus.subscribe("Loss", print, replay=-1),
            lambda bus: bus.subscribe("Loss", print, since="yesterday"),
            lambda bus: bus.subscribe("Loss", print, replay=1, since=1.0),
            lambda bus: bus.subscribe("Loss", later),
            lambda bus: bus.subscribe("Loss", Listener().later),
            lambda bus: bus.subscribe("Loss", partial(later)),
            lambda bus: bus.subscribe("Loss", partial(partial(Listener().later))),
            lambda bus: bus.subscribe("Loss", Waiter()),
        ],
        ids=range(12),
    )
    def test_what_cannot_be_meant_is_refused(
        self, bus: EventBus, way: Way, use: Callable[[EventBus], object]
    ) -> None:
        """
        No pattern, no callback, no past; and nothing that would be called and never awaited.
        """
        with pytest.raises(UsageError):
            use(bus)

        assert way.said == []
