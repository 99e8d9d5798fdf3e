from protocol.feed import Replay, Run
from protocol.follower import MAX_HELD, MAX_LIVES, REPLAY_S, Delivery, Follower
from protocol.names import EVERYTHING, Topic

LOSS, STEP = Topic("Loss"), Topic("Step")
KEY = ("a", 1, LOSS)


def run(first: int, last: int, topic: Topic = LOSS, life: int = 1) -> Run:
    count = last - first + 1
    return Run("a", life, topic, first, [0.0] * count, [b""] * count)


def numbers(deliveries: list[Delivery]) -> list[tuple[str, int, int]]:
    return [(type(one).__name__, one.first, one.last) for one in deliveries]


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

        deliveries = follower.replayed(KEY, [run(1, 2), run(3, 4), run(2, 2)], last=4)

        assert numbers(deliveries) == [("Run", 2, 2), ("Run", 3, 4), ("Run", 5, 6)]
        assert follower.deadline is None

    def test_what_a_replay_lacks_is_named(self) -> None:
        """
        Numbers that the hub has no more become a gap, before and between what it has.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(9, 9), 0.0)

        deliveries = follower.replayed(KEY, [run(4, 5)], last=8)

        assert numbers(deliveries) == [
            ("Missing", 2, 3),
            ("Run", 4, 5),
            ("Missing", 6, 8),
            ("Run", 9, 9),
        ]

    def test_a_second_hole_behind_the_first_is_named(self) -> None:
        """
        Held runs with holes between them are delivered with the holes named.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.arrive(run(6, 6), 0.0)

        assert numbers(follower.replayed(KEY, [run(2, 2)], last=2)) == [
            ("Run", 2, 2),
            ("Run", 3, 3),
            ("Missing", 4, 5),
            ("Run", 6, 6),
        ]

    def test_an_answer_that_comes_too_late_is_ignored(self) -> None:
        """
        A replay for a hole that was given up releases nothing that waits for another.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.expire(REPLAY_S)
        follower.arrive(run(5, 5), 2.0)

        assert follower.replayed(KEY, [run(2, 2)], last=2) == []
        assert numbers(follower.replayed(KEY, [run(4, 4)], last=4)) == [
            ("Run", 4, 4),
            ("Run", 5, 5),
        ]
        assert follower.replayed(KEY, [run(4, 4)], last=4) == []
        assert follower.replayed(("b", 1, LOSS), [], last=4) == []

    def test_a_hole_is_given_up_in_time(self) -> None:
        """
        A replay that does not come makes the hole a gap; early calls do nothing.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(3, 3), 0.0)
        follower.arrive(run(1, 1, STEP), 0.0)
        follower.arrive(run(3, 3, STEP), 0.5)

        assert follower.expire(REPLAY_S - 0.01) == []
        assert numbers(follower.expire(REPLAY_S)) == [("Missing", 2, 2), ("Run", 3, 3)]
        assert follower.deadline == 0.5 + REPLAY_S

    def test_what_an_origin_sends_again_fills_the_hole_too(self) -> None:
        """
        Earlier numbers that come while later ones are held are delivered before them.
        """
        follower = Follower()
        follower.arrive(run(1, 1), 0.0)
        follower.arrive(run(4, 4), 0.0)
        follower.arrive(run(2, 3), 0.0)
        follower.arrive(run(4, 4), 0.0)

        assert numbers(follower.expire(REPLAY_S)) == [("Run", 2, 3), ("Run", 4, 4)]

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
        Only the last lives of a source are remembered, the newest of them.
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

        follower.forget_others({STEP})

        assert follower.arrive(run(9, 9), 0.0)[1] is None
        assert follower.arrive(run(9, 9, STEP), 0.0)[1] is not None
        follower.forget_others(set())
        assert follower.arrive(run(12, 12, STEP), 0.0)[1] is None

    def test_what_is_still_wanted_goes_on(self) -> None:
        """
        Who asks for everything no longer, but for one type by name, keeps its place in that one.
        """
        follower = Follower()
        for topic in (LOSS, STEP):
            follower.arrive(run(1, 1, topic), 0.0)
            follower.arrive(run(3, 3, topic), 0.0)

        assert follower.forget_others({LOSS, EVERYTHING}) == []
        released = follower.forget_others({LOSS})

        assert numbers(released) == [("Missing", 2, 2), ("Run", 3, 3)]
        assert {delivery.topic for delivery in released} == {STEP}
        assert follower.arrive(run(1, 1), 0.0) == ([], None)
        assert numbers(follower.replayed(KEY, [run(2, 2)], 2)) == [("Run", 2, 2), ("Run", 3, 3)]

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
        assert numbers(follower.replayed(KEY, [run(3, 4)], 5)) == [
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

        assert numbers(follower.expire(REPLAY_S)) == [("Missing", 2, 4)]
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
        assert numbers(follower.replayed(KEY, [run(2, 2)], 2)) == [("Run", 2, 2), ("Run", 3, 3)]
        assert numbers(follower.replayed(KEY, [run(4, 5)], 5)) == [("Run", 4, 5)]
