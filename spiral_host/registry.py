"""Know what is installed, what runs, and who provides which service. Starts and sends nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from protocol.messages import Sample
from spiral_host.graph import dependents, problem
from spiral_host.lifecycle import Lifecycle, Memory, State
from spiral_host.manifest import Manifest

SETTLED = frozenset({State.READY, State.QUARANTINED, State.BLOCKED, State.STOPPED})
"""States that only an event from outside changes."""

RUNNING = frozenset({State.STARTING, State.READY, State.DRAINING, State.STOPPING})
"""States with a worker."""


@dataclass(slots=True)
class Plugin:
    """One plugin that somebody wants, and its worker while it has one."""

    manifest: Manifest
    lifecycle: Lifecycle
    incarnation: int = 0
    pid: int = 0
    ready_at: float = 0.0
    confined: bool = False
    """Whether it has said hello from inside its confinement, so that it may be told to load."""
    layers: tuple[str, ...] = ()
    figures: Sample | None = None
    announced: int = 0
    """The incarnation that was last announced as loaded."""
    remembered: Memory = field(default_factory=Memory)
    """What the store knows of its lifecycle."""
    leaving: bool = False
    """Whether it is to be forgotten once its worker is gone."""

    @property
    def id(self) -> str:
        """The plugin's id."""
        return self.manifest.id

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.lifecycle.state


@dataclass(frozen=True, slots=True)
class Offered:
    """A service, and the life of the worker or client that offers it."""

    service: str
    methods: tuple[str, ...]
    incarnation: int
    owner: str
    idempotent: tuple[str, ...] = ()
    """Methods that may be called again when a call was lost."""


@dataclass(slots=True)
class Registry:
    """Everything the daemon knows of plugins and services; lives as long as the daemon."""

    plugins: dict[str, Plugin] = field(default_factory=dict)
    _offers: dict[str, list[Offered]] = field(default_factory=dict)
    _last_owner: dict[str, str] = field(default_factory=dict)

    def by_incarnation(self, incarnation: int) -> Plugin | None:
        """Find the plugin whose worker this is."""
        plugins = self.plugins.values()
        return next((plugin for plugin in plugins if plugin.incarnation == incarnation), None)

    def hindrance(self, plugin: Plugin) -> str | None:
        """Say why a plugin cannot start, `""` when it has only to wait, None when it can."""
        known = {other.id: other.manifest.metadata for other in self.plugins.values()}
        wrong = problem(plugin.manifest.metadata, known)
        if wrong:
            return wrong
        waits = False
        for dependency in plugin.manifest.metadata.dependencies:
            state = self.plugins[dependency].state
            if state in SETTLED and state is not State.READY:
                return f"its dependency {dependency} is {state.value}; see: spiral-host plugins"
            waits = waits or state is not State.READY
        return "" if waits else None

    def dependents(self, plugin_id: str) -> list[Plugin]:
        """Give the plugins that depend on one directly and have a worker or will have one again."""
        metadata = (plugin.manifest.metadata for plugin in self.plugins.values())
        plugins = (self.plugins[name] for name in dependents(plugin_id, metadata))
        return [plugin for plugin in plugins if plugin.state in {*RUNNING, State.BACKOFF}]

    def settled(self) -> bool:
        """Say whether every plugin is where it stays until something happens."""
        return all(plugin.state in SETTLED for plugin in self.plugins.values())

    def find_by_capability(self, capability: str) -> list[str]:
        """Name the plugins that are ready and can do something, in the order they were loaded."""
        return [
            plugin.id
            for plugin in self.plugins.values()
            if plugin.state is State.READY
            and capability in map(str, plugin.manifest.metadata.capabilities)
        ]

    # --- services ---------------------------------------------------------------------------------

    def offer(self, offered: Offered) -> None:
        """Take in a service. The newest offer of a name is the one that is called."""
        self.withdraw(offered.service, offered.incarnation)
        self._offers.setdefault(offered.service, []).append(offered)

    def withdraw(self, service: str, incarnation: int) -> None:
        """Forget a service of one life; an earlier offer of the name counts again."""
        left = [
            offer for offer in self._offers.get(service, []) if offer.incarnation != incarnation
        ]
        if left:
            self._offers[service] = left
        else:
            self._offers.pop(service, None)

    def withdraw_all(self, incarnation: int) -> None:
        """Forget every service of a life that has ended."""
        mine = [offer for offers in self._offers.values() for offer in offers]
        mine = [offer for offer in mine if offer.incarnation == incarnation]
        if mine:
            self.forget_owner(mine[0].owner)
        for offer in mine:
            self.withdraw(offer.service, incarnation)
            self._last_owner[offer.service] = offer.owner

    def forget_owner(self, owner: str) -> None:
        """Forget which services somebody offered in the life before."""
        self._last_owner = {name: last for name, last in self._last_owner.items() if last != owner}

    def provider(self, service: str) -> Offered | None:
        """Say who is to be called for a service."""
        offers = self._offers.get(service)
        return offers[-1] if offers else None

    def why_hopeless(self, service: str) -> str:
        """Say why nobody will offer a service soon, or nothing when somebody may."""
        plugin = self.plugins.get(self._last_owner.get(service, ""))
        if plugin is None or plugin.state not in SETTLED or plugin.state is State.READY:
            return ""
        reason = f": {plugin.lifecycle.reason}" if plugin.lifecycle.reason else ""
        return f"its plugin {plugin.id} is {plugin.state.value}{reason}"

    def services(self) -> Iterator[Offered]:
        """Give every service that can be called, by name."""
        return (self._offers[name][-1] for name in sorted(self._offers))

    def services_of(self, incarnation: int) -> list[str]:
        """Name the services of one life."""
        return [offer.service for offer in self.services() if offer.incarnation == incarnation]
