import threading
import time
from collections.abc import Callable, Iterator

import pytest

from plugin_worker import publisher as publisher_module
from plugin_worker.publisher import BATCH_S, FLOOD, FLOOD_S, Publisher
from protocol.errors import LocalProtocolError, UsageError
from protocol.events import PluginEvent
from protocol.interest import InterestReader, InterestWriter
from protocol.messages import FROM_ENDPOINT, Dropped, Published, Reported
from protocol.names import EVERYTHING
from protocol.packets import Kind
from protocol.payloads import decode_run, encode_event
from protocol.publishing import PublishFailure, PublishReport
from protocol.runs import MAX_RUN, Head, Publication, pack_run, unpack_publication
from protocol.window import WINDOW_EVENTS
from tests.clock import Clock
from tests.unit.plugin_worker.test_desk import Node

Said = tuple[str, int] | Dropped


class Station:
    """A publisher whose flusher sleeps until the test wakes it, and its node."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.node = Node()
        self.page = InterestWriter()
        self.publisher = Publisher(self.node.desk, InterestReader(self.page.fd))

    def publications(self) -> list[Publication | Dropped]:
        found: list[Publication | Dropped] = []
        while (message := self.node.umbilical.receive()) is not None:
            if message[0] is Kind.EVENTS:
                found.append(unpack_publication(message[1]))
            else:
                dropped = FROM_ENDPOINT.decode(message[1])
                assert isinstance(dropped, Dropped)
                found.append(dropped)
        return found

    def heard(self) -> list[Said]:
        """Give what came up: the types of events and how many, and the words that some did not."""
        return [
            (one.topic, one.events) if isinstance(one, Publication) else one
            for one in self.publications()
        ]

    def publish(self, count: int = 1, topic: str = "Mine") -> None:
        for number in range(count):
            self.publisher.publish(PluginEvent.custom(topic, number))

    def fill(self) -> None:
        """Publish until the window is full."""
        for _ in range(WINDOW_EVENTS // MAX_RUN):
            self.publish(MAX_RUN)
            self.publisher.flush()
            self.heard()

    def close(self) -> None:
        self.node.umbilical.close()
        self.node.lower.close()
        self.page.close()


class Done(Exception):
    """The flusher would wait for another event."""


class Late:
    """What wakes the flusher, for a test that is the flusher."""

    is_set = False

    def set(self) -> None:
        self.is_set = True

    def clear(self) -> None:
        self.is_set = False

    def wait(self) -> None:
        if not self.is_set:
            raise Done


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """One that does not wait for room."""
    clock = Clock(0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(publisher_module, "ROOM_S", 0.0)
    monkeypatch.setattr(publisher_module, "monotonic", clock.monotonic)
    monkeypatch.setattr(publisher_module, "sleep", sleep)
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)
    station = Station(clock)
    station.publisher._late = Late()  # type: ignore[assignment]
    yield station
    station.close()


class TestLeaving:
    def test_at_rest_an_event_leaves_at_once(self, station: Station) -> None:
        """
        Nobody waits for others that may never come.
        """
        for _ in range(3):
            station.clock.now += 1.0
            station.publish()
            assert station.heard() == [("Mine", 1)]

    def test_under_load_events_leave_together(self, station: Station) -> None:
        """
        Those within a millisecond of what left before, in one packet, in their order.
        """
        station.publish(11)
        assert station.heard() == [("Mine", 1)]
        station.clock.now += BATCH_S
        station.publish()

        (said,) = station.publications()
        assert isinstance(said, Publication)
        head = Head(1, "p", 1, said.topic, 1, said.events, 0.0)
        events = decode_run(pack_run(head, said.body))
        assert [event.fields()["data"] for event in events] == [*range(1, 11), 0]

    def test_numbers_leave_in_time_like_others(self, station: Station) -> None:
        """
        The shorter way that they take leads past the clock, too.
        """
        for _ in range(3):
            station.publisher.publish(PluginEvent.EpochStart(1))
        assert station.heard() == [("EpochStart", 1)]
        station.clock.now += BATCH_S
        station.publisher.publish(PluginEvent.EpochStart(1))

        assert station.heard() == [("EpochStart", 3)]

    def test_a_full_batch_waits_for_nothing(self, station: Station) -> None:
        """
        Nothing more joins it; what does not fit begins the next one.
        """
        station.publish(1 + MAX_RUN + 1)
        first, full = station.heard()
        station.publisher.flush()
        (rest,) = station.heard()

        assert first == ("Mine", 1)
        assert full[1] + rest[1] == MAX_RUN + 1  # type: ignore[index]
        assert 0 < rest[1] < full[1]  # type: ignore[index]

    def test_a_flood_waits_a_little_longer(self, station: Station) -> None:
        """
        Its batches are worth filling, up to a moment that nobody notices.
        """
        station.publish(1 + FLOOD)
        station.heard()
        station.clock.now += BATCH_S
        station.publish()
        assert station.heard() == []

        station.clock.now += FLOOD_S
        station.publish()

        assert station.heard() == [("Mine", FLOOD + 2)]

    def test_what_the_plugins_code_leaves_behind_is_flushed(self, station: Station) -> None:
        """
        When it returns to the loop, nothing waits; nothing is sent twice.
        """
        station.publish(3)
        for _ in range(2):
            station.publisher.flush()

        assert station.heard() == [("Mine", 1), ("Mine", 2)]

    def test_a_change_of_type_keeps_the_order(self, station: Station) -> None:
        """
        What follows each other goes up as it was published.
        """
        for topic, count in (("A", 1), ("A", 2), ("B", 2), ("A", 1)):
            station.publish(count, topic)
        station.publisher.flush()

        assert station.heard() == [("A", 1), ("A", 2), ("B", 2), ("A", 1)]

    def test_a_sticky_event_keeps_the_order(self, station: Station) -> None:
        """
        It travels alone, at once, and behind what was published before it, wanted or not.
        """
        station.publisher.make_sticky("S")
        station.publish(3)
        station.publish(1, "S")
        station.publish()
        station.publisher.flush()

        said = [one for one in station.publications() if isinstance(one, Publication)]
        assert [(one.topic, one.events, one.sticky) for one in said] == [
            ("Mine", 1, False),
            ("Mine", 2, False),
            ("S", 1, True),
            ("Mine", 1, False),
        ]
        station.page.write([])
        station.publish(1, "S")
        assert station.heard() == [("S", 1)]

    def test_a_type_may_become_sticky_at_any_time(self, station: Station) -> None:
        """
        Nothing that is to be kept joins what waited before, though others might still have.
        """
        station.publish(3)
        station.publisher.make_sticky("Mine")
        station.publish()

        said = [one for one in station.publications() if isinstance(one, Publication)]
        assert [(one.events, one.sticky) for one in said] == [(1, False), (2, False), (1, True)]

    def test_a_type_that_becomes_sticky_while_it_is_published(
        self, station: Station, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        By another thread: no batch is begun of it that later ones could join.
        """

        def encode_late(event: PluginEvent) -> bytes:
            station.publisher.make_sticky("Mine")
            return encode_event(event)

        station.publish(2)
        with monkeypatch.context() as patched:
            patched.setattr(publisher_module, "encode_event", encode_late)
            station.publish()
        station.publish(2)
        station.publisher.flush()

        said = [one for one in station.publications() if isinstance(one, Publication)]
        assert [one.sticky for one in said[-3:]] == [True] * 3
        assert sum(one.events for one in said) == 5

    def test_whatever_joins_keeps_the_order(self, station: Station) -> None:
        """
        Numbers alone take a shorter way into the same batch; a wrong field is refused on any.
        """
        said: list[tuple[object, object]] = [(0, 0.5), (1, 0.5), (True, 0.5), (3, 1), (4, 0.5)]
        for epoch, loss in said:
            station.publisher.publish(PluginEvent.EpochEnd(epoch, loss))  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            station.publisher.publish(PluginEvent.EpochEnd("5", 0.5))  # type: ignore[arg-type]
        station.publisher.flush()

        first, rest = station.publications()
        assert isinstance(first, Publication)
        assert isinstance(rest, Publication)
        head = Head(1, "p", 1, rest.topic, 2, rest.events, 0.0)
        events = decode_run(pack_run(head, rest.body))
        assert [tuple(event.fields().values()) for event in events] == said[1:]

    def test_what_cannot_be_published_is_refused(self, station: Station) -> None:
        """
        Reserved types and values without a plain form raise where they are published.
        """
        with pytest.raises(UsageError):
            station.publisher.publish(PluginEvent.SystemInit())
        with pytest.raises(LocalProtocolError):
            station.publisher.publish(PluginEvent.custom("Mine", {1}))

        assert station.heard() == []


class TestInterest:
    def test_what_nobody_wants_is_not_sent(self, station: Station) -> None:
        """
        The page is asked for what joins no others, and its word holds for the next event.
        """
        station.page.write(["Other"])
        station.publish(5)
        station.page.write([EVERYTHING])
        station.publish()

        assert station.heard() == [("Mine", 1)]

    def test_the_page_is_asked_again_for_each_batch(self, station: Station) -> None:
        """
        What joins others was wanted when these were begun, and a full batch is no reason to go on.
        """
        station.publish(2)
        station.page.write(["Other"])
        station.publish(2 * MAX_RUN)
        station.publisher.flush()

        assert station.heard() == [("Mine", 1), ("Mine", MAX_RUN)]

    def test_nobody_is_told_that_nobody_wants_it(self, station: Station) -> None:
        """
        Who waits for the callbacks of nobody has its answer at once.
        """
        station.page.write([])
        event = PluginEvent.custom("Mine", None)

        assert station.publisher.publish_report(event, 5.0) == PublishReport("Mine")
        assert station.heard() == []


class TestReports:
    def test_what_became_of_an_event_is_told(self, station: Station) -> None:
        """
        It goes up alone, behind what waits, with its number and time; the answer finds it.
        """
        station.publish(2)
        station.node.say(Reported(1, 3, 2, (("b", "ValueError: no"),)))
        event = PluginEvent.custom("Mine", None)

        report = station.publisher.publish_report(event, 5.0)

        failures = (PublishFailure("b", "ValueError: no"),)
        assert report == PublishReport("Mine", 3, 2, failures)
        *_, before, said = station.publications()
        assert isinstance(before, Publication)
        assert isinstance(said, Publication)
        assert (before.report, said.report, said.within_ms, said.events) == (0, 1, 5000, 1)


class TestWindow:
    def test_a_full_window_loses_and_says_so(self, station: Station) -> None:
        """
        Events for which there is no room in time are counted, and said before the next one.
        """
        station.fill()
        station.publish(2)
        station.publish(1, "Other")
        station.publisher.flush()
        station.publisher.taken(MAX_RUN, 0)
        station.publish(1, "Other")
        station.publisher.flush()

        *dropped, last = station.heard()
        lost = [(one.topic, one.count) for one in dropped if isinstance(one, Dropped)]
        assert sum(count for topic, count in lost if topic == "Mine") == 2
        assert lost[-1] == ("Other", 1)
        assert last == ("Other", 1)

    def test_it_waits_for_room(self, station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        As long as somebody may still take in what is under way; nothing is lost then.
        """
        station.fill()
        monkeypatch.setattr(publisher_module, "ROOM_S", 2.0**20)
        taken = lambda message, _: station.publisher.taken(message.events, message.size)  # noqa: E731
        monkeypatch.setattr(station.node.desk, "_other", taken)
        station.node.say(Published(MAX_RUN, 3 * MAX_RUN))

        station.publish()
        station.publisher.flush()

        assert station.heard() == [("Mine", 1)]


class TestFlusher:
    def be_flusher(self, station: Station) -> None:
        with pytest.raises(Done):
            station.publisher._flush_late()

    def test_it_sends_what_a_busy_handler_left(self, station: Station) -> None:
        """
        Soon, though the plugin's own code does not return; then it sleeps until it is woken.
        """
        station.publish(3)
        station.heard()
        self.be_flusher(station)
        assert station.heard() == [("Mine", 2)]
        assert station.clock.now <= 4 * BATCH_S

        self.be_flusher(station)
        assert station.heard() == []
        station.publish()
        station.publish()
        self.be_flusher(station)

        assert sum(one[1] for one in station.heard() if isinstance(one, tuple)) == 2

    def test_it_does_not_wait_for_a_flood_to_end(self, station: Station) -> None:
        """
        A batch that never becomes full leaves all the same.
        """
        station.publish(1 + FLOOD)
        self.be_flusher(station)

        assert station.heard() == [("Mine", 1), ("Mine", FLOOD)]
        assert station.clock.now <= 3 * FLOOD_S

    def test_it_is_woken_for_the_first_of_a_batch(self, station: Station) -> None:
        """
        Though a flood has just been, nothing more may follow it.
        """
        station.publish(1 + FLOOD)
        self.be_flusher(station)
        station.heard()
        station.publish()
        assert station.heard() == []
        self.be_flusher(station)

        assert station.heard() == [("Mine", 1)]

    def test_without_a_thread_nothing_waits(
        self, station: Station, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A plugin may not be allowed another one.
        """

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        station.publish(3)

        assert station.heard() == [("Mine", 1)] * 3


class TestThreads:
    def test_several_at_once_lose_nothing(self) -> None:
        """
        Every event of each thread goes up once, in the order in which that thread published it.
        """
        station, threads, each = Station(Clock()), 4, 700

        def work(topic: str) -> Callable[[], None]:
            return lambda: station.publish(each, topic)

        workers = [threading.Thread(target=work(f"T{number}")) for number in range(threads)]
        for worker in workers:
            worker.start()
        found: dict[str, list[object]] = {}
        deadline = time.monotonic() + 30.0
        while sum(map(len, found.values())) < threads * each and time.monotonic() < deadline:
            for said in station.publications():
                assert isinstance(said, Publication)
                head = Head(1, "p", 1, said.topic, 1, said.events, 0.0)
                events = decode_run(pack_run(head, said.body))
                found.setdefault(said.topic, []).extend(one.fields()["data"] for one in events)
        for worker in workers:
            worker.join()
        station.close()

        assert found == {f"T{number}": list(range(each)) for number in range(threads)}
