import pytest

from protocol.events import PermissionRefused, PluginEvent
from protocol.messages import Denied
from protocol.tally import EVERY_S, MAX_KINDS, Counted
from spiral_host import denials as denials_module
from spiral_host.denials import Denials
from spiral_host.lifecycle import Lifecycle
from spiral_host.policy import Policy
from spiral_host.registry import Plugin, Registry
from tests.clock import Clock, HandReactor
from tests.unit.spiral_host.parts import manifest


class Office:
    """A daemon's denials, and what operators get of them."""

    def __init__(self, clock: Clock) -> None:
        self.events: list[PluginEvent] = []
        self.kept: list[tuple[str, Counted]] = []
        self.registry = Registry()
        self.registry.take_in(Plugin(manifest("trainer"), Lifecycle(Policy()), incarnation=7))
        self.reactor = HandReactor(clock)
        self.denials = Denials(self.registry, self.reactor, self)

    def publish(self, event: PluginEvent) -> None:
        self.events.append(event)

    def refused(self, plugin_id: str, counted: Counted) -> None:
        self.kept.append((plugin_id, counted))


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    clock = Clock()
    monkeypatch.setattr(denials_module, "time", clock)
    return Office(clock)


class TestDenials:
    def test_operators_are_told(self, office: Office) -> None:
        """
        By an event, and by what is kept for those who look later.
        """
        office.denials.note("trainer", "services", "tokenizer")
        office.denials.told(Denied(7, "network", "port 25", 3))

        assert office.events == [
            PermissionRefused("trainer", "services", "tokenizer"),
            PermissionRefused("trainer", "network", "port 25"),
        ]
        assert office.kept == [
            ("trainer", Counted("services", "tokenizer", 1)),
            ("trainer", Counted("network", "port 25", 3)),
        ]

    def test_a_flood_is_news_once(self, office: Office) -> None:
        """
        Then it is a count every ten seconds, whoever refuses; other plugins are told of as ever.
        """
        for number in range(10_000):
            office.denials.note("trainer", "config", f"key{number}")
            office.denials.told(Denied(7, "config", "key0", 1))
        office.denials.note("shop", "config", "key")
        assert len(office.events) == MAX_KINDS + 2
        assert office.kept[-1][0] == "shop"

        office.reactor.pass_time(EVERY_S)
        mine = [counted.times for plugin_id, counted in office.kept if plugin_id == "trainer"]
        assert sum(mine) == 20_000
        assert len(mine) == MAX_KINDS + 3

    def test_a_worker_that_is_nobodys_is_not_told_of(self, office: Office) -> None:
        """
        One that was only asked for its metadata, say, or that has been replaced.
        """
        office.denials.told(Denied(99, "read", "/", 1))

        assert office.events == []

    def test_nothing_is_kept_of_what_has_stopped(self, office: Office) -> None:
        """
        Plugins come and go.
        """
        office.denials.note("trainer", "config", "key")
        office.reactor.pass_time(EVERY_S)

        assert (office.denials._tallies, office.reactor.due) == ({}, [])
