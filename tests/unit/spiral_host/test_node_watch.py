"""When a silent node is asked, named and given up."""

from spiral_host.node_watch import ALARM_S, ASK_S, GIVE_UP_S, Look, NodeWatch

QUIET = Look(is_to_be_asked=False, silent_s=0.0, is_hopeless=False)


def watch_for(seconds: int, watch: NodeWatch, since: float = 100.0) -> list[Look]:
    """Look once a second."""
    return [watch.look(since + second) for second in range(1, seconds + 1)]


def begun() -> NodeWatch:
    watch = NodeWatch(1.0)
    watch.look(100.0)
    watch.heard(100.0)
    return watch


class TestNodeWatch:
    def test_a_node_that_speaks_is_left_alone(self) -> None:
        """
        Whatever it says is a sign of life.
        """
        watch = begun()
        for second in range(1, 200):
            watch.heard(100.0 + second)
            assert watch.look(100.0 + second) == QUIET

    def test_silence_is_asked_then_told_then_ended(self) -> None:
        """
        Each at its own time, and not earlier.
        """
        looks = watch_for(int(GIVE_UP_S), begun())
        asked = [number for number, look in enumerate(looks, 1) if look.is_to_be_asked]
        told = [number for number, look in enumerate(looks, 1) if look.silent_s]
        ended = [number for number, look in enumerate(looks, 1) if look.is_hopeless]

        assert (asked[0], told[0], ended[0]) == (ASK_S, ALARM_S, GIVE_UP_S)
        assert looks[-1].silent_s == GIVE_UP_S

    def test_an_answer_ends_the_suspicion(self) -> None:
        """
        It begins anew with the next word.
        """
        watch = begun()
        watch_for(30, watch)
        watch.heard(130.0)

        assert watch.look(131.0) == QUIET

    def test_a_daemon_that_was_away_accuses_nobody(self) -> None:
        """
        After a sleep of its own it has heard nothing, which says nothing.
        """
        watch = begun()
        assert watch.look(100.0 + 3600.0) == QUIET
        assert watch_for(2, watch, since=3700.0) == [QUIET] * 2
