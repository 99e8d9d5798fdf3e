from hypothesis import given
from hypothesis import strategies as st

from protocol.backlog import MAX_BYTES, MAX_EVENTS, MAX_LATE, Backlog
from protocol.follower import Delivery
from protocol.names import Topic
from protocol.runs import Head, Missing, Run, pack_body, pack_run

LOSS, STEP = Topic("Loss"), Topic("Step")


def run(first: int, last: int, topic: Topic = LOSS, *, sticky: bool = False) -> Run:
    events = last - first + 1
    head = Head(1, "a", 1, topic, first, events, 0.0, sticky=sticky)
    return pack_run(head, pack_body([b"\1"] * events))


def numbers(deliveries: list[Delivery]) -> list[tuple[str, int, int]]:
    return [
        ("Run", one.head.first, one.head.last)
        if isinstance(one, Run)
        else ("Missing", one.first, one.last)
        for one in deliveries
    ]


class TestBounds:
    def test_a_subscriber_may_be_behind_by_events(self) -> None:
        """
        So many that it has been given and has not run, however small they are.
        """
        backlog = Backlog()
        backlog.sent(MAX_EVENTS - 1, 1)
        assert not backlog.is_full
        backlog.sent(1, 1)
        assert backlog.is_full
        assert backlog.lag == MAX_EVENTS

        backlog.ran(1)
        assert not backlog.is_full
        assert backlog.lag == MAX_EVENTS - 1

    def test_a_subscriber_may_be_behind_by_bytes(self) -> None:
        """
        Which are free again once the whole run has been run.
        """
        backlog = Backlog()
        backlog.sent(2, MAX_BYTES)
        backlog.ran(1)
        assert backlog.is_full

        backlog.ran(2)
        assert not backlog.is_full

    def test_a_lie_gains_nothing(self) -> None:
        """
        Who says to have run more than it was given, or less than before, is not believed.
        """
        backlog = Backlog()
        backlog.sent(3, 10)
        backlog.ran(1 << 53)
        backlog.sent(MAX_EVENTS, 10)
        backlog.ran(0)

        assert backlog.lag == MAX_EVENTS
        assert backlog.is_full

    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99), st.integers(0, 9))))
    def test_its_figures_are_those_of_a_model(self, steps: list[tuple[int, int, int]]) -> None:
        """
        What is under way counts as long as one of its events has not run.
        """
        backlog, under_way = Backlog(), list[list[int]]()
        total = 0
        for events, size, ran in steps:
            backlog.sent(events, size)
            under_way.append([events, size])
            left = min(ran, sum(one[0] for one in under_way))
            total += left
            backlog.ran(total)
            for one in under_way:
                gone = min(left, one[0])
                one[0] -= gone
                left -= gone
            under_way = [one for one in under_way if one[0]]

            assert backlog.lag == sum(one[0] for one in under_way)
            assert backlog._size == sum(one[1] for one in under_way)


class TestMissed:
    def test_what_was_missed_is_told_once(self) -> None:
        """
        One gap for each line of numbers, over all that it was not given; one line at a time.
        """
        backlog = Backlog()
        for delivery in (run(5, 6), run(1, 1, STEP), Missing("a", 1, LOSS, 7, 7), run(8, 9)):
            backlog.miss(delivery)

        assert backlog.has_missed
        assert backlog.take_missed() == [Missing("a", 1, LOSS, 5, 9)]
        assert backlog.take_missed() == [Missing("a", 1, STEP, 1, 1)]
        assert not backlog.has_missed
        assert backlog.take_missed() == []
        assert backlog.missed == 6

    def test_the_last_event_of_a_sticky_type_is_only_late(self) -> None:
        """
        It comes behind the gap, and is not counted as missed, until there is a newer one.
        """
        backlog = Backlog()
        backlog.miss(run(4, 4, sticky=True))
        assert backlog.missed == 0
        backlog.miss(run(5, 5, sticky=True))
        backlog.miss(run(6, 6, sticky=True))
        assert backlog.missed == 2

        told = backlog.take_missed()
        assert numbers(told) == [("Missing", 4, 5), ("Run", 6, 6)]
        backlog.miss(run(7, 7, sticky=True))
        assert numbers(backlog.take_missed()) == [("Run", 7, 7)]

    def test_a_sticky_event_behind_which_others_are_missing_is_missed(self) -> None:
        """
        It is no longer the last one.
        """
        backlog = Backlog()
        backlog.miss(run(4, 4, sticky=True))
        backlog.miss(Missing("a", 1, LOSS, 5, 6))

        assert numbers(backlog.take_missed()) == [("Missing", 4, 6)]
        assert backlog.missed == 3

    def test_of_few_sticky_types_it_is_kept(self) -> None:
        """
        A publisher that calls all it says sticky fills nobody's memory with it.
        """
        backlog = Backlog()
        for _ in range(2):
            topics = [Topic(f"T{number}") for number in range(MAX_LATE + 1)]
            for topic in topics:
                backlog.miss(run(1, 1, topic, sticky=True))
                backlog.miss(run(2, 2, topic, sticky=True))
            told = [backlog.take_missed() for _ in topics]

            assert all(numbers(one) == [("Missing", 1, 1), ("Run", 2, 2)] for one in told[:-1])
            assert numbers(told[-1]) == [("Missing", 1, 2)]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([LOSS, STEP]),
                st.integers(1, 4),
                st.sampled_from(["give", "miss", "late", "gap"]),
            )
        )
    )
    def test_every_number_is_given_or_named_once(self, steps: list[tuple[Topic, int, str]]) -> None:
        """
        Whatever it misses, in whatever order: what it hears of each line has no hole.
        """
        backlog, heard = Backlog(), list[Delivery]()
        came = {LOSS: 0, STEP: 0}
        for topic, events, what in steps:
            first, came[topic] = came[topic] + 1, came[topic] + events
            delivery: Delivery = run(first, came[topic], topic, sticky=what == "late")
            if what == "gap":
                delivery = Missing("a", 1, topic, first, came[topic])
            if what != "give":
                backlog.miss(delivery)
                continue
            while backlog.has_missed:
                heard += backlog.take_missed()
            heard.append(delivery)
        while backlog.has_missed:
            heard += backlog.take_missed()

        missed = 0
        seen = dict.fromkeys(came, 0)
        for one in heard:
            about = one.head if isinstance(one, Run) else one
            assert about.first == seen[Topic(about.topic)] + 1
            seen[Topic(about.topic)] = about.last
            missed += 0 if isinstance(one, Run) else one.last - one.first + 1
        assert seen == came
        assert backlog.missed == missed
