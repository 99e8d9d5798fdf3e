from dataclasses import replace

import pytest

from protocol.messages import PluginSource
from protocol.plugin import PluginCapability, PluginMetadata
from spiral_host.lifecycle import Lifecycle, State
from spiral_host.manifest import Manifest
from spiral_host.policy import Policy
from spiral_host.registry import Offered, Plugin, Registry


def install(registry: Registry, name: str, *needs: str, state: State = State.READY) -> Plugin:
    """Put a plugin into the registry; its incarnation is its place in it."""
    metadata = PluginMetadata(name, "1.0.0", dependencies=dict.fromkeys(needs, "*"))
    metadata = metadata.with_capability(PluginCapability.Custom(name))
    source = PluginSource(root="/p", entry="m:P")
    manifest = Manifest(metadata=metadata, source=source, path=f"/p/{name}")
    plugin = Plugin(manifest, Lifecycle(Policy()), incarnation=len(registry.plugins) + 1)
    plugin.lifecycle.state = state
    plugin.lifecycle.has_worker = state is State.READY
    plugin.lifecycle.is_restart = state is State.BACKOFF
    registry.take_in(plugin)
    return plugin


@pytest.fixture
def registry() -> Registry:
    return Registry()


class TestPlugins:
    def test_circles_are_sought_once_for_all_that_wait(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        And again once somebody declares something else; who waits is asked about all the time.
        """
        sought: list[int] = []

        def seek(known: dict[str, PluginMetadata]) -> set[str]:
            sought.append(len(known))
            return set()

        monkeypatch.setattr("spiral_host.registry.free_of_circles", seek)
        base = install(registry, "base", state=State.STARTING)
        user = install(registry, "user", "base", state=State.DECLARED)
        for _ in range(3):
            assert registry.hindrance(user) == ""
        assert sought == [2]

        circle = PluginMetadata("base", "1.0.0", dependencies={"user": "*"})
        registry.renew(base, replace(base.manifest, metadata=circle))
        assert "depends on itself" in str(registry.hindrance(user))
        assert sought == [2, 2]
        registry.drop(base)
        assert "base *, which is not there" in str(registry.hindrance(user))

    def test_a_worker_is_found_by_its_life(self, registry: Registry) -> None:
        """
        Reports name an incarnation; the registry knows whose it is.
        """
        plugin = install(registry, "a")

        assert registry.by_incarnation(1) is plugin
        assert registry.by_incarnation(2) is None

    @pytest.mark.parametrize(
        ("state", "hindrance"),
        [
            (State.READY, None),
            (State.STARTING, ""),
            (State.BACKOFF, ""),
            (State.DECLARED, ""),
            (State.BLOCKED, "its dependency base is blocked"),
            (State.QUARANTINED, "its dependency base is quarantined"),
            (State.STOPPED, "its dependency base is stopped"),
        ],
    )
    def test_a_plugin_waits_for_what_it_needs(
        self, registry: Registry, state: State, hindrance: str | None
    ) -> None:
        """
        It starts when its dependency is ready, waits while that may come, and says when not.
        """
        install(registry, "base", state=state)
        plugin = install(registry, "a", "base", state=State.DECLARED)

        found = registry.hindrance(plugin)

        assert found == hindrance or (hindrance and str(found).startswith(hindrance))

    def test_what_can_never_start_says_why(self, registry: Registry) -> None:
        """
        A dependency that is not there is a reason at once.
        """
        plugin = install(registry, "a", "base")

        assert "depends on base *, which is not there" in str(registry.hindrance(plugin))

    def test_those_who_would_miss_it_are_named(self, registry: Registry) -> None:
        """
        Direct dependents that run, or will again, hold a plugin back from its unload.
        """
        install(registry, "base")
        install(registry, "b", "base", state=State.BACKOFF)
        install(registry, "c", "base", state=State.STOPPED)
        install(registry, "d", "b")
        install(registry, "e", "base")

        assert [plugin.id for plugin in registry.dependents("base")] == ["b", "e"]

    def test_all_is_settled_when_nobody_is_on_the_way(self, registry: Registry) -> None:
        """
        A plugin that starts or waits to start again keeps the whole from being settled.
        """
        install(registry, "a", state=State.QUARANTINED)
        assert registry.settled()

        install(registry, "b", state=State.BACKOFF)
        assert not registry.settled()

    def test_capabilities_are_those_of_ready_plugins(self, registry: Registry) -> None:
        """
        Only who is ready can do what it says.
        """
        install(registry, "a")
        install(registry, "b", state=State.STARTING)

        assert registry.find_by_capability("Custom(a)") == ["a"]
        assert registry.find_by_capability("Custom(b)") == []


class TestServices:
    def test_the_first_plugin_that_offers_a_name_is_called(self, registry: Registry) -> None:
        """
        No other plugin takes it over while that one lives; then the next has its turn.
        """
        first = Offered("math", ("add",), 1, "a")
        second = Offered("math", ("sub",), 2, "b")
        registry.offer(first)
        registry.offer(second)
        registry.offer(first)
        assert registry.provider("math") == first

        registry.withdraw("math", 1)
        assert registry.provider("math") == second
        registry.withdraw("math", 2)
        registry.withdraw("math", 2)
        assert registry.provider("math") is None

    def test_a_plugins_next_life_has_its_name(self, registry: Registry) -> None:
        """
        Though the last one is not known to be gone yet.
        """
        registry.offer(Offered("math", ("add",), 1, "a"))
        registry.offer(Offered("math", ("sub",), 2, "b"))
        again = Offered("math", ("add",), 3, "a")
        registry.offer(again)

        assert registry.provider("math") == again

    def test_an_application_covers_what_plugins_offer(self, registry: Registry) -> None:
        """
        The newest of several, until it withdraws it; before and after it is the plugin's.
        """
        of_plugin = Offered("math", ("add",), 1, "a")
        covers = [Offered("math", ("x",), n, f"app:{n}", is_application=True) for n in (2, 3)]
        for offered in (covers[0], of_plugin, covers[1]):
            registry.offer(offered)
        assert registry.provider("math") == covers[1]

        registry.withdraw_all(3)
        assert registry.provider("math") == covers[0]
        registry.withdraw_all(2)
        assert registry.provider("math") == of_plugin

    def test_offering_again_replaces(self, registry: Registry) -> None:
        """
        One life offers a name once, with the methods it named last.
        """
        registry.offer(Offered("math", ("add",), 1, "a"))
        registry.offer(Offered("math", ("sub",), 1, "a"))
        registry.withdraw("math", 1)

        assert list(registry.services()) == []

    def test_a_life_that_ends_takes_its_services_with_it(self, registry: Registry) -> None:
        """
        All services of one life go at once, and no others.
        """
        registry.offer(Offered("b", ("x",), 1, "one"))
        registry.offer(Offered("a", ("x",), 1, "one"))
        registry.offer(Offered("c", ("x",), 2, "two"))
        assert registry.services_of(1) == ["a", "b"]

        registry.withdraw_all(1)
        registry.withdraw_all(9)

        assert [offer.service for offer in registry.services()] == ["c"]

    @pytest.mark.parametrize(
        ("state", "why"),
        [
            (State.READY, ""),
            (State.STARTING, ""),
            (State.QUARANTINED, "its plugin a is quarantined: crashed"),
        ],
    )
    def test_who_asks_is_told_when_it_is_hopeless(
        self, registry: Registry, state: State, why: str
    ) -> None:
        """
        A service whose plugin will not come back by itself is not waited for.
        """
        plugin = install(registry, "a")
        registry.offer(Offered("math", ("add",), plugin.incarnation, "a"))
        registry.withdraw_all(plugin.incarnation)
        plugin.lifecycle.state, plugin.lifecycle.reason = state, "crashed"

        assert registry.why_hopeless("math") == why

    def test_nobody_knows_of_a_service_that_never_was(self, registry: Registry) -> None:
        """
        What was never offered, or by somebody who is forgotten, may still come.
        """
        plugin = install(registry, "a", state=State.STOPPED)
        registry.offer(Offered("math", ("add",), plugin.incarnation, "a"))
        registry.withdraw_all(plugin.incarnation)
        assert registry.why_hopeless("math") == "its plugin a is stopped"

        registry.forget_owner("a")

        assert registry.why_hopeless("math") == ""
        assert registry.why_hopeless("other") == ""
