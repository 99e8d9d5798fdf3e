import pytest

from spiral_host.lifecycle import Lifecycle
from spiral_host.policy import Policy
from spiral_host.registry import Plugin
from spiral_host.takeover import Restarting, is_uncounted
from tests.unit.spiral_host.fakes import manifest

EPOCH = 3
EARLIER = 2 << 32 | 7


@pytest.fixture
def plugin() -> Plugin:
    return Plugin(manifest("a"), Lifecycle(Policy()))


class TestEnds:
    def test_one_that_no_daemon_has_heard_of_counts(self, plugin: Plugin) -> None:
        plugin.lifecycle.counted = EARLIER - 1
        assert is_uncounted(plugin, EARLIER, EPOCH, None)
        assert is_uncounted(plugin, EARLIER, EPOCH, Restarting(EARLIER - 1, 0))

    def test_one_of_our_own_lives_is_counted_as_it_is_told(self, plugin: Plugin) -> None:
        assert not is_uncounted(plugin, EPOCH << 32 | 1, EPOCH, None)

    def test_none_is_counted_twice(self, plugin: Plugin) -> None:
        plugin.lifecycle.counted = EARLIER
        assert not is_uncounted(plugin, EARLIER, EPOCH, None)
        assert not is_uncounted(plugin, EARLIER - 1, EPOCH, None)

    def test_one_that_somebody_had_asked_for_is_none(self, plugin: Plugin) -> None:
        """
        To stop, or to begin anew.
        """
        assert not is_uncounted(plugin, EARLIER, EPOCH, Restarting(EARLIER, 0))
        plugin.lifecycle.asked = EARLIER
        assert not is_uncounted(plugin, EARLIER, EPOCH, None)

    def test_nothing_counts_of_what_is_leaving(self, plugin: Plugin) -> None:
        plugin.leaving = True
        assert not is_uncounted(plugin, EARLIER, EPOCH, None)
