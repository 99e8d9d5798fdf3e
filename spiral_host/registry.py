"""Know what is installed, what runs, and who provides which service. Starts and sends nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from protocol.messages import Sample
from protocol.permissions import NOTHING, Permissions
from protocol.plugin import PluginMetadata
from spiral_host.graph import dependents, free_of_circles, problem
from spiral_host.lifecycle import Lifecycle, ProviderLeft, RestartAsked, State
from spiral_host.manifest import Manifest
from spiral_host.policy import Memory
from spiral_host.supervision import OnLoss

SETTLED: Final = frozenset({State.READY, State.QUARANTINED, State.BLOCKED, State.STOPPED})
"""States that only an event from outside changes."""

UP: Final = frozenset({State.READY, State.SUSPECT})
"""States in which a plugin can be depended on; a suspect is given up or back within seconds."""


_SEE: Final = "see: spiral-host plugins"


NO_LIMITS: Final[Mapping[str, object]] = MappingProxyType({})
"""Of a plugin without a worker."""


@dataclass(slots=True)
class Plugin:
    """One plugin that somebody wants, and its worker while it has one."""

    manifest: Manifest
    lifecycle: Lifecycle
    incarnation: int = 0
    pid: int = 0
    began: float = 0.0
    """When its worker was ordered, on the monotonic clock; 0.0 if an earlier daemon did."""
    ready_at: float = 0.0
    confined: bool = False
    """Whether it has said hello from inside its confinement, so that it may be told to load."""
    layers: tuple[str, ...] = ()
    limits: Mapping[str, object] = field(default_factory=lambda: NO_LIMITS)
    """Those in force, each with its value and what holds it, by its node's word."""
    permissions: Permissions = NOTHING
    """Those in force, for as long as its worker lives."""
    figures: Sample | None = None
    announced: int = 0
    """The incarnation that was last announced as loaded."""
    remembered: Memory = field(default_factory=Memory)
    """What the store knows of its lifecycle."""
    leaving: bool = False
    """Whether it is to be forgotten once its worker is gone."""
    waits_for: RestartAsked | ProviderLeft | None = None
    """What it hears of once those that are restarted with it have left."""

    @property
    def id(self) -> str:
        """The plugin's id."""
        return self.manifest.id

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.lifecycle.state

    @property
    def is_up(self) -> bool:
        """Whether it can be depended on."""
        return self.state in UP and self.waits_for is None and not self.leaving

    @property
    def stands(self) -> str:
        """Where it stands, in a word, for those who depend on it."""
        if self.leaving or self.waits_for:
            return "leaving" if self.leaving else "restarting"
        return self.state.value

    @property
    def is_settled(self) -> bool:
        """Whether it stays where it is until something happens."""
        return self.state in SETTLED and self.waits_for is None and not self.leaving

    @property
    def needs_providers(self) -> bool:
        """Whether it has a worker or will have one again without anybody asking."""
        return self.lifecycle.has_worker or self.lifecycle.is_restart


@dataclass(frozen=True, slots=True)
class Offered:
    """A service, and the life of the worker or client that offers it."""

    service: str
    methods: tuple[str, ...]
    incarnation: int
    owner: str
    idempotent: tuple[str, ...] = ()
    """Methods that may be called again when a call was lost."""
    is_application: bool = False
    length: int = 0
    """Characters of all these names, for who has counted them."""


@dataclass(slots=True)
class Registry:
    """Everything the daemon knows of plugins and services; lives as long as the daemon."""

    plugins: dict[str, Plugin] = field(default_factory=dict)
    """To be read; `take_in`, `renew` and `drop` change it."""
    _known: dict[str, PluginMetadata] = field(default_factory=dict)
    _free: set[str] | None = None
    _offers: dict[str, list[Offered]] = field(default_factory=dict)
    _by_life: dict[int, dict[str, Offered]] = field(default_factory=dict)
    _last_owner: dict[str, str] = field(default_factory=dict)

    def take_in(self, plugin: Plugin) -> None:
        """Know a plugin from now on."""
        self.plugins[plugin.id] = plugin
        self._declare(plugin)

    def renew(self, plugin: Plugin, manifest: Manifest) -> None:
        """Know of a plugin what it declares now."""
        plugin.manifest = manifest
        plugin.lifecycle.policy = manifest.supervision.policy
        self._declare(plugin)

    def drop(self, plugin: Plugin) -> None:
        """Know nothing of a plugin any more."""
        del self.plugins[plugin.id], self._known[plugin.id]
        self._free = None
        self.forget_owner(plugin.id)

    def _declare(self, plugin: Plugin) -> None:
        self._known[plugin.id] = plugin.manifest.metadata
        self._free = None

    def by_incarnation(self, incarnation: int) -> Plugin | None:
        """Find the plugin whose worker this is."""
        plugins = self.plugins.values()
        return next((plugin for plugin in plugins if plugin.incarnation == incarnation), None)

    def hindrance(self, plugin: Plugin) -> str | None:
        """Say why a plugin cannot start, `""` when it has only to wait, None when it can."""
        if self._free is None:
            self._free = free_of_circles(self._known)
        wrong = problem(plugin.manifest.metadata, self._known, self._free)
        if wrong:
            return wrong
        waits = False
        for dependency in plugin.manifest.metadata.dependencies:
            provider = self.plugins[dependency]
            if provider.is_settled and not provider.is_up:
                return f"its dependency {dependency} is {provider.stands}; {_SEE}"
            waits = waits or not provider.is_up
        return "" if waits else None

    def withheld(self, plugin: Plugin) -> str:
        """Say why nobody new is to be sent to a plugin that runs, or nothing."""
        for name, loss in plugin.manifest.supervision.providers.items():
            provider = self.plugins.get(name)
            if loss is OnLoss.BLOCK and not (provider is not None and provider.is_up):
                state = "not there" if provider is None else provider.stands
                return f"its dependency {name} is {state}; {_SEE}"
        return ""

    def lacks_something(self, plugin: Plugin) -> bool:
        """Say whether anything that a plugin depends on is away just now."""
        names = plugin.manifest.metadata.dependencies
        return not all(name in self.plugins and self.plugins[name].is_up for name in names)

    def followers(self, plugin_id: str) -> list[Plugin]:
        """Give those with a worker that are restarted with a plugin, and with these, and so on."""
        found: dict[str, Plugin] = {}
        waiting = [plugin_id]
        while waiting:
            here = waiting.pop()
            for plugin in self.plugins.values():
                is_one = plugin.manifest.supervision.providers.get(here) is OnLoss.RESTART
                if is_one and plugin.id not in {plugin_id, *found}:
                    found[plugin.id] = plugin
                    waiting.append(plugin.id)
        return [plugin for plugin in found.values() if plugin.lifecycle.has_worker]

    def dependents(self, plugin_id: str) -> list[Plugin]:
        """Give the plugins that depend on one directly and have a worker or will have one again."""
        plugins = (self.plugins[name] for name in dependents(plugin_id, self._known.values()))
        return [plugin for plugin in plugins if plugin.needs_providers]

    def unneeded(self) -> list[Plugin]:
        """Give the plugins without such dependents."""
        plugins = self.plugins.values()
        needed = {
            name
            for plugin in plugins
            if plugin.needs_providers
            for name in plugin.manifest.metadata.dependencies
        }
        return [plugin for plugin in plugins if plugin.id not in needed]

    def settled(self) -> bool:
        """Say whether every plugin is where it stays until something happens."""
        return all(plugin.is_settled for plugin in self.plugins.values())

    def find_by_capability(self, capability: str) -> list[str]:
        """Name the plugins that are ready and can do something, in the order they were loaded."""
        return [
            plugin.id
            for plugin in self.plugins.values()
            if plugin.is_up and capability in map(str, plugin.manifest.metadata.capabilities)
        ]

    # --- services ---------------------------------------------------------------------------------

    def offer(self, offered: Offered) -> None:
        """Take in a service; `provider` says which offer of a name is the one that is called."""
        self._by_life.setdefault(offered.incarnation, {})[offered.service] = offered
        offers = self._offers.setdefault(offered.service, [])
        for place, known in enumerate(offers):
            if known.incarnation == offered.incarnation:
                offers[place] = offered
                return
        offers.append(offered)

    def withdraw(self, service: str, incarnation: int) -> None:
        """Forget a service of one life; an earlier offer of the name counts again."""
        mine = self._by_life.get(incarnation, {})
        if mine.pop(service, None) is None:
            return
        if not mine:
            del self._by_life[incarnation]
        left = [offer for offer in self._offers[service] if offer.incarnation != incarnation]
        if left:
            self._offers[service] = left
        else:
            self._offers.pop(service, None)

    def withdraw_all(self, incarnation: int) -> None:
        """Forget every service of a life that has ended."""
        mine = self.offered_by(incarnation)
        if mine:
            self.forget_owner(mine[0].owner)
        for offer in mine:
            self.withdraw(offer.service, incarnation)
            self._last_owner[offer.service] = offer.owner

    def forget_owner(self, owner: str) -> None:
        """Forget which services somebody offered in the life before."""
        self._last_owner = {name: last for name, last in self._last_owner.items() if last != owner}

    def provider(self, service: str) -> Offered | None:
        """Say who is to be called for a service.

        Of plugins the first that offered it, as long as it lives: nobody takes another's name. An
        application may, its user's word goes above theirs; of several the newest.
        """
        offers = [offer for offer in self._offers.get(service, ()) if not self._is_blocked(offer)]
        applications = [offer for offer in offers if offer.is_application]
        firsts = [offer for offer in offers if offer.owner == offers[0].owner]
        return next(reversed(applications or firsts), None)

    def _is_blocked(self, offer: Offered) -> bool:
        plugin = self.plugins.get(offer.owner)
        is_its = plugin is not None and plugin.incarnation == offer.incarnation
        return is_its and plugin is not None and plugin.state is State.BLOCKED

    def why_hopeless(self, service: str) -> str:
        """Say why nobody will offer a service soon, or nothing when somebody may."""
        plugin = self.plugins.get(self._last_owner.get(service, ""))
        if plugin is None or plugin.is_up or not plugin.is_settled:
            return ""
        reason = f": {plugin.lifecycle.reason}" if plugin.lifecycle.reason else ""
        return f"its plugin {plugin.id} is {plugin.state.value}{reason}"

    def services(self) -> Iterator[Offered]:
        """Give every service that can be called, by name."""
        providers = map(self.provider, sorted(self._offers))
        return (provider for provider in providers if provider is not None)

    def offered_by(self, incarnation: int) -> list[Offered]:
        """Give what one life offers, also where a newer offer of the name is called instead."""
        return list(self._by_life.get(incarnation, {}).values())

    def services_of(self, incarnation: int) -> list[str]:
        """Name the services of one life."""
        return [offer.service for offer in self.services() if offer.incarnation == incarnation]
