import pytest

import protocol.beginnings as module
from protocol.beginnings import SETTLED_S, Beginnings
from protocol.follower import MAX_LIVES
from protocol.names import Topic

LOSS = Topic("Loss")
STEP = Topic("Trainer.step")


@pytest.fixture
def beginnings() -> Beginnings:
    """One that has been subscribed to two patterns since 0."""
    beginnings = Beginnings()
    beginnings.subscribed(LOSS, 0.0)
    beginnings.subscribed(Topic("Trainer.*"), 0.0)
    return beginnings


class TestBeginnings:
    @pytest.mark.parametrize("topic", [LOSS, STEP])
    def test_what_is_told_of_first_while_it_is_subscribed_to(
        self, beginnings: Beginnings, topic: Topic
    ) -> None:
        """
        It is new once, and not again.
        """
        line = ("a", 5, topic)

        assert beginnings.told(line, SETTLED_S)
        assert not beginnings.told(line, SETTLED_S)

    def test_what_was_there_before_is_not_new(self, beginnings: Beginnings) -> None:
        """
        A subscription that is not settled yet may have missed nothing.
        """
        assert not beginnings.told(("a", 5, LOSS), SETTLED_S - 0.1)
        assert not beginnings.told(("a", 5, LOSS), SETTLED_S)

    def test_a_type_that_nobody_wants_is_known_all_the_same(self, beginnings: Beginnings) -> None:
        """
        Whoever subscribes to it later is not due what was before.
        """
        other = ("a", 5, Topic("Other"))
        assert not beginnings.told(other, 100.0)

        beginnings.subscribed(Topic("Other"), 100.0)

        assert not beginnings.told(other, 200.0)
        assert beginnings.told(("a", 6, Topic("Other")), 200.0)

    def test_lives_that_follow_each_other(self, beginnings: Beginnings) -> None:
        """
        The hub may tell of two in any order; those before the ones that are remembered are old.
        """
        assert beginnings.told(("a", 6, LOSS), 9.0)
        assert beginnings.told(("a", 5, LOSS), 9.0)
        for life in range(10, 10 + MAX_LIVES):
            assert beginnings.told(("a", life, LOSS), 9.0)
        assert not beginnings.told(("a", 7, LOSS), 9.0)
        assert beginnings.told(("b", 7, LOSS), 9.0)

    def test_a_new_subscription_settles_again(self, beginnings: Beginnings) -> None:
        """
        What is unsubscribed and subscribed again has to reach everybody again.
        """
        beginnings.subscribed(LOSS, 7.0)
        assert beginnings.told(("a", 1, LOSS), 8.0)
        beginnings.unsubscribed(LOSS)
        beginnings.subscribed(LOSS, 9.0)
        assert not beginnings.told(("a", 2, LOSS), 10.0)
        assert beginnings.told(("a", 3, LOSS), 11.0)

    def test_what_cannot_be_remembered_is_not_new(
        self, beginnings: Beginnings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A source with a million types does not make its subscribers grow, or be told what is wrong.
        """
        monkeypatch.setattr(module, "MAX_SOURCES", 1)
        assert beginnings.told(("a", 1, LOSS), 9.0)

        assert not beginnings.told(("b", 1, LOSS), 9.0)
        assert beginnings.told(("a", 2, LOSS), 9.0)
