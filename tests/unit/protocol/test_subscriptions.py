import pytest

from protocol.events import PluginEvent
from protocol.feed import Missing, Run, encode_event
from protocol.names import EVERYTHING, Topic
from protocol.subscriptions import Subscriptions

EPOCH = Topic("EpochStart")


def run(epoch: int = 1) -> Run:
    _, payload = encode_event(PluginEvent.EpochStart(epoch))
    return Run("trainer", 1, EPOCH, 1, [0.0], [payload])


class TestSubscriptions:
    def test_who_wants_an_event_is_called_back(self) -> None:
        """
        A callback for the type and one for everything are called in the order they were added.
        """
        subscriptions, seen = Subscriptions(), list[str]()
        subscriptions.add(EVERYTHING, lambda _: seen.append("all"))
        subscriptions.add(EPOCH, lambda _: seen.append("epoch"))
        subscriptions.add(Topic("Other"), lambda _: seen.append("other"))

        subscriptions.deliver(run())

        assert seen == ["all", "epoch"]

    def test_the_first_and_the_last_are_told_apart(self) -> None:
        """
        Only the first callback of a type subscribes at the bus, only its last unsubscribes.
        """
        subscriptions = Subscriptions()
        one, first = subscriptions.add(EPOCH, print)
        two, second = subscriptions.add(EPOCH, print)

        assert (first, second) == (True, False)
        assert subscriptions.remove(one) == (True, False)
        assert subscriptions.remove(two) == (True, True)
        assert subscriptions.remove(two) == (False, False)
        assert subscriptions.add(EPOCH, print)[1]

    def test_a_gap_is_an_event_for_those_who_miss_it(self) -> None:
        """
        Missing events are told to whoever wanted them.
        """
        subscriptions, seen = Subscriptions(), list[PluginEvent]()
        subscriptions.add(EPOCH, seen.append)

        subscriptions.deliver(Missing("trainer", 1, EPOCH, 2, 5))

        assert seen == [PluginEvent.EventGap("EpochStart", 2, 5)]

    def test_a_callback_that_raises_stops_no_other(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        One callback's failure is written down and the next one is called.
        """
        subscriptions, seen = Subscriptions(), list[PluginEvent]()
        subscriptions.add(EPOCH, lambda _: 1 // 0)
        subscriptions.add(EPOCH, seen.append)

        subscriptions.deliver(run())

        assert len(seen) == 1
        assert "ZeroDivisionError" in capsys.readouterr().err
