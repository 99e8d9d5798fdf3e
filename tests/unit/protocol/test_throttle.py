import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.throttle import ATTEMPTS, Throttle, delay_s


def attempts_of_a_lost_call(throttle: Throttle) -> int:
    """Make a call whose callee dies each time; say how often it was made."""
    attempts = 1
    throttle.lost()
    while throttle.allows(attempts):
        attempts += 1
        throttle.lost()
    return attempts


class TestThrottle:
    def test_a_lost_call_is_made_thrice_at_most(self) -> None:
        """
        The first calls that are lost are made again, each until its third attempt.
        """
        throttle = Throttle()

        assert [attempts_of_a_lost_call(throttle) for _ in range(2)] == [ATTEMPTS, 2]
        assert ATTEMPTS == 3

    def test_a_callee_that_always_dies_is_not_called_twice_as_often(self) -> None:
        """
        A hundred calls to it are at most 1.2 attempts each.
        """
        throttle = Throttle()

        assert sum(attempts_of_a_lost_call(throttle) for _ in range(100)) <= 120

    @given(st.lists(st.booleans(), min_size=100, max_size=300))
    def test_losses_are_made_again_only_while_they_are_few(self, fates: list[bool]) -> None:
        """
        Whatever order losses and answers come in, at most five calls more are made than were
        asked for, and one for every ten answers.
        """
        throttle = Throttle()
        again = answers = 0
        for is_lost in fates:
            if is_lost:
                again += attempts_of_a_lost_call(throttle) - 1
            else:
                answers += 1
                throttle.answered()

        assert again <= 5 + answers / 10

    def test_answers_give_the_tokens_back(self) -> None:
        """
        A callee that answers again is trusted again, and not more than at first.
        """
        throttle = Throttle()
        for _ in range(50):
            throttle.lost()
        for _ in range(51):
            throttle.answered()
        assert throttle.allows(1)
        for _ in range(1000):
            throttle.answered()

        assert sum(attempts_of_a_lost_call(throttle) for _ in range(10)) <= 10 + 5


class TestDelay:
    @given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
    def test_it_is_bounded(self, attempts: int, chance: float) -> None:
        """
        Nobody waits longer than a second, and not always equally long.
        """
        assert 0.0 <= delay_s(attempts, chance) < 1.0

    @pytest.mark.parametrize(("attempts", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 1.0)])
    def test_it_doubles(self, attempts: int, longest: float) -> None:
        """
        Each attempt may wait twice as long as the one before.
        """
        assert delay_s(attempts, 0.5) == longest / 2
        assert delay_s(attempts, 0.0) == 0.0
