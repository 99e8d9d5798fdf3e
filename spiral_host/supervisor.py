"""Carry lifecycles out through the node: start in order of dependency, watch, stop in reverse.

What to do is decided in lifecycle.py and registry.py; this file only tells the node and the
worker, keeps the store, and passes on what they report. One timer serves every deadline.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from protocol.errors import UsageError
from protocol.events import PluginEvent, PluginLoaded, PluginUnloaded
from protocol.messages import (
    TO_WORKER,
    Broken,
    Described,
    DescribePlugin,
    EndWorker,
    Exited,
    ExitSeen,
    LoadPlugin,
    PluginSource,
    Relay,
    SpawnWorker,
    StopPlugin,
    ToNode,
    ToWorker,
    WorkerReport,
)
from protocol.reactor import Reactor, Timer
from spiral_host import lifecycle, store
from spiral_host.lifecycle import Kill, Lifecycle, Policy, SendStop, Spawn, State, Terminate
from spiral_host.manifest import Manifest
from spiral_host.registry import RUNNING, Plugin, Registry
from spiral_host.store import Statement, Wanted

DESCRIBE_S: Final = 60.0
"""How long a plugin may take to be imported for its metadata, seconds."""


class Node(Protocol):
    """What the supervisor needs of the node."""

    def tell_node(self, message: ToNode) -> None:
        """Tell the node; while it is away this does nothing, and its greeting sets all right."""


class Outside(Protocol):
    """What the supervisor tells the rest of the daemon."""

    def publish(self, event: PluginEvent) -> None:
        """Put an event of the daemon's own on the bus."""

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Change the store."""

    def changed(self) -> None:
        """Something moved that people or parked questions may wait for."""


@dataclass(slots=True)
class _Asked:
    """A worker that is only asked for its plugin's metadata."""

    source: PluginSource
    then: Callable[[Described | Broken], None]
    timer: Timer


class Supervisor:
    """Every lifecycle of one daemon; lives as long as the daemon."""

    def __init__(
        self, registry: Registry, node: Node, outside: Outside, reactor: Reactor, data: Path
    ) -> None:
        self.epoch = 0
        self.restarting: frozenset[int] = frozenset()
        """Lives that an earlier daemon was told to end and begin anew."""
        self._registry = registry
        self._node = node
        self._outside = outside
        self._reactor = reactor
        self._data = data
        self._policy = Policy()
        self._asked: dict[int, _Asked] = {}
        self._spawns = 0
        self._timer: Timer | None = None

    # --- what people want -------------------------------------------------------------------------

    def add(self, manifests: Iterable[Manifest]) -> None:
        """Want these plugins; they start as soon as what they depend on is ready."""
        for manifest in manifests:
            plugin = Plugin(manifest, Lifecycle(self._policy))
            self._registry.plugins[manifest.id] = plugin
        self.advance()

    def remember(self, wanted: Wanted) -> None:
        """Want again what an earlier daemon was told to want."""
        self._registry.plugins[wanted.manifest.id] = Plugin(
            wanted.manifest,
            Lifecycle(self._policy, wanted.memory),
            announced=wanted.announced,
            remembered=wanted.memory,
            leaving=wanted.leaving,
        )

    def stop(self, plugin_id: str) -> None:
        """Stop a plugin and forget it once its worker is gone."""
        plugin = self._registry.plugins[plugin_id]
        plugin.leaving = True
        self._handle(plugin, lifecycle.StopAsked())

    def restart(self, plugin_id: str) -> None:
        """Stop a plugin and start it again; one that is to be forgotten goes all the same."""
        plugin = self._registry.plugins[plugin_id]
        if not plugin.leaving:
            self._handle(plugin, lifecycle.RestartAsked())

    def stop_unneeded(self) -> None:
        """Stop every plugin that no running plugin depends on: one step of an orderly shutdown."""
        for plugin in tuple(self._registry.plugins.values()):
            if not plugin.leaving and not self._registry.dependents(plugin.id):
                self.stop(plugin.id)

    def describe(self, source: PluginSource, then: Callable[[Described | Broken], None]) -> None:
        """Have a worker import a plugin only to say its metadata."""
        incarnation = self._next_incarnation()
        timer = self._reactor.call_later(
            DESCRIBE_S,
            lambda: self._node.tell_node(EndWorker(incarnation, "describe timeout", True)),
        )
        self._asked[incarnation] = _Asked(source, then, timer)
        self._spawn_to_ask(incarnation, source)

    # --- what the node reports --------------------------------------------------------------------

    def spawned(self, incarnation: int, pid: int) -> None:
        """A worker process exists."""
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None:
            plugin.pid = pid

    def confined(self, incarnation: int, layers: tuple[str, ...]) -> None:
        """A worker is confined and listens: only now is it told what to import."""
        asked = self._asked.get(incarnation)
        if asked is not None:
            self._tell(incarnation, DescribePlugin(source=asked.source))
            return
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None:
            plugin.layers, plugin.confined = layers, True
            self._tell_load(plugin)

    def exited(self, exit_: Exited) -> None:
        """A worker is gone. Said again and again until it is acknowledged, so done only once."""
        asked = self._asked.pop(exit_.incarnation, None)
        if asked is not None:
            asked.timer.cancel()
            lost = f"its process ended while it was asked for its metadata: {exit_.cause}"
            asked.then(Broken(stage="metadata", error=lost, traceback=""))
        plugin = self._registry.by_incarnation(exit_.incarnation) or self._missed(exit_)
        if plugin is not None:
            self._ended(plugin, str(exit_.cause))
        self._outside.write([], lambda: self._node.tell_node(ExitSeen(exit_.incarnation)))

    def _missed(self, exit_: Exited) -> Plugin | None:
        """Find the plugin whose worker ended, by itself, while no daemon was there."""
        plugin = self._registry.plugins.get(exit_.plugin_id)
        is_news = exit_.incarnation >> 32 < self.epoch and exit_.incarnation not in self.restarting
        if plugin is None or plugin.leaving or plugin.state is not State.DECLARED or not is_news:
            return None
        plugin.lifecycle.adopt(time.monotonic())
        return plugin

    def spawn_failed(self, incarnation: int, reason: str) -> None:
        """A worker process could not be made."""
        asked = self._asked.pop(incarnation, None)
        if asked is not None:
            asked.timer.cancel()
            asked.then(Broken(stage="start", error=reason, traceback=""))
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None:
            self._ended(plugin, f"could not be started: {reason}")

    def node_lost(self) -> None:
        """The node is gone, and with it every worker."""
        for incarnation in tuple(self._asked):
            self.spawn_failed(incarnation, "the node was lost")
        for plugin in tuple(self._registry.plugins.values()):
            if plugin.incarnation:
                self._ended(plugin, "the node was lost")

    def loaded(self, incarnation: int) -> None:
        """A plugin's `on_load` has returned."""
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None and plugin.state is not State.READY:
            self._handle(plugin, lifecycle.Loaded())

    def broken(self, incarnation: int, broken: Broken) -> None:
        """A plugin's own code raised while it was brought up or taken down."""
        asked = self._asked.pop(incarnation, None)
        if asked is not None:
            asked.timer.cancel()
            asked.then(broken)
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None and plugin.state is not State.READY:
            reason = f"{broken.stage} raised {broken.error}"
            self._handle(plugin, lifecycle.Broke(reason, broken.traceback))

    def described(self, incarnation: int, described: Described) -> None:
        """A plugin has said its metadata."""
        asked = self._asked.pop(incarnation, None)
        if asked is not None:
            asked.timer.cancel()
            asked.then(described)

    def violated(self, incarnation: int, reason: str) -> None:
        """A worker broke the protocol towards us: it ends, nobody else does."""
        self._node.tell_node(EndWorker(incarnation, f"protocol violation: {reason}", True))

    def adopt(self, reports: Iterable[WorkerReport]) -> list[WorkerReport]:
        """Take over living workers; give those that are wanted, and end the others."""
        kept = []
        for report in reports:
            if report.incarnation in self._asked:
                kept.append(report)
                if report.confined:
                    self.confined(report.incarnation, report.layers)
                continue
            plugin = self._registry.plugins.get(report.plugin_id)
            if plugin is None or plugin.incarnation not in {0, report.incarnation}:
                self._node.tell_node(EndWorker(report.incarnation, "nobody wants it", True))
                continue
            if not plugin.incarnation:
                plugin.lifecycle.adopt(time.monotonic())
                plugin.incarnation = report.incarnation
            plugin.pid, plugin.layers = report.pid, report.layers
            plugin.confined = report.confined
            kept.append(report)
        return kept

    def resume(self, alive: Iterable[int]) -> None:
        """After adoption: count who is missing as lost, go on with what was under way."""
        living = set(alive)
        for incarnation, asked in self._asked.items():
            if incarnation not in living:
                self._spawn_to_ask(incarnation, asked.source)
        for plugin in tuple(self._registry.plugins.values()):
            if plugin.incarnation and plugin.incarnation not in living:
                if plugin.state is State.STARTING and not plugin.pid:
                    # Nobody was there to hear the order when it was given.
                    self._spawn(plugin.incarnation, plugin.id, plugin.manifest.source)
                else:
                    self._ended(plugin, "unknown cause")
            elif plugin.incarnation and plugin.state is State.STARTING and plugin.confined:
                self._tell_load(plugin)
            if plugin.leaving:
                self._handle(plugin, lifecycle.StopAsked())
            elif plugin.incarnation in self.restarting:
                self._handle(plugin, lifecycle.RestartAsked())
        self.advance()

    # --- carrying out -----------------------------------------------------------------------------

    def advance(self) -> None:
        """Start what can start, block what cannot, and arm the timer for the next deadline."""
        for plugin in tuple(self._registry.plugins.values()):
            if plugin.state in {State.DECLARED, State.BLOCKED} and not plugin.leaving:
                self._try_start(plugin)
        self._arm()
        self._outside.changed()

    def _try_start(self, plugin: Plugin) -> None:
        hindrance = self._registry.hindrance(plugin)
        if hindrance is None:
            self._handle(plugin, lifecycle.StartAsked())
        elif hindrance and (plugin.state, plugin.lifecycle.reason) != (State.BLOCKED, hindrance):
            self._handle(plugin, lifecycle.Block(hindrance))

    def _handle(self, plugin: Plugin, event: lifecycle.Event) -> None:
        before, now = plugin.state, time.monotonic()
        self._carry_out(plugin, plugin.lifecycle.handle(event, now))
        if plugin.state is State.READY is not before:
            plugin.ready_at = now
            self._announce(plugin)  # before anybody is told that it is
        if plugin.leaving and plugin.state is State.STOPPED:
            self._forget(plugin)
        else:
            self._keep_memory(plugin)
        self.advance()

    def _announce(self, plugin: Plugin) -> None:
        """Publish PluginLoaded, once for each life, whichever daemon sees it begin."""
        if plugin.announced != plugin.incarnation:
            plugin.announced = plugin.incarnation
            self._outside.write([store.announce(plugin.id, plugin.incarnation)])
            self._outside.publish(PluginLoaded(plugin.id))

    def _keep_memory(self, plugin: Plugin) -> None:
        """Have the next daemon know of crashes and quarantine, too."""
        memory = plugin.lifecycle.memory
        if memory != plugin.remembered:
            plugin.remembered = memory
            self._outside.write([store.keep_memory(plugin.id, memory)])

    def _carry_out(self, plugin: Plugin, actions: list[lifecycle.Action]) -> None:
        for action in actions:
            if isinstance(action, Spawn):
                plugin.incarnation = self._next_incarnation()
                plugin.pid, plugin.layers, plugin.figures = 0, (), None
                plugin.confined = False
                self._spawn(plugin.incarnation, plugin.id, plugin.manifest.source)
            elif isinstance(action, SendStop):
                # From now on nobody is sent there; those who are there are still served.
                self._registry.withdraw_all(plugin.incarnation)
                self._tell(plugin.incarnation, StopPlugin())
            elif isinstance(action, Terminate | Kill):
                force = isinstance(action, Kill)
                self._node.tell_node(EndWorker(plugin.incarnation, action.rule, force))

    def _ended(self, plugin: Plugin, cause: str) -> None:
        self._registry.withdraw_all(plugin.incarnation)
        plugin.incarnation = plugin.pid = 0
        plugin.figures, plugin.layers = None, ()
        if plugin.state in RUNNING:
            self._handle(plugin, lifecycle.Exited(cause))

    def _forget(self, plugin: Plugin) -> None:
        del self._registry.plugins[plugin.id]
        self._registry.forget_owner(plugin.id)
        self._outside.write([store.forget(plugin.id)])
        if plugin.ready_at:
            self._outside.publish(PluginUnloaded(plugin.id))

    def _spawn(self, incarnation: int, plugin_id: str, source: PluginSource) -> None:
        data_dir = str(self._data / plugin_id)
        self._node.tell_node(
            SpawnWorker(
                incarnation=incarnation, plugin_id=plugin_id, source=source, data_dir=data_dir
            )
        )

    def _spawn_to_ask(self, incarnation: int, source: PluginSource) -> None:
        self._spawn(incarnation, f"describe.{incarnation & 0xFFFF_FFFF}", source)

    def _tell_load(self, plugin: Plugin) -> None:
        manifest = plugin.manifest
        self._tell(
            plugin.incarnation,
            LoadPlugin(
                source=manifest.source,
                metadata=manifest.metadata.to_wire(),
                data_dir=str(self._data / plugin.id),
                events=manifest.events,
                concurrency=manifest.concurrency,
                reentrant=manifest.reentrant,
            ),
        )

    def _tell(self, incarnation: int, message: ToWorker) -> None:
        self._node.tell_node(Relay(incarnation, TO_WORKER.encode(message)))

    def _next_incarnation(self) -> int:
        self._spawns += 1
        return (self.epoch << 32) | self._spawns

    def _arm(self) -> None:
        deadlines = (plugin.lifecycle.deadline for plugin in self._registry.plugins.values())
        soonest = min((when for when in deadlines if when is not None), default=None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if soonest is None else self._reactor.call_at(soonest, self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        for plugin in tuple(self._registry.plugins.values()):
            self._carry_out(plugin, plugin.lifecycle.expire(now))
            self._keep_memory(plugin)
        self.advance()


def check_request(registry: Registry, plugin_id: str) -> Plugin:
    """Find the plugin that a person means.

    Raises:
        UsageError: There is none of this id.
    """
    plugin = registry.plugins.get(plugin_id)
    if plugin is None:
        known = ", ".join(registry.plugins) or "none"
        raise UsageError(f"no plugin {ascii(plugin_id)[:80]} is loaded; loaded: {known}")
    return plugin
