import pytest

from plugin_worker.node.budget import BURST, COST, RATE, Budget

START = 1000.0


def spent(budget: Budget, now: float = START) -> Budget:
    """Spend all that is saved up."""
    assert not budget.spend(BURST - COST, now)
    return budget


class TestBudget:
    def test_what_is_saved_up_may_go_at_once(self) -> None:
        """
        A worker that starts, or fails with a long traceback, never waits.
        """
        assert spent(Budget()).wait_s(START) == 0.0

    def test_who_has_spent_all_waits(self) -> None:
        """
        As long as the debt takes to trickle in.
        """
        budget = spent(Budget())

        assert budget.spend(RATE - COST, START)
        assert budget.wait_s(START) == pytest.approx(1.0)
        assert budget.wait_s(START + 0.75) == pytest.approx(0.25)
        assert budget.wait_s(START + 5.0) == 0.0

    def test_small_messages_cost_too(self) -> None:
        """
        A flood of empty messages is spent like one of large ones.
        """
        budget = Budget()
        assert not any(budget.spend(0, START) for _ in range(BURST // COST))

        assert budget.spend(0, START)

    def test_time_pays_back(self) -> None:
        """
        What trickles in may be spent again.
        """
        budget = spent(Budget())

        assert not budget.spend(RATE - COST, START + 1.0)

    def test_silence_saves_up_no_more_than_the_burst(self) -> None:
        """
        A worker that was quiet for a day has no larger flood to its credit.
        """
        budget = spent(Budget())
        budget.spend(0, START + 86_400)

        assert budget.spend(BURST, START + 86_400)

    def test_the_last_message_may_overdraw(self) -> None:
        """
        One message of any size passes; its sender waits afterwards.
        """
        budget = spent(Budget())

        assert budget.spend(10 * RATE, START)
        assert budget.wait_s(START) > 9.0

    def test_what_it_allows_is_said_when_it_is_made(self) -> None:
        """
        Output has a budget of its own beside that of messages.
        """
        budget = Budget(burst=10_000, rate=1000)

        assert not budget.spend(10_000 - COST, START)
        assert budget.spend(2000 - COST, START)
        assert budget.wait_s(START) == pytest.approx(2.0)
