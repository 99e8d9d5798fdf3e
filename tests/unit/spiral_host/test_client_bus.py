from collections import deque
from collections.abc import Callable
from math import inf

import pytest

from protocol.errors import DeadlineExceeded, NoDaemon, UsageError
from protocol.events import CustomEvent, PluginEvent
from protocol.feed import Interest, Outcome, Ran, ToHub
from protocol.names import EVERYTHING, Topic
from protocol.outbox import RING_EVENTS, Outbox
from protocol.payloads import decode_run
from protocol.publishing import PublishFailure, PublishReport
from protocol.runs import MAX_RUN, Head, Missing, Publication, Run, pack_body, pack_run
from protocol.subscriptions import Past
from spiral_host import client_bus as client_bus_module
from spiral_host.client_bus import BEHIND_EVENTS, MAX_WAITING, ClientBus

LOSS = Topic("Loss")


class Thread:
    """A thread whose jobs the test runs; or it runs them at once."""

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], None]] = deque()
        self.is_quick = False
        self.has_ended = False
        self.is_current = False

    def do(self, job: Callable[[], None]) -> None:
        if self.has_ended:
            raise NoDaemon("/run", "the connection was closed")
        self.do_soon(job)

    def do_meanwhile(self, job: Callable[[], bool]) -> None:
        self.meanwhile = job

    def do_soon(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)
        if self.is_quick:
            self.run()

    def run(self) -> None:
        while self.jobs:
            self.jobs.popleft()()


class FakePeer:
    """The connection's place on the bus; `hub` answers what is told to it."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.has_hub = True
        self.sent: list[Run] = []
        self.here: list[int] = []
        self.wanted: list[Topic] = []
        self.echoes: list[Callable[[tuple[bytes, ...]], None]] = []
        self.pasts: list[tuple[Topic, int, float]] = []
        self.told: list[ToHub] = []
        self.on_run: Callable[[Run], None] = lambda _: None
        self.on_told: Callable[[ToHub], None] = lambda _: None

    def publish(self, source: str, incarnation: int, said: Publication) -> None:
        run = self.outbox.put(source, incarnation, said, 1.0)
        self.sent.append(run)
        self.on_run(run)

    def publish_here(self, source: str, incarnation: int, said: Publication) -> None:
        self.here.append(self.outbox.number(source, incarnation, said, 1.0).head.first)

    def subscribe(self, pattern: Topic) -> None:
        self.wanted.append(pattern)

    def unsubscribe(self, pattern: Topic) -> None:
        self.wanted.remove(pattern)

    def confirm(
        self, pattern: Topic, last: int, since: float, then: Callable[[tuple[bytes, ...]], None]
    ) -> None:
        self.pasts.append((pattern, last, since))
        self.echoes.append(then)

    def tell(self, message: ToHub) -> None:
        self.told.append(message)
        self.on_told(message)

    def ran(self, ran: Ran) -> None:
        self.tell(ran)


class Station:
    """A connection's events, its two threads in the test's hands."""

    def __init__(self) -> None:
        self.background, self.attendant, self.peer = Thread(), Thread(), FakePeer()
        self.bus = ClientBus(self.background, self.attendant, "test")
        self.bus.peer = self.peer  # type: ignore[assignment]
        self.bus.joined(9)
        self.seen: list[tuple[str, int]] = []

    def publish(self, *said: object, topic: str = "Loss") -> None:
        for data in said:
            self.bus.publish(PluginEvent.custom(topic, data))

    def published(self) -> list[object]:
        """What was sent to the hub: what each event said, or the numbers that were given up."""
        events = [event for run in self.peer.sent for event in decode_run(run)]
        return [event.data for event in events if isinstance(event, CustomEvent)]

    def subscribe(self, pattern: Topic = LOSS, *, begins: bool = True) -> Callable[[], bool]:
        """Subscribe; give what ends it."""
        subscription, holds = self.bus.add(pattern, self.see, Past())
        self.background.run()
        while self.peer.echoes:
            self.peer.echoes.pop()((b"frame",))
        assert holds.result(0) == (b"frame",)
        if begins:
            self.bus.begin(subscription, Past(), ())
            self.attendant.run()
        return lambda: self.bus.remove(subscription)

    def see(self, event: PluginEvent) -> None:
        number = event.seq if event.type != "EventGap" else -event.fields()["last"]  # type: ignore[operator]
        self.seen.append((event.type, number))

    def fill_ring(self) -> None:
        for _ in range(2):
            said = Publication(LOSS, b"", RING_EVENTS // 2)
            self.peer.outbox.put("app:test", 9, said, 1.0)


def run(first: int, events: int = 1, *, report: int = 0) -> Run:
    head = Head(1, "p", 7, LOSS, first, events, 1.0, report)
    return pack_run(head, pack_body([b"\xc0"] * events))


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Station:
    """One whose publishers do not wait for room."""
    monkeypatch.setattr(client_bus_module, "ROOM_S", 0.0)
    monkeypatch.setattr(client_bus_module, "MARGIN_S", 0.0)
    return Station()


class TestPublish:
    def test_what_is_published_meanwhile_leaves_together(self, station: Station) -> None:
        """
        Until the background thread comes to it: one job, one run, in order.
        """
        station.publish(1, 2, 3)
        assert len(station.background.jobs) == 1
        assert station.bus.has_unsent
        station.background.run()
        station.publish(4)
        station.background.run()

        assert [one.head.events for one in station.peer.sent] == [3, 1]
        assert station.published() == [1, 2, 3, 4]
        assert station.peer.sent[0].head.line == ("app:test", 9, LOSS)
        station.peer.outbox.accepted(2)
        assert not station.bus.has_unsent

    def test_types_and_sticky_events_keep_the_order(self, station: Station) -> None:
        """
        They go up as they were published, whatever travels alone.
        """
        station.bus.make_sticky("S")
        station.publish(1)
        station.publish(2, topic="S")
        station.publish(3, 4)
        station.publish(5, topic="Other")
        station.background.run()

        assert station.published() == [1, 2, 3, 4, 5]
        assert [one.head.sticky for one in station.peer.sent] == [False, True, False, False]

    def test_a_full_ring_makes_them_wait(self, station: Station) -> None:
        """
        While a daemon is there that will make room.
        """
        station.fill_ring()
        station.publish(1, 2)
        station.background.run()
        assert station.published() == []
        station.publish(3)
        assert len(station.background.jobs) == 0

        station.peer.outbox.accepted(1)
        station.bus.room()

        assert station.published() == [1, 2, 3]

    def test_without_a_daemon_nobody_waits(self, station: Station) -> None:
        """
        What the ring does not hold is numbered for this application alone.
        """
        station.fill_ring()
        station.peer.has_hub = False
        station.publish(1, 2)
        station.background.run()

        assert station.published() == []
        assert station.peer.here == [RING_EVENTS + 1]
        assert not station.bus._batches
        assert station.peer.outbox.skip("app:test", 9, LOSS, 1) == RING_EVENTS + 3

    def test_who_waits_too_long_loses_events_by_number(self, station: Station) -> None:
        """
        A thread that is stuck does not make the application grow; what was lost is a hole.
        """
        for number in range(MAX_WAITING):
            station.publish(number, topic=f"T{number % 2}")
        station.publish("lost", "lost", topic="T0")
        station.background.run()
        station.publish("next", topic="T0")
        station.background.run()

        assert station.published() == [*range(MAX_WAITING), "next"]
        assert station.peer.sent[-1].head.first == MAX_WAITING // 2 + 3

    def test_after_the_end_it_says_so_each_time(self, station: Station) -> None:
        """
        Nothing that is published then can get anywhere.
        """
        station.background.has_ended = True
        for _ in range(3):
            with pytest.raises(NoDaemon):
                station.publish(1)

    def test_what_cannot_be_published_is_refused(self, station: Station) -> None:
        """
        Where it is published, and nothing of it waits.
        """
        with pytest.raises(UsageError):
            station.bus.publish(PluginEvent.SystemInit())

        assert not station.bus.has_unsent


class TestReports:
    def test_what_became_of_an_event_is_told(self, station: Station) -> None:
        """
        Figures and failures, as the hub has them.
        """
        station.background.is_quick = True
        failures = (("b", "ValueError: no"),)
        station.peer.on_run = lambda one: station.bus.outcome(
            Outcome(9, one.head.report, 3, 2, failures)
        )

        report = station.bus.publish_report(PluginEvent.custom("Loss", 1), 5.0)

        assert report == PublishReport("Loss", 3, 2, (PublishFailure("b", "ValueError: no"),))
        assert station.peer.sent[0].head.within_ms == 5000
        station.bus.outcome(Outcome(9, 1, 0, 0, ()))

    def test_silence_has_an_end(self, station: Station) -> None:
        """
        Without a daemon nobody knows what became of it.
        """
        with pytest.raises(DeadlineExceeded):
            station.bus.publish_report(PluginEvent.custom("Loss", 1), 0.0)

        assert station.bus._reports == {}

    def test_a_callback_that_waits_runs_its_own(self, station: Station) -> None:
        """
        The event that it publishes may be for this very application, whose thread it is in.
        """
        station.subscribe()
        station.background.is_quick = True
        station.attendant.is_current = True
        station.peer.on_run = station.bus.deliver

        def answer(told: ToHub) -> None:
            assert isinstance(told, Ran)
            station.bus.outcome(Outcome(9, told.report, told.matched, told.matched, ()))

        station.peer.on_told = answer

        report = station.bus.publish_report(PluginEvent.custom("Loss", 1), 60.0)

        assert (report.matched, station.seen) == (1, [("Loss", 1)])
        station.attendant.run()
        assert station.seen == [("Loss", 1)]

    def test_it_answers_for_its_callbacks(self, station: Station) -> None:
        """
        Once they have run: how many there were, and what they raised.
        """
        station.subscribe()
        station.bus.add(EVERYTHING, lambda _: None, Past())
        station.bus.deliver(run(1, report=4))
        assert station.bus.concerned(7, 4, LOSS) == ("app:test",)
        station.background.run()
        assert station.peer.told == []
        station.attendant.run()
        station.background.run()

        assert station.peer.told == [Ran(7, 4, "app:test", 1, 0, ())]

    def test_who_has_only_just_subscribed_is_not_waited_for(self, station: Station) -> None:
        """
        The hub may not have known of it when it sent the event out; nor is one that has ended.
        """
        station.bus.add(LOSS, station.see, Past(5))
        station.background.run()
        assert station.bus.concerned(7, 4, LOSS) == ()
        station.peer.echoes.pop()((b"frame",))
        assert station.bus.concerned(7, 4, LOSS) == ("app:test",)

        end = station.subscribe(Topic("Other"))
        assert station.bus.concerned(7, 4, Topic("Other")) == ("app:test",)
        end()
        assert station.bus.concerned(7, 4, Topic("Other")) == ()

    def test_one_that_is_too_far_behind_answers_too(self, station: Station) -> None:
        """
        It will not run anything for what it misses.
        """
        station.subscribe()
        for number in range(BEHIND_EVENTS // MAX_RUN):
            station.bus.deliver(run(number * MAX_RUN + 1, MAX_RUN))
        station.bus.deliver(run(BEHIND_EVENTS + 1, report=4))
        station.background.run()

        (told,) = station.peer.told
        assert isinstance(told, Ran)
        assert (told.name, told.matched, told.failed) == ("app:test", 1, 1)


class TestSubscribe:
    def test_events_are_handed_to_the_attendant(self, station: Station) -> None:
        """
        In their order, and in its thread alone.
        """
        station.subscribe()
        station.bus.deliver(run(1, 2))
        station.bus.deliver(Missing("p", 7, LOSS, 3, 5))
        assert station.seen == []
        station.attendant.run()

        assert station.seen == [("Loss", 1), ("Loss", 2), ("EventGap", -5)]

    def test_the_hub_is_asked_once_for_a_pattern(self, station: Station) -> None:
        """
        Until the last that wants it has ended.
        """
        ends = [station.subscribe(), station.subscribe()]
        assert station.peer.wanted == [LOSS]
        assert ends[0]()
        station.background.run()
        assert station.peer.wanted == [LOSS]
        assert ends[1]()
        assert not ends[1]()
        station.background.run()

        assert station.peer.wanted == []

    def test_what_comes_before_the_past_is_known_comes_after_it(self, station: Station) -> None:
        """
        A late joiner is given everything once, in order.
        """
        subscription, _ = station.bus.add(LOSS, station.see, Past(5))
        station.bus.deliver(run(2))
        station.bus.deliver(run(3))
        station.bus.begin(subscription, Past(5), (run(1).frame, run(2).frame))
        for thread in (station.background, station.attendant):
            thread.run()

        assert station.seen == [("Loss", 1), ("Loss", 2), ("Loss", 3)]
        assert station.peer.pasts == [(LOSS, 5, inf)]

    def test_one_that_has_caught_up_is_told_what_it_missed(self, station: Station) -> None:
        """
        Though nothing else comes for it.
        """
        station.subscribe()
        for number in range(BEHIND_EVENTS // MAX_RUN):
            station.bus.deliver(run(number * MAX_RUN + 1, MAX_RUN))
        for number in (1, 2):
            station.bus.deliver(run(BEHIND_EVENTS + number))
        for _ in range(2):
            station.attendant.run()
            station.background.run()

        assert len(station.seen) == BEHIND_EVENTS + 1
        assert station.seen[-1] == ("EventGap", -BEHIND_EVENTS - 2)

    def test_the_last_may_have_run_at_this_moment(
        self, station: Station, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Between the look that found too much waiting and the note of what is missed: then no
        callback is left that would see the note.
        """
        station.subscribe()
        for number in range(BEHIND_EVENTS // MAX_RUN):
            station.bus.deliver(run(number * MAX_RUN + 1, MAX_RUN))
        miss = station.bus._backlog.miss

        def late(delivery: Run | Missing) -> None:
            station.attendant.run()
            miss(delivery)

        monkeypatch.setattr(station.bus._backlog, "miss", late)
        station.bus.deliver(run(BEHIND_EVENTS + 1))
        station.attendant.run()

        assert station.seen[-1] == ("EventGap", -BEHIND_EVENTS - 1)

    def test_what_is_wanted_elsewhere_is_nothing_to_it(self, station: Station) -> None:
        """
        An application publishes whether anybody wants it or not.
        """
        station.bus.told_interest(Interest(1, (), (), full=True))
        station.publish(1)
        station.background.run()

        assert station.published() == [1]
