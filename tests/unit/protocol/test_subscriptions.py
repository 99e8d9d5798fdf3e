from math import inf, nan
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.events import PluginEvent
from protocol.names import EVERYTHING, Topic
from protocol.payloads import encode_event
from protocol.runs import Head, Missing, Run, pack_body, pack_run
from protocol.subscriptions import (
    MAX_FAILURES,
    MAX_REPLAY,
    EventCallback,
    Past,
    Ran,
    Subscription,
    Subscriptions,
    parse_past,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = Topic("EpochStart")
NOTHING = Past()


def run(
    first: int = 1,
    last: int = 1,
    source: str = "trainer",
    *,
    ts: float = 0.0,
    report: int = 0,
    sticky: bool = False,
) -> Run:
    """A run whose events each say their number."""
    said = [encode_event(PluginEvent.EpochStart(n)) for n in range(first, last + 1)]
    head = Head(1, source, 1, EPOCH, first, len(said), ts, report, sticky=sticky)
    return pack_run(head, pack_body(said))


def custom(name: str, *, sticky: bool = False) -> Run:
    head = Head(1, "trainer", 1, Topic(name), 1, 1, 0.0, sticky=sticky)
    return pack_run(head, pack_body([b"\1"]))


def numbers(events: list[PluginEvent]) -> list[int]:
    return [event.seq for event in events]


class Bus:
    """One process's subscriptions, and what its callbacks see."""

    def __init__(self) -> None:
        self.subscriptions = Subscriptions()
        self.seen: list[PluginEvent] = []
        self.deliver = self.subscriptions.deliver

    def add(self, callback: EventCallback | None = None, pattern: Topic = EPOCH) -> Subscription:
        """Add a callback whose past is not known yet."""
        return self.subscriptions.add(pattern, callback or self.seen.append)[0]

    def begin(self, added: Subscription, past: Past = NOTHING, *runs: Run) -> None:
        self.subscriptions.begin(added, past, [run.frame for run in runs])

    def live(self, callback: EventCallback | None = None, pattern: Topic = EPOCH) -> Subscription:
        """Add a callback that wants nothing of the past."""
        added = self.add(callback, pattern)
        self.begin(added)
        return added


@pytest.fixture
def bus() -> Bus:
    return Bus()


def fails(_: PluginEvent) -> None:
    raise ZeroDivisionError("no")


class TestSubscriptions:
    def test_who_wants_an_event_is_called_back(self, bus: Bus) -> None:
        """
        Callbacks for the type, its family and everything, in the order they were added.
        """
        seen: list[str] = []
        for pattern in ("*", "A.*", "A.b", "B.*", "A"):
            bus.live(lambda _, pattern=pattern: seen.append(pattern), Topic(pattern))  # type: ignore[misc]

        bus.deliver(custom("A.b"))

        assert seen == ["*", "A.*", "A.b"]
        assert bus.subscriptions.wants(Topic("A.c"))

    def test_each_event_of_a_run_comes_to_all_before_the_next(self, bus: Bus) -> None:
        """
        Callbacks see events in the order of their numbers, stamped.
        """
        other: list[PluginEvent] = []
        bus.live()
        bus.live(lambda event: other.append(event) or numbers(bus.seen).remove(event.seq))  # type: ignore[func-returns-value]

        bus.deliver(run(4, 6))

        assert numbers(bus.seen) == numbers(other) == [4, 5, 6]
        assert bus.seen[0].source == "trainer"

    def test_the_first_and_the_last_are_told_apart(self) -> None:
        """
        Only the first callback of a type subscribes at the bus, only its last unsubscribes.
        """
        subscriptions = Subscriptions()
        one, first = subscriptions.add(EPOCH, print)
        two, second = subscriptions.add(EPOCH, print)

        assert (first, second) == (True, False)
        assert subscriptions.remove(one) == (True, False)
        assert subscriptions.remove(two) == (True, True)
        assert subscriptions.remove(two) == (False, False)
        assert not subscriptions.wants(EPOCH)
        assert subscriptions.add(EPOCH, print)[1]

    def test_one_that_is_removed_is_called_no_more(self, bus: Bus) -> None:
        """
        Not even for the rest of the run, or of the past, in which it was removed.
        """
        added: list[Subscription] = []

        def once(event: PluginEvent) -> None:
            bus.seen.append(event)
            bus.subscriptions.remove(added[-1])

        added.append(bus.live(once))
        bus.deliver(run(1, 3))
        added.append(bus.add(once))
        bus.begin(added[-1], Past(9), run(4, 6))
        added.append(bus.add(once))
        bus.deliver(run(7, 9))
        bus.begin(added[-1])
        bus.deliver(run(10, 10))

        assert numbers(bus.seen) == [1, 4, 10]
        assert not bus.subscriptions._joining

    def test_a_gap_is_an_event_for_those_who_miss_it(self, bus: Bus) -> None:
        """
        Missing events are told to whoever wanted them.
        """
        bus.live()

        assert bus.deliver(Missing("trainer", 1, EPOCH, 2, 5)) is None

        assert bus.seen == [PluginEvent.EventGap("EpochStart", 2, 5)]

    def test_a_callback_that_raises_stops_no_other(
        self, bus: Bus, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        One callback's failure is written down and counted, and the next one is called.
        """
        bus.live(fails)
        bus.live()

        bus.deliver(run(1, 2))

        assert numbers(bus.seen) == [1, 2]
        assert "ZeroDivisionError" in capsys.readouterr().err
        assert bus.subscriptions.failed == 2


@pytest.mark.usefixtures("capsys")
class TestReports:
    def test_a_publisher_that_waits_hears_how_many_ran(self, bus: Bus) -> None:
        """
        Callbacks, those of them that raised, and what.
        """
        bus.live()
        bus.live(fails)
        bus.live(pattern=EVERYTHING)

        assert bus.deliver(run()) is None
        assert bus.deliver(run(2, 2, report=7)) == Ran(3, 1, ["ZeroDivisionError: no"])
        assert bus.deliver(run(3, 3, report=8)) == Ran(3, 1, ["ZeroDivisionError: no"])

    def test_few_failures_are_told_in_words(self, bus: Bus) -> None:
        """
        All are counted.
        """
        for _ in range(MAX_FAILURES + 5):
            bus.live(fails)

        ran = bus.deliver(run(report=7))

        assert ran is not None
        assert (ran.matched, ran.failed) == (MAX_FAILURES + 5, MAX_FAILURES + 5)
        assert len(ran.failures) == MAX_FAILURES

    def test_one_that_had_a_past_is_counted_too(self, bus: Bus) -> None:
        """
        While it may still be sent what it has had already, and afterwards.
        """
        bus.begin(bus.add(fails), Past(1), run(), run(source="another, which is gone"))
        bus.begin(bus.add(), Past(1), run(source="another, which is gone"))

        for number in (2, 3):
            told = bus.deliver(run(number, number, report=7))
            assert told == Ran(2, 1, ["ZeroDivisionError: no"])

    def test_one_that_has_not_begun_is_not_waited_for(self, bus: Bus) -> None:
        """
        Its `subscribe` has not returned.
        """
        bus.add()

        assert bus.deliver(run(report=7)) == Ran(0, 0, [])


class TestPast:
    def test_what_comes_meanwhile_comes_behind_the_past(self, bus: Bus) -> None:
        """
        In order, each once, also where the two overlap.
        """
        added = bus.add()
        for delivery in (run(4, 5), run(6, 7), run(1, 1, "other")):
            bus.deliver(delivery)
        assert bus.seen == []

        bus.begin(added, Past(4), run(1, 3), run(4, 6))
        bus.deliver(run(8, 8))

        assert [(event.source, event.seq) for event in bus.seen] == [
            *(("trainer", n) for n in (3, 4, 5, 6, 7)),
            ("other", 1),
            ("trainer", 8),
        ]
        assert not bus.subscriptions._joining

    def test_what_was_in_the_past_may_still_come(self, bus: Bus) -> None:
        """
        The hub answers sooner than its last events arrive; gaps are told as far as they are new.
        """
        bus.begin(bus.add(), Past(9), run(1, 5), run(1, 2, "other"))
        bus.deliver(run(4, 4))
        bus.deliver(run(5, 6))
        bus.deliver(Missing("other", 1, EPOCH, 1, 2))
        bus.deliver(Missing("other", 1, EPOCH, 2, 3))
        bus.deliver(run(4, 4, "other"))

        assert numbers(bus.seen[7:]) == [6, 0, 4]
        assert bus.seen[8] == PluginEvent.EventGap("EpochStart", 3, 3)
        assert not bus.subscriptions._joining

    def test_one_with_a_past_leaves_the_others_alone(self, bus: Bus) -> None:
        """
        Who was there before is not called for the past again, and misses nothing.
        """
        late: list[PluginEvent] = []
        bus.live()
        bus.deliver(run(1, 2))
        bus.begin(bus.add(late.append), Past(2), run(1, 2))
        bus.deliver(run(3, 3))

        assert numbers(bus.seen) == numbers(late) == [1, 2, 3]

    def test_a_callback_that_fails_on_the_past_goes_on(
        self, bus: Bus, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        It is written down and counted, as for any event.
        """
        bus.begin(bus.add(fails), Past(2), run(1, 2))
        bus.deliver(run(3, 3))

        assert bus.subscriptions.failed == 3
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_one_that_was_removed_meanwhile_has_no_past(self, bus: Bus) -> None:
        """
        Nobody calls it for what the hub had.
        """
        added = bus.add()
        bus.subscriptions.remove(added)
        bus.begin(added, Past(1), run())

        assert bus.seen == []

    def test_what_is_no_run_is_passed_over(self, bus: Bus) -> None:
        """
        The hub keeps frames unread: what one peer garbled harms no late joiner.
        """
        added = bus.add()
        frames = [b"", b"Loss\0", run().frame[:-1], run().frame[:40], run(2, 2).frame]
        bus.subscriptions.begin(added, Past(9), frames)
        bus.deliver(run(3, 3))

        assert [event.type for event in bus.seen] == ["Malformed", "EpochStart", "EpochStart"]
        assert numbers(bus.seen) == [1, 2, 3]

    @pytest.mark.parametrize("past", [NOTHING, Past(2)], ids=["without", "with a past"])
    def test_one_that_begins_inside_anothers_callback(self, bus: Bus, past: Past) -> None:
        """
        A callback that waits runs what comes meanwhile: nobody sees an event twice or too early.
        """
        late: list[PluginEvent] = []
        added = bus.add(late.append)
        todo: list[Callable[[], object]] = [
            lambda: bus.begin(added, past, run(1, 2)),
            lambda: bus.deliver(run(3, 3)),
        ]
        bus.live(lambda _: todo and todo.pop(0)())

        bus.deliver(run(1, 2))
        bus.deliver(run(4, 4))

        assert numbers(late) == ([3, 4] if past == NOTHING else [1, 2, 3, 4])

    def test_what_an_earlier_subscription_left_behind_is_not_its_business(self, bus: Bus) -> None:
        """
        Who wants no past begins when it begins: runs from before may have holes between them.
        """
        added = bus.add()
        bus.deliver(run(1, 2))
        bus.begin(added)
        bus.deliver(run(9, 9))

        assert numbers(bus.seen) == [9]

    def test_a_sticky_value_that_missed_the_answer_is_kept(self, bus: Bus) -> None:
        """
        Its publisher may have told it to a new hub just then; and what follows it is kept, too.
        """
        added = bus.add()
        bus.deliver(run(5, 5))
        bus.deliver(run(2, 2, "other", sticky=True))
        bus.deliver(run(3, 3, "other"))
        bus.begin(added)

        assert [(event.source, event.seq) for event in bus.seen] == [("other", 2), ("other", 3)]

    def test_what_follows_a_sticky_value_is_kept(self, bus: Bus) -> None:
        """
        It came before the subscriber began, and continues what it was given.
        """
        added = bus.add()
        bus.deliver(run(3, 3))
        bus.begin(added, NOTHING, run(2, 2, sticky=True))

        assert numbers(bus.seen) == [2, 3]

    def test_what_comes_while_the_past_runs_waits_for_it(self, bus: Bus) -> None:
        """
        Its own callback may wait, too, and runs what comes meanwhile.
        """
        late: list[PluginEvent] = []

        def callback(event: PluginEvent) -> None:
            late.append(event)
            if event.source == "trainer" and event.seq == 1:
                bus.deliver(run(2, 3, "other"))
                bus.deliver(run(3, 3))
            elif event.seq == 3 and event.source == "trainer":
                bus.deliver(run(4, 4))

        bus.begin(bus.add(callback), Past(9), run(1, 2), run(1, 2, "other"))

        assert [(event.source, event.seq) for event in late] == [
            *(("trainer", n) for n in (1, 2)),
            *(("other", n) for n in (1, 2, 3)),
            *(("trainer", n) for n in (3, 4)),
        ]

    @given(
        cuts=st.lists(st.integers(1, 3), min_size=1, max_size=8),
        replay=st.integers(0, 20),
        holds=st.integers(0, 8),
        answered=st.integers(0, 8),
        begins=st.integers(0, 8),
    )
    def test_past_and_present_are_one_stream(
        self, *, cuts: list[int], replay: int, holds: int, answered: int, begins: int
    ) -> None:
        """
        Whenever it subscribed, was answered and began: the last so many, then all, in order, once.
        Without a past, it begins when it begins.
        """
        runs, first = list[Run](), 1
        for events in cuts:
            runs.append(run(first, first + events - 1))
            first += events
        # It holds before the hub answers, and its first live run is none behind that answer.
        holds, answered, begins = sorted(min(n, len(runs)) for n in (holds, answered, begins))
        bus = Bus()
        added = bus.add()
        for one in runs[holds:begins]:
            bus.deliver(one)
        bus.begin(added, Past(replay), *runs[:answered])
        for one in runs[begins:]:
            bus.deliver(one)

        seen = numbers(bus.seen)
        past = runs[answered - 1].head.last if answered else 0
        first_live = holds if replay else begins
        oldest = (
            past - min(replay, past) + 1
            if replay and past
            else runs[first_live].head.first
            if (first_live < len(runs))
            else first
        )
        assert seen == list(range(oldest, first))


class TestWanted:
    RUNS = (run(1, 3, ts=1.0), run(4, 5, ts=2.0), run(6, 6, ts=3.0))

    @pytest.mark.parametrize(
        ("past", "left"),
        [
            (Past(), []),
            (Past(1), [6]),
            (Past(2), [5, 6]),
            (Past(5), [2, 3, 4, 5, 6]),
            (Past(99), [1, 2, 3, 4, 5, 6]),
            (Past(since=2.0), [4, 5, 6]),
            (Past(since=2.1), [6]),
            (Past(since=-inf), [1, 2, 3, 4, 5, 6]),
            (Past(since=9.0), []),
        ],
    )
    def test_runs_are_cut_to_what_is_wanted(self, past: Past, left: list[int]) -> None:
        """
        The newest events by number, or all of the runs since then.
        """
        kept = past.of(self.RUNS)

        assert [
            number for one in kept for number in range(one.head.first, one.head.last + 1)
        ] == left

    def test_the_last_event_of_a_sticky_type_always_comes(self) -> None:
        """
        Beside what was asked for, in its place.
        """
        value, newer = custom("Config", sticky=True), run(2, 3)

        assert Past().of([value, newer]) == [value]
        assert Past(1).of([value, newer]) == [value, newer.without(2)]
        assert Past(since=inf).of([value]) == [value]
        assert numbers_of(Past().of([run(1, 3, sticky=True)])) == [(3, 3)]

    @pytest.mark.parametrize("replay", [-1, MAX_REPLAY + 1, 1.0, True, None, "1"])
    def test_a_number_that_is_none_is_refused(self, replay: int) -> None:
        """
        Whole ones from 0 to a bound.
        """
        with pytest.raises(UsageError, match="replay"):
            parse_past(replay, None)

    @pytest.mark.parametrize("since", [nan, "1", 10**400, [1]])
    def test_a_time_that_is_none_is_refused(self, since: float) -> None:
        """
        Nor goes one together with a number.
        """
        with pytest.raises(UsageError, match="since"):
            parse_past(0, since)
        with pytest.raises(UsageError, match="since"):
            parse_past(1, 1.0)

    def test_what_is_meant_is_taken(self) -> None:
        """
        A number, a time, or nothing of the past.
        """
        assert parse_past(0, None) == Past(0, inf)
        assert parse_past(MAX_REPLAY, None) == Past(MAX_REPLAY, inf)
        assert parse_past(0, 5) == Past(0, 5.0)


def numbers_of(runs: list[Run]) -> list[tuple[int, int]]:
    return [(one.head.first, one.head.last) for one in runs]
