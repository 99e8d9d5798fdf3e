import pytest

from spiral_host.lifecycle import Lifecycle
from spiral_host.policy import Policy
from spiral_host.registry import Plugin
from spiral_host.takeover import Restarting, is_uncounted
from tests.unit.spiral_host.fakes import manifest

EPOCH = 3
EARLIER = 2 << 32 | 7
ORDER = Restarting("a", EARLIER, 0)


@pytest.fixture
def plugin() -> Plugin:
    return Plugin(manifest("a"), Lifecycle(Policy()))


class TestRestarts:
    def test_only_its_own_are_due(self, plugin: Plugin) -> None:
        """
        As long as the life goes on that was to end.
        """
        plugin.incarnation = EARLIER
        assert ORDER.is_due(plugin)
        assert not Restarting("b", EARLIER, 0).is_due(plugin)
        plugin.incarnation += 1
        assert not ORDER.is_due(plugin)


class TestEnds:
    def test_one_that_no_daemon_has_heard_of_counts(self, plugin: Plugin) -> None:
        plugin.lifecycle.counted = EARLIER - 1
        assert is_uncounted(plugin, EARLIER, EPOCH, ())
        assert is_uncounted(plugin, EARLIER, EPOCH, [Restarting("a", EARLIER - 1, 0)])

    def test_one_of_our_own_lives_is_counted_as_it_is_told(self, plugin: Plugin) -> None:
        assert not is_uncounted(plugin, EPOCH << 32 | 1, EPOCH, ())

    def test_none_is_counted_twice(self, plugin: Plugin) -> None:
        plugin.lifecycle.counted = EARLIER
        assert not is_uncounted(plugin, EARLIER, EPOCH, ())
        assert not is_uncounted(plugin, EARLIER - 1, EPOCH, ())

    def test_one_that_somebody_had_asked_for_is_none(self, plugin: Plugin) -> None:
        """
        To stop, or to begin anew.
        """
        assert not is_uncounted(plugin, EARLIER, EPOCH, [ORDER, Restarting("a", 0, 0)])
        plugin.lifecycle.asked = EARLIER
        assert not is_uncounted(plugin, EARLIER, EPOCH, ())

    def test_nothing_counts_of_what_is_leaving(self, plugin: Plugin) -> None:
        plugin.leaving = True
        assert not is_uncounted(plugin, EARLIER, EPOCH, ())
