"""What must hold in every world, looked at with each step and at rest."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.messages import (
    TO_WORKER,
    Answer,
    LoadPlugins,
    Refusal,
    Relay,
    RestartPlugin,
    SpawnWorker,
    StopPlugin,
    ToNode,
    UnloadPlugin,
)
from spiral_host.lifecycle import State
from spiral_host.orders import Order
from spiral_host.policy import Restart
from spiral_host.registry import Plugin, Registry
from spiral_host.supervision import OnLoss

if TYPE_CHECKING:
    from tests.simulation.operators import Asked, Operator
    from tests.simulation.workers import Node, Worker
    from tests.simulation.world import World


BUDGET: Final = 6
"""Crashes in a loop, until it is quarantined."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class Judge:
    """Sees everything that happens in one world, and says when it must not."""

    def __init__(self, world: "World") -> None:
        self.spawns: Counter[str] = Counter()
        """How often a worker was started, by plugin."""
        self._world = world
        self._asked_away: Counter[str] = Counter()
        self._stopped: defaultdict[str, set[int]] = defaultdict(set)
        self._told: set[int] = set()
        self._followers: set[str] = set()
        self._allowed: Counter[str] = Counter()
        self._edited: dict[str, float] = {}
        self._quarantined: dict[str, float] = {}
        self._deaths: Counter[str] = Counter()
        self._states: dict[str, State] = {}

    def _require(self, holds: object, what: str) -> None:
        if not holds:
            raise Violation(what)

    # --- what the daemon decides ------------------------------------------------------------------

    def told(self, message: ToNode) -> None:
        """The daemon tells the node something."""
        registry = self._world.registry
        if registry is None or not isinstance(message, SpawnWorker | Relay):
            return
        plugin = registry.by_incarnation(message.incarnation)
        if plugin is None:
            return
        if isinstance(message, SpawnWorker):
            if self._states.get(plugin.id) is not State.STARTING:  # which it is told to a new node
                self._starts(plugin, registry)
        elif isinstance(TO_WORKER.decode(message.body), StopPlugin):
            if plugin.leaving and message.incarnation not in self._told:
                self._stops(plugin, registry)
            self._told.add(message.incarnation)

    def _starts(self, plugin: Plugin, registry: Registry) -> None:
        for name in plugin.manifest.metadata.dependencies:
            other = registry.plugins.get(name)
            is_there = other is not None and other.state in {State.READY, State.SUSPECT}
            self._require(is_there, f"{plugin.id} is started before {name}, which it needs")

    def _stops(self, plugin: Plugin, registry: Registry) -> None:
        for other in registry.plugins.values():
            if plugin.id not in other.manifest.metadata.dependencies:
                continue
            needs = f"{plugin.id} is unloaded before {other.id}, which needs it"
            self._require(not other.lifecycle.has_worker, needs)

    # --- what workers go through ------------------------------------------------------------------

    def spawned(self, node: "Node", worker: "Worker") -> None:
        """A node starts a worker."""
        name = worker.plugin_id
        self.spawns[name] += 1
        plugin = self._world.registry.plugins.get(name) if self._world.registry else None
        policy = plugin.manifest.supervision.policy if plugin is not None else None
        if policy is not None and policy.restart is Restart.TEMPORARY:
            again = f"{name} is temporary, and started {self.spawns[name]} times"
            self._require(self.spawns[name] <= self._allowed[name], again)
        else:
            self._allowed[name] = max(self._allowed[name], self.spawns[name])
        for each in self._world.nodes:
            for other in each.workers.values():
                if other.plugin_id == worker.plugin_id:
                    self._require(other.is_ending, f"two workers of {worker.plugin_id} live")

    def stopping(self, worker: "Worker") -> None:
        """A worker is asked to leave."""
        name = worker.plugin_id
        if name in self._followers:
            return  # it may leave with its provider
        self._stopped[name].add(worker.incarnation)
        why = f"{name} is stopped, and nobody has asked for it"
        asked = self._world.is_stopping or len(self._stopped[name]) <= self._asked_away[name]
        self._require(asked, why)

    def died(self, worker: "Worker") -> None:
        """A worker is dead, or could not be made."""
        self._deaths[worker.plugin_id] += 1

    def look_at_loop(self, plugin_id: str) -> None:
        """Look at a plugin that has died whenever it loaded, until it was given up."""
        spawns = self.spawns[plugin_id]
        wrong = f"{plugin_id} is spawned {spawns} times, and its budget says {BUDGET}"
        self._require(spawns == BUDGET, wrong)

    # --- what people are told ---------------------------------------------------------------------

    def asked(self, order: Order) -> None:
        """Somebody gives an order."""
        if isinstance(order, RestartPlugin | UnloadPlugin):
            self._asked_away[order.plugin_id] += 1
            self._allowed[order.plugin_id] += 1
        elif isinstance(order, LoadPlugins):
            self._allowed.update(place.path.rpartition("/")[2] for place in order.places)

    def edited(self, plugin_id: str) -> None:
        """Somebody writes a plugin's code anew."""
        self._edited[plugin_id] = self._world.hours.now
        self._allowed[plugin_id] += 1
        if f'= "{OnLoss.RESTART.value}"' in self._world.code[plugin_id].supervision:
            self._followers.add(plugin_id)

    def replied(self, operator: "Operator", asked: "Asked | None", reply: Answer | Refusal) -> None:
        """Somebody has an answer."""
        self._require(asked is not None, f"{reply.request} is answered twice")
        if asked is None or not isinstance(asked.order, RestartPlugin):
            return
        name = asked.order.plugin_id
        if isinstance(reply, Refusal):
            refused = f"a person's restart is refused: {reply.fields}"
            self._require(reply.fields[-1].startswith("no plugin "), refused)
        elif isinstance(reply.value, dict) and reply.value["state"] == "ready":
            self._require(self.spawns[name] > asked.spawns, f"{name} was not restarted")

    # --- at every step, and at rest ---------------------------------------------------------------

    def look(self) -> None:
        """Look at the daemon after a step of it."""
        registry = self._world.registry
        if registry is None:
            self._states.clear()
            return
        for plugin in registry.plugins.values():
            state, reason = plugin.state, plugin.lifecycle.reason
            seen = self._states.get(plugin.id)
            if state is seen:
                continue
            self._world.note(f"daemon: {plugin.id} {state.value} {reason}")
            self._states[plugin.id] = state
            has_worker = f"{plugin.id} is {state.value} with incarnation {plugin.incarnation:#x}"
            self._require(bool(plugin.incarnation) == plugin.lifecycle.has_worker, has_worker)
            if state is State.QUARANTINED:
                self._quarantined[plugin.id] = self._world.hours.now
            if seen and state is State.QUARANTINED and reason.startswith("crashed"):
                deaths = self._deaths[plugin.id]
                too_soon = f"{plugin.id} is quarantined after {deaths} deaths"
                budget = plugin.lifecycle.policy.threshold + 1
                self._require(deaths >= budget, too_soon)
        for name in self._states.keys() - registry.plugins.keys():
            del self._states[name]

    def unrest(self) -> str:
        """Say what has still to happen, or nothing: then everything is where it stays."""
        if self._world.registry is None:
            return "there is no daemon"
        nodes = [node for node in self._world.nodes if node.is_alive]
        if len(nodes) != 1:
            return f"there are {len(nodes)} nodes"
        return next(self._restless(self._world.registry, nodes[0]), "")

    def _restless(self, registry: Registry, node: "Node") -> Iterator[str]:
        for operator in self._world.operators:
            if operator.pending:
                yield f"not answered: {', '.join(operator.pending)}"
        for plugin in registry.plugins.values():
            yield from self._restless_plugin(plugin, registry, node)
        living = {worker.incarnation: worker.plugin_id for worker in node.workers.values()}
        wanted = {one.incarnation: one.id for one in registry.plugins.values() if one.incarnation}
        if living != wanted:
            yield f"there live {living}, and {wanted} are wanted"
        if node.exits:
            yield f"exits are not seen: {list(node.exits.values())}"
        stored = {row[0] for row in self._world.disk.rows("plugin")}
        if stored != set(registry.plugins):
            yield f"the store wants {stored}, the daemon {set(registry.plugins)}"

    def _restless_plugin(self, plugin: Plugin, registry: Registry, node: "Node") -> Iterator[str]:
        state, reason = plugin.state, plugin.lifecycle.reason
        if not plugin.is_settled or plugin.leaving:
            yield f"{plugin.id} is {state.value}"
        elif state is State.READY:
            worker = node.workers.get(plugin.incarnation)
            if worker is None or not worker.is_ready or worker.silence:
                yield f"{plugin.id} is said to be ready and is not"
        elif not reason:
            yield f"{plugin.id} is {state.value} for no reason"
        elif state is State.BLOCKED and registry.hindrance(plugin) is None:
            yield f"{plugin.id} is blocked and has what it needs"
        elif state is State.QUARANTINED and self._edited[plugin.id] > self._seen(plugin.id):
            yield f"{plugin.id} is quarantined for code that is there no more"

    def _seen(self, plugin_id: str) -> float:
        return self._quarantined.get(plugin_id, self._world.hours.now)

    def left(self) -> str:
        """Say what is left after an orderly stop, or nothing."""
        living = [worker for node in self._world.nodes for worker in node.workers.values()]
        if living:
            return f"workers are left: {', '.join(map(str, living))}"
        nodes = [node for node in self._world.nodes if node.is_alive]
        return f"{len(nodes)} nodes are left" if nodes else ""
