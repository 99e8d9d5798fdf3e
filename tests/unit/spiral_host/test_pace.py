"""How fast plugins that fell are started again, all together."""

import pytest

from protocol.messages import Cause
from spiral_host.lifecycle import State
from spiral_host.pace import BURST, RATE, Pace
from tests.unit.spiral_host.fakes import House, manifest

MANY = int(BURST) + 15


class TestPace:
    def test_a_burst_goes_at_once_and_the_rest_at_the_rate(self) -> None:
        """
        What is saved up may go; then one for each tick of the rate.
        """
        pace = Pace()
        assert [pace.take(100.0) for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]

        due = pace.next_at(100.0)
        assert due == pytest.approx(100.0 + 1.0 / RATE)
        assert not pace.take(due - 0.01)
        assert pace.take(due)

    def test_no_more_than_a_burst_is_saved_up(self) -> None:
        """
        An hour of peace does not buy a storm.
        """
        pace = Pace()
        pace.take(0.0)
        assert sum(pace.take(3600.0) for _ in range(200)) == BURST


class TestManyDeaths:
    def test_those_who_fell_together_come_back_one_after_the_other(self, house: House) -> None:
        """
        Each of them starts, none before its turn, and nobody has to ask.
        """
        house.add_ready(*(manifest(f"p{number}") for number in range(MANY)))
        house.node.spawned()
        for number in range(MANY):
            house.end(f"p{number}", Cause(kind="signal", code=9))
        house.reactor.pass_time(0)
        assert len(house.node.spawned()) == BURST

        house.reactor.pass_time(1.0)
        assert len(house.node.spawned()) == pytest.approx(RATE, abs=1)
        house.reactor.pass_time(1.0)
        assert set(house.states().values()) == {State.STARTING}

    def test_first_starts_and_a_persons_restarts_are_not_held_up(self, house: House) -> None:
        """
        The pace is for what falls.
        """
        house.add_ready(*(manifest(f"p{number}") for number in range(MANY * 2)))
        assert len(house.node.spawned()) == MANY * 2
        for number in range(MANY * 2):
            house.supervisor.restart(f"p{number}")
            house.end(f"p{number}", Cause(kind="exit"))

        assert len(house.node.spawned()) == MANY * 2
