from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.feed import Replay
from protocol.follower import MAX_HELD, MAX_LIVES, REPLAY_S, RETURN_S, Delivery, Follower
from protocol.names import Topic
from protocol.outbox import RING_S
from protocol.runs import Head, Missing, Run, pack_body, pack_run, payloads_of

LOSS, STEP = Topic("Loss"), Topic("Step")
KEY = ("a", 1, LOSS)


def run(first: int, last: int, topic: Topic = LOSS, life: int = 1) -> Run:
    """A run whose events each say a part of their number."""
    events = last - first + 1
    head = Head(1, "a", life, topic, first, events, 0.0)
    return pack_run(head, pack_body([bytes([n % 128]) for n in range(first, last + 1)]))


def numbers(deliveries: list[Delivery]) -> list[tuple[str, int, int]]:
    return [
        ("Run", one.head.first, one.head.last)
        if isinstance(one, Run)
        else ("Missing", one.first, one.last)
        for one in deliveries
    ]


class TestFollower:
    def test_what_comes_in_order_is_delivered(self) -> None:
        """
        The first run is where a subscriber starts; each next one follows at once.
        """
        follower = Follower()

        assert numbers(follower.arrive(run(7, 8), 0.0)[0]) == [("Run", 7, 8)]
        assert numbers(follower.arrive(run(9, 9), 0.0)[0]) == [("Run", 9, 9)]
        assert follower.deadline is None

    def test_a_duplicate_is_dropped(self) -> None:
        """
        What an origin sends again after a restart is delivered once.
        """
        follower = Follower()
        follower.arrive(run(1, 4), 0.0)

        assert follower.arrive(run(1, 4), 0.0) == ([], None)
        assert numbers(follower.arrive(run(3, 6), 0.0)[0]) == [("Run", 5, 6)]

    def test_a_hole_is_asked_for(self) -> None:
        """
        What comes behind a hole is held, and the hole asked for once, with a deadline.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)

        assert follower.arrive(run(5, 5), 10.0) == ([], Replay(*KEY, 2, 4))
        assert follower.arrive(run(6, 6), 11.0) == ([], None)
        assert follower.deadline == 10.0 + REPLAY_S

    def test_a_replay_fills_the_hole(self) -> None:
        """
        Replayed and held events are delivered in order, each once.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(5, 6), 0.0)

        deliveries, _ = follower.replayed(KEY, [run(1, 2), run(3, 4), run(2, 2)], 4, 0.0)

        assert numbers(deliveries) == [("Run", 2, 2), ("Run", 3, 4), ("Run", 5, 6)]
        assert follower.deadline is None

    def test_what_a_replay_lacks_is_named(self) -> None:
        """
        Numbers that the hub has no more become a gap, before and between what it has.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(9, 9), 0.0)

        deliveries, _ = follower.replayed(KEY, [run(4, 5)], 8, 0.0)

        assert numbers(deliveries) == [
            ("Missing", 2, 3),
            ("Run", 4, 5),
            ("Missing", 6, 8),
            ("Run", 9, 9),
        ]

    def test_a_second_hole_is_asked_for_when_the_first_is_filled(self) -> None:
        """
        What is held behind it waits on; it is named only if the hub does not have it either.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.arrive(run(6, 6), 0.0)

        deliveries, wanted = follower.replayed(KEY, [run(2, 2)], 2, 0.5)
        assert numbers(deliveries) == [("Run", 2, 2), ("Run", 3, 3)]
        assert wanted == Replay(*KEY, 4, 5)
        assert follower.deadline == 0.5 + REPLAY_S

        deliveries, wanted = follower.replayed(KEY, [run(5, 5)], 5, 0.6)
        assert numbers(deliveries) == [("Missing", 4, 4), ("Run", 5, 5), ("Run", 6, 6)]
        assert wanted is None
        assert follower.deadline is None

    def test_an_answer_that_comes_too_late_is_ignored(self) -> None:
        """
        A replay for a hole that was given up releases nothing that waits for another.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.expire(REPLAY_S)
        follower.arrive(run(5, 5), 2.0)

        assert follower.replayed(KEY, [run(2, 2)], 2, 2.0) == ([], None)
        assert numbers(follower.replayed(KEY, [run(4, 4)], 4, 2.0)[0]) == [
            ("Run", 4, 4),
            ("Run", 5, 5),
        ]
        assert follower.replayed(KEY, [run(4, 4)], 4, 2.0) == ([], None)
        assert follower.replayed(("b", 1, LOSS), [], 4, 2.0) == ([], None)

    def test_a_hole_is_given_up_in_time(self) -> None:
        """
        A replay that does not come makes the hole a gap; early calls do nothing.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.arrive(run(1, 1, STEP), 0.0)
        follower.arrive(run(3, 3, STEP), 0.5)

        assert follower.expire(REPLAY_S - 0.01) == ([], [])
        assert numbers(follower.expire(REPLAY_S)[0]) == [("Missing", 2, 2), ("Run", 3, 3)]
        assert follower.deadline == 0.5 + REPLAY_S

    def test_what_an_origin_sends_again_fills_the_hole_too(self) -> None:
        """
        Earlier numbers that come while later ones are held are delivered before them.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(4, 4), 0.0)
        follower.arrive(run(6, 6), 0.0)
        assert numbers(follower.arrive(run(2, 3), 0.0)[0]) == [("Run", 2, 3), ("Run", 4, 4)]
        assert follower.arrive(run(4, 4), 0.0) == ([], None)
        assert numbers(follower.arrive(run(4, 5), 0.0)[0]) == [("Run", 5, 5), ("Run", 6, 6)]

        assert follower.deadline is None

    def test_what_is_held_is_bounded(self) -> None:
        """
        A hole in front of a flood is a gap at once.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)

        deliveries, wanted = follower.arrive(run(4, 4 + MAX_HELD), 0.0)

        assert numbers(deliveries)[0] == ("Missing", 2, 2)
        assert (len(deliveries), wanted, follower.deadline) == (3, None, None)

    def test_a_source_that_restarts_for_ever_is_forgotten(self) -> None:
        """
        Only the last lives of a source are remembered, the newest of them, for each type.
        """
        follower = Follower()
        for life in range(1, MAX_LIVES + 2):
            follower.arrive(run(1, 1, life=life), 0.0)

        assert follower.arrive(run(1, 1, life=MAX_LIVES + 1), 0.0)[0] == []
        assert follower.arrive(run(1, 1, life=2), 0.0)[0] == []
        assert len(follower.arrive(run(1, 1, life=1), 0.0)[0]) == 1

    def test_a_later_subscription_starts_afresh(self) -> None:
        """
        What was missed between two subscriptions to a type is no gap; other types go on.
        """
        follower = Follower()
        for topic in (LOSS, STEP):
            follower.arrive(run(1, 1, topic), 0.0)

        follower.forget_others({STEP}.__contains__)

        assert follower.arrive(run(9, 9), 0.0)[1] is None
        assert follower.arrive(run(9, 9, STEP), 0.0)[1] is not None
        follower.forget_others(lambda _: False)
        assert follower.arrive(run(12, 12, STEP), 0.0)[1] is None

    def test_what_is_still_wanted_goes_on(self) -> None:
        """
        Who asks for everything no longer, but for one type by name, keeps its place in that one.
        """
        follower = Follower()
        for topic in (LOSS, STEP):
            follower.arrive(run(1, 1, topic), 0.0)
            follower.arrive(run(3, 3, topic), 0.0)

        assert follower.forget_others(lambda _: True) == []
        released = follower.forget_others({LOSS}.__contains__)

        assert numbers(released) == [("Missing", 2, 2), ("Run", 3, 3)]
        assert isinstance(released[0], Missing)
        assert released[0].topic == STEP
        assert follower.arrive(run(1, 1), 0.0) == ([], None)
        assert numbers(follower.replayed(KEY, [run(2, 2)], 2, 0.0)[0]) == [
            ("Run", 2, 2),
            ("Run", 3, 3),
        ]

    def test_the_last_ones_are_asked_for_too(self) -> None:
        """
        When the hub has counted further than what came, the rest is asked for, once.
        """
        follower = Follower()
        follower.arrive(run(1, 2), 0.0)

        assert follower.counted(KEY, 2, 0.0) is None
        assert follower.counted(("b", 1, LOSS), 5, 0.0) is None
        assert follower.counted(KEY, 5, 1.0) == Replay(*KEY, 3, 5)
        assert follower.counted(KEY, 5, 1.5) is None
        assert follower.deadline == 1.0 + REPLAY_S
        assert numbers(follower.arrive(run(3, 3), 1.5)[0]) == [("Run", 3, 3)]
        assert numbers(follower.replayed(KEY, [run(3, 4)], 5, 0.0)[0]) == [
            ("Run", 4, 4),
            ("Missing", 5, 5),
        ]
        assert follower.deadline is None

    def test_the_last_ones_are_given_up_in_time(self) -> None:
        """
        Without an answer they are a gap, and what comes late is a duplicate.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.counted(KEY, 4, 0.0)

        assert numbers(follower.expire(REPLAY_S)[0]) == [("Missing", 2, 4)]
        assert follower.arrive(run(2, 4), 2.0) == ([], None)
        assert numbers(follower.arrive(run(5, 5), 2.0)[0]) == [("Run", 5, 5)]

    def test_the_last_ones_behind_a_hole(self) -> None:
        """
        Each answer fills its own hole; the first does not give up what the second brings.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)

        assert follower.counted(KEY, 3, 0.0) is None
        assert follower.counted(KEY, 5, 0.0) == Replay(*KEY, 4, 5)
        assert numbers(follower.replayed(KEY, [run(2, 2)], 2, 0.0)[0]) == [
            ("Run", 2, 2),
            ("Run", 3, 3),
        ]
        assert numbers(follower.replayed(KEY, [run(4, 5)], 5, 0.0)[0]) == [("Run", 4, 5)]

    def test_a_life_that_is_forgotten_leaves_no_hole(self) -> None:
        """
        What was held of it is delivered, with what it lacks named, before the newest life.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        for life in range(2, MAX_LIVES + 1):
            follower.arrive(run(1, 1, life=life), 0.0)

        deliveries, _ = follower.arrive(run(1, 1, life=MAX_LIVES + 1), 0.0)

        assert numbers(deliveries) == [("Missing", 2, 2), ("Run", 3, 3), ("Run", 1, 1)]
        assert follower.deadline is None

    def test_nothing_is_left_of_what_is_unsubscribed(self) -> None:
        """
        However many types there were, and lives of each.
        """
        follower = Follower()
        for life in (1, 2):
            for topic in (LOSS, STEP):
                follower.arrive(run(1, 1, topic, life), 0.0)
        follower.begin(("b", 1, LOSS), 5)
        follower.forget_others(lambda _: False)

        assert not follower._lines
        assert not follower._lives

    def test_a_line_may_begin_before_its_first_run(self) -> None:
        """
        When a new hub says where it began, what came before the first run is a hole, too.
        """
        follower = Follower()
        follower.begin(KEY, 3)

        assert follower.follows(KEY)
        assert follower.arrive(run(6, 6), 0.0) == ([], Replay(*KEY, 3, 5))
        follower.begin(KEY, 1)
        assert numbers(follower.replayed(KEY, [run(3, 5)], 5, 0.0)[0]) == [
            ("Run", 3, 5),
            ("Run", 6, 6),
        ]

    def test_a_hole_outlives_its_hub(self) -> None:
        """
        Who published what is missing keeps it for the next hub, so nothing is named before that.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.counted(KEY, 4, 0.0)
        follower.arrive(run(1, 1, STEP), 0.0)
        follower.lost(0.5)
        follower.arrive(run(3, 3, STEP), 0.9)
        assert follower.deadline == 0.5 + RING_S
        follower.found(60.0)
        assert follower.deadline == 60.0 + RETURN_S
        assert follower.expire(60.0) == ([], [])

        assert numbers(follower.arrive(run(2, 2), 61.0)[0]) == [("Run", 2, 2), ("Run", 3, 3)]
        assert numbers(follower.arrive(run(4, 4), 61.0)[0]) == [("Run", 4, 4)]
        assert numbers(follower.arrive(run(2, 2, STEP), 61.0)[0]) == [("Run", 2, 2), ("Run", 3, 3)]
        assert follower.deadline is None

    def test_the_next_hub_is_asked_for_what_nobody_sends_again(self) -> None:
        """
        It may have sent that before it was found; one hole after the other is asked for.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.lost(0.0)
        follower.found(10.0)
        assert follower.counted(KEY, 6, 10.0) is None
        assert follower.arrive(run(5, 5), 11.0) == ([], None)
        assert follower.expire(10.0 + RETURN_S) == ([], [Replay(*KEY, 2, 2)])
        assert follower.deadline == 10.0 + RETURN_S + REPLAY_S

        deliveries, wanted = follower.replayed(KEY, [], 2, 13.0)
        assert numbers(deliveries) == [("Missing", 2, 2), ("Run", 3, 3)]
        assert wanted == Replay(*KEY, 4, 4)
        deliveries, wanted = follower.replayed(KEY, [run(4, 4)], 4, 13.0)
        assert numbers(deliveries) == [("Run", 4, 4), ("Run", 5, 5)]
        assert wanted == Replay(*KEY, 6, 6)
        assert numbers(follower.expire(13.0 + REPLAY_S)[0]) == [("Missing", 6, 6)]

    def test_a_dead_hubs_last_answer_names_nothing(self) -> None:
        """
        What it had is delivered; what it lacked may come again.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(4, 4), 0.0)
        follower.lost(0.0)

        deliveries, wanted = follower.replayed(KEY, [run(2, 2)], 3, 0.1)

        assert (numbers(deliveries), wanted) == ([("Run", 2, 2)], None)
        assert numbers(follower.arrive(run(3, 3), 9.0)[0]) == [("Run", 3, 3), ("Run", 4, 4)]

    def test_a_hub_that_never_comes(self) -> None:
        """
        What came behind a hole is delivered when nobody keeps any more what would fill it.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.lost(0.0)
        follower.arrive(run(3, 3), 0.0)

        assert follower.expire(RING_S)[0] == []
        assert numbers(follower.expire(RING_S + REPLAY_S)[0]) == [("Missing", 2, 2), ("Run", 3, 3)]

    def test_what_a_near_line_lacks_is_named_at_once(self) -> None:
        """
        Its numbers were used up here, without events, so no hub can have them.
        """
        follower = Follower()
        follower.lost(0.0)

        assert numbers(follower.near(run(2, 2))) == [("Run", 2, 2)]
        assert numbers(follower.near(run(5, 5))) == [("Missing", 3, 4), ("Run", 5, 5)]
        assert numbers(follower.near(run(6, 6))) == [("Run", 6, 6)]
        assert follower.deadline is None


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[Run], list[tuple[int, int]]]:
    """Runs as they were sent, and the places of those that come and in which cut, in any order."""
    cuts = sorted(draw(st.sets(st.integers(1, 40), min_size=2, max_size=12)))
    sent = [run(first, end - 1) for first, end in pairwise(cuts)]
    places = st.tuples(st.integers(0, len(sent) - 1), st.integers(0, 3))
    return sent, draw(st.lists(places, max_size=30))


class TestModel:
    @given(
        journeys(),
        st.lists(st.integers(0, 5), max_size=30),
        st.booleans(),
        st.dictionaries(st.integers(0, 29), st.booleans(), max_size=4),
    )
    def test_each_number_is_delivered_once_or_named_once(
        self,
        journey: tuple[list[Run], list[tuple[int, int]]],
        answers: list[int],
        counts: bool,  # noqa: FBT001
        hubs: dict[int, bool],
    ) -> None:
        """
        Runs come late, twice, cut off or never; the hub answers all, some or nothing of it, or dies
        and comes back.
        """
        sent, arrivals = journey
        follower, out, now = Follower(), list[Delivery](), 0.0
        wanted: Replay | None
        for step, (place, cut) in enumerate(arrivals):
            one = sent[place]
            now += 0.3
            if step in hubs:
                (follower.found if hubs[step] else follower.lost)(now)
            out += follower.expire(now)[0]
            one = one.without(one.head.first + min(cut, one.head.events - 1) - 1)
            deliveries, wanted = follower.arrive(one, now)
            out += deliveries
            if counts and wanted is None:
                wanted = follower.counted(KEY, sent[-1].head.last, now)
            answer = answers[step] if step < len(answers) else 0
            while wanted is not None and answer:
                had = [
                    run
                    for run in sent
                    if run.head.last >= wanted.first and run.head.first <= wanted.last
                ]
                deliveries, wanted = follower.replayed(KEY, had[answer - 1 :], wanted.last, now)
                out += deliveries
        for later in (RING_S, RING_S + REPLAY_S):
            out += follower.expire(now + later)[0]

        assert follower.deadline is None
        self._check(out, arrivals, sent)

    @staticmethod
    def _check(out: list[Delivery], arrivals: list[tuple[int, int]], sent: list[Run]) -> None:
        came = list[range]()
        for place, cut in arrivals:
            head = sent[place].head
            came.append(range(head.first + min(cut, head.events - 1), head.last + 1))
        seen = came[0].start - 1 if came else 0
        for one in out:
            about = one.head if isinstance(one, Run) else one
            assert about.first == seen + 1
            assert about.last >= about.first
            seen = about.last
            if isinstance(one, Run):
                says = [bytes([n % 128]) for n in range(about.first, about.last + 1)]
                assert payloads_of(one.body) == says
        # All that came behind the first, at least.
        assert seen >= max((numbers.stop - 1 for numbers in came), default=0)
