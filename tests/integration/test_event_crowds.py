"""Very many subscriptions, and very many that come and go: bounded, and nobody else notices."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import psutil
import pytest

from spiral_host import Host, PluginEvent
from tests.actors import collect, covered, load_actors, numbers, rows_of
from tests.hosts import eventually


class Cast(NamedTuple):
    """A host with two actors."""

    host: Host
    anna: Any
    bert: Any


@pytest.fixture
def cast(shared: Host, tmp_path_factory: pytest.TempPathFactory) -> Cast:
    """Two actors that have seen nothing yet."""
    if "anna" not in {info.id for info in shared.list_plugins()}:
        load_actors(shared, tmp_path_factory.mktemp("actors"), "anna", "bert")
    assert shared.restart("anna").ok
    return Cast(shared, shared.get_service("anna"), shared.get_service("bert"))


def resident(host: Host) -> dict[str, int]:
    """Give the memory of daemon and node, bytes."""
    status = host.status()
    pids = {"daemon": status["pid"], "node": status["node_pid"]}
    return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}


GROWTH: Final = 24 << 20
"""Bytes that a process may grow by; what it keeps for so many subscriptions is some of it."""


LITTLE: Final = 1 << 19
"""Bytes that a process may grow by if it keeps nothing: 100 for each that came and went."""


def _grown(host: Host, before: dict[str, int]) -> int:
    """Give by how much daemon or node have grown, whichever more."""
    after = resident(host)
    return max(after[name] - before[name] for name in after)


class TestMany:
    def test_five_thousand_subscriptions(self, cast: Cast) -> None:
        """All hold, others go on meanwhile, and afterwards nothing is left of them."""
        before = resident(cast.host)
        seen = collect(cast.host, "Beside")
        for first in range(1, 5001, 500):
            cast.anna.subscribe_many("Many.{}", first, first + 499)
            cast.bert.count_to(100, "Beside")
        for number in (1, 2500, 5000):
            assert cast.bert.report(f"Many.{number}", number)["matched"] == 1
        assert numbers(rows_of(cast.anna)) == [1, 2500, 5000]
        eventually(lambda: len(seen) == 1000)
        assert covered(seen) == (1000, 0)
        cast.anna.unsubscribe_all()
        eventually(lambda: cast.bert.report("Many.77")["matched"] == 0)
        assert _grown(cast.host, before) < GROWTH

    def test_five_thousand_times_there_and_back(self, cast: Cast) -> None:
        """No process grows, and the type is wanted by nobody in the end."""
        cast.anna.come_and_go("There", 500)
        before = resident(cast.host)
        for _ in range(9):
            cast.anna.come_and_go("There", 500)
        assert _grown(cast.host, before) < LITTLE
        cast.anna.subscribe("There")
        assert cast.bert.report("There")["matched"] == 1
        assert cast.anna.unsubscribe()
        assert cast.bert.report("There")["matched"] == 0

    def test_an_application_there_and_back(self, cast: Cast) -> None:
        """The same for an application."""
        seen: list[PluginEvent] = []

        def once(_: int) -> bool:
            return cast.host.unsubscribe(cast.host.subscribe("Here", seen.append))

        with ThreadPoolExecutor(10) as pool:
            assert all(pool.map(once, range(500)))
            before = resident(cast.host)
            assert all(pool.map(once, range(4500)))
        assert _grown(cast.host, before) < LITTLE
        assert cast.bert.report("Here")["matched"] == 0
        cast.host.subscribe("Here", seen.append)
        assert cast.bert.report("Here")["matched"] == 1
        assert len(seen) == 1
