from protocol.deaths import REMEMBERED, Deaths
from protocol.messages import Cause

CRASH = Cause(kind="signal", code=11)


class TestDeaths:
    def test_a_cause_is_remembered(self) -> None:
        """
        Who asks in time is told how a peer ended; of others nothing is known.
        """
        deaths = Deaths()
        deaths.note(1, CRASH)

        assert 1 in deaths
        assert deaths.cause(1) == CRASH
        assert 2 not in deaths
        assert deaths.cause(2) == Cause(kind="unknown")

    def test_the_oldest_is_forgotten(self) -> None:
        """
        A plugin that crashes for ever does not fill the memory of its callers.
        """
        deaths = Deaths()
        for incarnation in range(REMEMBERED + 1):
            deaths.note(incarnation, CRASH)

        assert 0 not in deaths
        assert REMEMBERED in deaths
