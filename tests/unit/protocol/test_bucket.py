import pytest

from protocol.bucket import Bucket

START = 1000.0


class TestTake:
    def test_a_second_may_go_at_once(self) -> None:
        """
        Who has said nothing for a while may say as much as in a second.
        """
        bucket = Bucket(10.0)

        assert [bucket.take(START) for _ in range(12)] == [True] * 10 + [False] * 2

    def test_what_was_refused_costs_nothing(self) -> None:
        """
        Who asks on and on gets what trickles in all the same.
        """
        bucket = Bucket(10.0)
        for _ in range(1000):
            bucket.take(START)

        assert bucket.wait_s(1.0) == pytest.approx(0.1)
        assert not bucket.take(START + 0.09)
        assert bucket.take(START + 0.11)

    def test_a_slow_rate_lets_one_through(self) -> None:
        """
        Less than one a second is possible, and never none.
        """
        bucket = Bucket(0.5)

        assert bucket.take(START)
        assert not bucket.take(START + 1.0)
        assert bucket.take(START + 2.0)

    def test_no_more_is_saved_up_than_for_a_second(self) -> None:
        """
        However long nothing was said.
        """
        bucket = Bucket(10.0)
        bucket.take(START)

        assert sum(bucket.take(START + 3600.0) for _ in range(100)) == 10


class TestOwe:
    def test_what_has_come_is_paid_later(self) -> None:
        """
        As long as the debt takes to trickle in.
        """
        bucket = Bucket(10.0)
        assert not bucket.owe(10, START)
        assert bucket.wait_s() == 0.0

        assert bucket.owe(25, START)
        assert bucket.wait_s() == pytest.approx(2.5)
        bucket.owe(0, START + 2.5)
        assert bucket.wait_s() == pytest.approx(0.0)
