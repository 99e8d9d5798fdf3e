"""Carry lifecycles out through the node: start in order of dependency, watch, stop in reverse.

What to do is decided in lifecycle.py and registry.py; this file only gives the orders on, keeps the
store, and passes on what is reported. One timer serves every deadline.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final, Protocol, TypeVar

from protocol import failpoints
from protocol.errors import UsageError
from protocol.events import PluginEvent, PluginLoaded, PluginUnloaded
from protocol.messages import (
    Broken,
    Cause,
    Described,
    Exited,
    ExitSeen,
    Permitted,
    PluginSource,
    Remains,
    SpawnFailed,
    ToNode,
    WorkerReport,
)
from protocol.permissions import NOTHING, parse_permissions
from protocol.reactor import Reactor, Timer
from spiral_host import lifecycle, store
from spiral_host.announcer import Announcer
from spiral_host.code_watch import CodeWatch
from spiral_host.crashes import Death
from spiral_host.deaths import Deaths, Life
from spiral_host.describing import Describing
from spiral_host.lifecycle import Kill, Lifecycle, SendStop, Spawn, State, Terminate
from spiral_host.manifest import Manifest
from spiral_host.pace import Pace
from spiral_host.permits import Permits
from spiral_host.reconsidering import Reconsidering
from spiral_host.registry import NO_LIMITS, UP, Plugin, Registry
from spiral_host.store import Statement, Wanted
from spiral_host.takeover import Restarting, is_uncounted
from spiral_host.worker_orders import WorkerOrders

STOP_S: Final = 30.0
"""How long stopping everything may take, however deep the dependencies go, seconds."""

T = TypeVar("T")

_UNKNOWN: Final = Cause(kind="unknown")
_TO_BE_STARTED: Final = frozenset({State.DECLARED, State.BLOCKED})
_CAN_FOLLOW: Final = frozenset({*UP, State.BLOCKED, State.STARTING})
MAX_WORD: Final = 300
MAX_TRACEBACK: Final = 64 * 1024
"""Characters of what a worker says of its own failure: as much as an honest one does. It is shown
to everybody who asks how things are."""

_COMING_OR_GOING: Final = frozenset({State.STARTING, State.DRAINING, State.STOPPING})


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

    def in_background(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do this where it may wait for a disk, and have the loop called with what came of it."""

    def died(self, death: Death) -> None:
        """A worker has died that nobody had asked to leave."""

    def changed(self) -> None:
        """Something moved that people or parked questions may wait for."""


class Supervisor:
    """Every lifecycle of one daemon; lives as long as the daemon."""

    def __init__(
        self,
        registry: Registry,
        node: Node,
        outside: Outside,
        reactor: Reactor,
        workers: WorkerOrders,
        permits: Permits,
    ) -> None:
        self.epoch = 0
        self.restarting: Sequence[Restarting] = ()
        """What earlier daemons were told to restart; perhaps the same plugin more than once."""
        self._registry = registry
        self._node = node
        self._outside = outside
        self._reactor = reactor
        self._workers = workers
        self._permits = permits
        self._reconsidering = Reconsidering(registry, permits)
        self._describing = Describing(
            reactor, node.tell_node, self._workers.spawn_to_ask, self._workers.tell
        )
        self._announcer = Announcer()
        self._deaths = Deaths(outside.died)
        self._pace = Pace()
        self._chance = Random()  # noqa: S311 - jitter
        self._spawns = 0
        self._timer: Timer | None = None
        self._code_watch = CodeWatch(
            registry, reactor, outside.in_background, self._keep_memory, self._code_changed
        )
        self._is_advancing = self._has_moved = False
        self._is_held_up = False
        """Whether nothing but the pace of all restarts keeps some plugin from starting."""
        self._is_taking_over, self._is_new = False, True
        self._starts_nothing = False

    # --- what people want -------------------------------------------------------------------------

    def add(self, manifests: Iterable[Manifest]) -> None:
        """Want these plugins; they start as soon as what they depend on is ready."""
        for manifest in manifests:
            self._registry.take_in(Plugin(manifest, Lifecycle(manifest.supervision.policy)))
        self.advance()

    def remember(self, wanted: Wanted) -> None:
        """Want again what an earlier daemon was told to want."""
        plugin = Plugin(
            wanted.manifest,
            Lifecycle(wanted.manifest.supervision.policy, wanted.memory),
            announced=wanted.announced,
            remembered=wanted.memory,
            leaving=wanted.leaving,
        )
        self._registry.take_in(plugin)

    def let_go(self, plugin_id: str) -> None:
        """Start nobody who needs this plugin: it is to be stopped once that is written down."""
        self._registry.plugins[plugin_id].leaving = True

    def stop(self, plugin_id: str) -> None:
        """Stop a plugin and forget it once its worker is gone."""
        plugin = self._registry.plugins[plugin_id]
        plugin.leaving, plugin.waits_for = True, None
        self._handle(plugin, lifecycle.StopAsked())

    def restart(self, plugin_id: str, manifest: Manifest | None = None) -> None:
        """Stop a plugin and start it again; one that is to be forgotten goes all the same.

        Args:
            manifest: What it declares now, if that may have changed.
        """
        plugin = self._registry.plugins[plugin_id]
        if plugin.leaving:
            return
        if manifest is not None:
            self._registry.renew(plugin, manifest)
        self._permits.look_again(plugin_id)
        for follower in self._registry.followers(plugin_id):
            follower.waits_for = lifecycle.ProviderLeft()
        plugin.waits_for = lifecycle.RestartAsked()
        self.advance()

    def reconsider(self, plugin_id: str) -> None:
        """Another grant holds for a plugin: start it, or stop it in order, or let it go on."""
        if self._reconsidering.granted(plugin_id):
            self.restart(plugin_id)
        self.advance()

    def stop_unneeded(self) -> None:
        """Stop every plugin that no running plugin depends on: one step of an orderly shutdown.

        Where that is none, and none is leaving, they depend on each other: then all are stopped.
        """
        plugins = tuple(self._registry.plugins.values())
        unneeded = self._registry.unneeded()
        if not unneeded and not any(plugin.leaving for plugin in plugins):
            unneeded = list(plugins)
        with self._in_one_go():
            for plugin in unneeded:
                if not plugin.leaving:
                    self.stop(plugin.id)

    def stop_in_time(self) -> None:
        """Once `STOP_S` have passed, end whatever still runs."""
        self._reactor.call_later(STOP_S, self._end_the_rest)

    def _end_the_rest(self) -> None:
        self._starts_nothing = True
        for plugin in self._registry.plugins.values():
            if plugin.incarnation:
                self._workers.kill(plugin.incarnation, "the time for a stop is over", stacks=True)
        self._reactor.call_later(1.0, self._end_the_rest)  # the order may be lost

    def describe(self, source: PluginSource, then: Callable[[Described | Broken], None]) -> None:
        """Have a worker import a plugin only to say its metadata."""
        self._describing.ask(self._next_incarnation(), source, then)

    # --- what the node reports --------------------------------------------------------------------

    def spawned(self, incarnation: int, pid: int) -> None:
        """A worker process exists."""
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None:
            plugin.pid = pid

    def confined(
        self, incarnation: int, layers: tuple[str, ...], limits: Mapping[str, object] = NO_LIMITS
    ) -> None:
        """A worker is confined and listens: only now is it told what to import."""
        if self._describing.confined(incarnation):
            return
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None:
            plugin.layers, plugin.limits, plugin.confined = layers, limits, True
            self._workers.load(plugin.incarnation, plugin.manifest, plugin.permissions)

    def permitted(self, permitted: Permitted) -> None:
        """A living worker was started with these permissions, perhaps by an earlier daemon."""
        plugin = self._registry.by_incarnation(permitted.incarnation)
        if plugin is not None:
            plugin.permissions = parse_permissions(permitted.permissions)

    def exited(self, exit_: Exited) -> None:
        """A worker is gone. Said again and again until it is acknowledged, so done only once."""
        if failpoints.ARMED:
            failpoints.hit("exit.heard")
        lost = f"its process ended while it was asked for its metadata: {exit_.cause}"
        self._describing.answered(
            exit_.incarnation, Broken(stage="metadata", error=lost, traceback="")
        )
        plugin = self._registry.by_incarnation(exit_.incarnation) or self._missed(exit_)
        if plugin is not None:
            is_normal = exit_.cause.kind == "exit" and not exit_.cause.code
            event = lifecycle.Exited(str(exit_.cause), is_normal=is_normal)
            self._ended(plugin, event, exit_.cause)

        def acknowledge() -> None:
            if failpoints.ARMED:
                failpoints.hit("exit.written")
            self._node.tell_node(ExitSeen(exit_.incarnation))

        self._outside.write([], acknowledge)

    def _missed(self, exit_: Exited) -> Plugin | None:
        """Find the plugin whose worker ended, by itself, while no daemon was there."""
        plugin = self._registry.plugins.get(exit_.plugin_id)
        if plugin is None or not is_uncounted(
            plugin, exit_.incarnation, self.epoch, self.restarting
        ):
            return None
        if plugin.lifecycle.has_worker:  # it was started again, and that daemon could not say why
            plugin.lifecycle.counted = exit_.incarnation
            plugin.lifecycle.count_missed(time.monotonic())
            self._keep_memory(plugin)
            return None
        if plugin.state not in {State.DECLARED, State.BACKOFF}:  # of several ends each counts
            return None
        plugin.lifecycle.adopt(time.monotonic())
        if plugin.announced == exit_.incarnation:
            plugin.lifecycle.handle(lifecycle.Loaded(), time.monotonic())
        plugin.incarnation, plugin.began = exit_.incarnation, 0.0
        return plugin

    def spawn_failed(self, failed: SpawnFailed) -> None:
        """A worker process could not be made."""
        self._describing.lost(failed.incarnation, failed.reason)
        plugin = self._registry.by_incarnation(failed.incarnation)
        if plugin is not None:
            cause = f"could not be started: {failed.reason}"
            if failed.is_final:
                self._handle(plugin, lifecycle.Broke(cause, ""))
            self._ended(plugin, lifecycle.Exited(cause, is_excused=True))

    def node_lost(self) -> None:
        """The node is gone, and with it every worker."""
        self._describing.all_lost("the node was lost")
        with self._in_one_go():
            for plugin in tuple(self._registry.plugins.values()):
                if plugin.incarnation:
                    self._ended(plugin, lifecycle.Exited("the node was lost", is_excused=True))

    def left(self, remains: Remains) -> None:
        """A worker has left this behind; the news of its death follows."""
        self._deaths.left(remains)

    def silent(self, incarnation: int, why: str) -> None:
        """The loop that runs a worker's handlers does not answer."""
        self._tell_lifecycle(incarnation, lifecycle.Silent(why))

    def heard(self, incarnation: int) -> None:
        """It answers again."""
        self._tell_lifecycle(incarnation, lifecycle.Heard())

    def _tell_lifecycle(self, incarnation: int, event: lifecycle.Event) -> None:
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None:
            self._handle(plugin, event)

    def loaded(self, incarnation: int) -> None:
        """A plugin's `on_load` has returned."""
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None and plugin.state in _COMING_OR_GOING:
            if failpoints.ARMED:
                failpoints.hit("load.heard")
            self._handle(plugin, lifecycle.Loaded())

    def broken(self, incarnation: int, broken: Broken) -> None:
        """A plugin's own code raised while it was brought up or taken down."""
        self._describing.said(incarnation, broken)
        plugin = self._registry.by_incarnation(incarnation)
        if plugin is not None and plugin.state in _COMING_OR_GOING:
            reason = f"{broken.stage[:MAX_WORD]} raised {broken.error[:MAX_WORD]}"
            is_excused = self._registry.lacks_something(plugin)
            kept = broken.traceback[-MAX_TRACEBACK:]
            self._handle(plugin, lifecycle.Broke(reason, kept, is_excused))

    def described(self, incarnation: int, described: Described) -> None:
        """A plugin has said its metadata."""
        self._describing.said(incarnation, described)

    def violated(self, incarnation: int, reason: str) -> None:
        """A worker broke the protocol towards us: it ends, nobody else does."""
        self._workers.kill(incarnation, f"protocol violation: {reason}")

    def adopt(self, reports: Iterable[WorkerReport]) -> list[WorkerReport]:
        """Take over living workers; give those that are wanted, and end the others.

        Until `resume` nothing is started: what is wanted may run, or its death be told yet. What
        each was started with is told behind the greeting.
        """
        self._is_taking_over = True
        kept = []
        for report in reports:
            if report.incarnation in self._describing:
                kept.append(report)
                if report.confined:
                    self.confined(report.incarnation, report.layers)
                continue
            plugin = self._registry.plugins.get(report.plugin_id)
            if plugin is None or plugin.incarnation not in {0, report.incarnation}:
                self._workers.kill(report.incarnation, "nobody wants it")
                continue
            if not plugin.incarnation:
                plugin.lifecycle.adopt(time.monotonic())
                plugin.incarnation = report.incarnation
            plugin.pid, plugin.layers = report.pid, report.layers
            plugin.limits = report.limits
            plugin.confined = report.confined
            kept.append(report)
            if failpoints.ARMED:
                failpoints.hit("adopt.worker")
        return kept

    def resume(self, alive: Iterable[WorkerReport]) -> None:
        """After adoption: count who is missing as lost, go on with what was under way."""
        living = {report.incarnation: report for report in alive}
        if self._is_new:
            self._announcer.learn(self._registry.services())  # an earlier daemon has told of them
        self._is_new = False
        self._describing.resume(set(living))
        for plugin in tuple(self._registry.plugins.values()):
            report = living.get(plugin.incarnation)
            if plugin.incarnation and report is None:
                self._miss(plugin)
            elif report is not None and self._reconsidering.objects(plugin):
                self.restart(plugin.id)  # a grant was narrowed meanwhile: it leaves in order
            elif report is not None and plugin.state is State.STARTING and plugin.confined:
                self._workers.load(plugin.incarnation, plugin.manifest, plugin.permissions)
            if report is not None and report.silence:
                self._handle(plugin, lifecycle.Silent(report.silence))
            if plugin.id not in self._registry.plugins:
                continue  # it was leaving, and has left with its worker
            if plugin.leaving:
                self._handle(plugin, lifecycle.StopAsked())
            elif any(order.is_due(plugin) for order in self.restarting):
                self.restart(plugin.id)
        self._is_taking_over = False
        self._code_watch.look()
        self.advance()

    def _miss(self, plugin: Plugin) -> None:
        if plugin.state is State.STARTING and not plugin.pid:
            # Nobody was there to hear the order when it was given.
            now = time.monotonic()
            plugin.lifecycle.adopt(now)
            plugin.began = now
            self._workers.spawn(plugin.incarnation, plugin.manifest, plugin.permissions)
        else:
            self._ended(plugin, lifecycle.Exited("unknown cause"))

    # --- carrying out -----------------------------------------------------------------------------

    def advance(self) -> None:
        """Start what can start, block what cannot, and arm the timer for the next deadline."""
        self._has_moved = True
        if self._is_advancing:
            return  # whoever is at it looks again
        self._is_advancing = True
        try:
            while self._has_moved and not (self._is_taking_over or self._starts_nothing):
                self._has_moved = self._is_held_up = False
                for plugin in tuple(self._registry.plugins.values()):
                    self._look_at(plugin)
        finally:
            self._is_advancing = False
        self._arm()
        self.announce()
        self._outside.changed()

    @contextmanager
    def _in_one_go(self) -> Iterator[None]:
        """Look at everybody once, behind what is done here to many of them."""
        is_outermost, self._is_advancing = not self._is_advancing, True
        try:
            yield
        finally:
            self._is_advancing = not is_outermost
        self.advance()

    def announce(self, service: str | None = None) -> None:
        """Publish which services can be called now, and which no longer.

        Args:
            service: Which, where nothing else has changed: a plugin may say so all the time.
        """
        if self._is_taking_over:
            return
        if service is None:
            news = self._announcer.news(self._registry.services())
        else:
            news = self._announcer.news_of(service, self._registry.provider(service))
        for event in news:
            self._outside.publish(event)

    def _look_at(self, plugin: Plugin) -> None:
        if plugin.leaving:
            return
        if plugin.waits_for is not None:
            self._try_restart(plugin, plugin.waits_for)
        elif plugin.lifecycle.has_worker and plugin.state in {*UP, State.BLOCKED}:
            self._look_at_providers(plugin)
        elif plugin.state in _TO_BE_STARTED:
            self._try_start(plugin)

    def _try_restart(
        self, plugin: Plugin, why: lifecycle.RestartAsked | lifecycle.ProviderLeft
    ) -> None:
        """Have it leave once its own followers have."""
        if self._registry.followers(plugin.id):
            return
        plugin.waits_for = None
        if isinstance(why, lifecycle.RestartAsked) or plugin.state in _CAN_FOLLOW:
            self._handle(plugin, why)

    def _look_at_providers(self, plugin: Plugin) -> None:
        withheld = self._registry.withheld(plugin)
        if withheld:
            self._block(plugin, withheld)
        elif plugin.state is State.BLOCKED:
            self._handle(plugin, lifecycle.StartAsked())

    def _try_start(self, plugin: Plugin) -> None:
        hindrance = self._permits.objection(plugin.manifest) or self._registry.hindrance(plugin)
        if hindrance is None and self._may_start(plugin):
            # Anew: what it asks for may lead elsewhere by now, or be granted no more.
            hindrance = self._permits.decide(plugin.manifest) or None
            if hindrance is None:
                self._handle(plugin, lifecycle.StartAsked())
        if hindrance:
            self._block(plugin, hindrance)

    def _may_start(self, plugin: Plugin) -> bool:
        if not plugin.lifecycle.is_restart or self._pace.take(time.monotonic()):
            return True
        self._is_held_up = True
        return False

    def _block(self, plugin: Plugin, why: str) -> None:
        if (plugin.state, plugin.lifecycle.reason) != (State.BLOCKED, why):
            self._handle(plugin, lifecycle.Block(why))

    def _handle(self, plugin: Plugin, event: lifecycle.Event) -> None:
        before, now = plugin.state, time.monotonic()
        self._carry_out(plugin, plugin.lifecycle.handle(event, now, self._chance.random()))
        self._moved(plugin, before, now)
        self.advance()

    def _moved(self, plugin: Plugin, before: State, now: float) -> None:
        """See to what a plugin's new state means for others."""
        if plugin.state is State.READY and before is State.STARTING:
            plugin.ready_at = now
            self._announce(plugin)  # before anybody is told that it is
        if plugin.state is State.QUARANTINED is not before:
            self._code_watch.look()
        if plugin.leaving and plugin.state is State.STOPPED:
            self._forget(plugin)
        else:
            self._keep_memory(plugin)

    def _code_changed(self, plugin: Plugin, manifest: Manifest) -> None:
        """Release what was quarantined for code that is there no more."""
        self._registry.renew(plugin, manifest)
        self._permits.look_again(plugin.id)
        self._outside.write([store.want(manifest)])
        self._handle(plugin, lifecycle.CodeChanged())

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
                plugin.limits = NO_LIMITS
                plugin.confined, plugin.began = False, time.monotonic()
                plugin.permissions = self._permits.in_force(plugin.id)
                self._workers.spawn(plugin.incarnation, plugin.manifest, plugin.permissions)
                self._code_watch.look()
            elif isinstance(action, SendStop):
                # From now on nobody is sent there; those who are there are still served.
                self._registry.withdraw_all(plugin.incarnation)
                plugin.lifecycle.asked = plugin.incarnation
                self._workers.stop(plugin.incarnation)
            elif isinstance(action, Terminate):
                self._workers.terminate(plugin.incarnation, action.rule)
            elif isinstance(action, Kill):
                self._workers.kill(plugin.incarnation, action.rule, stacks=True)

    def _ended(self, plugin: Plugin, event: lifecycle.Exited, cause: Cause = _UNKNOWN) -> None:
        life = Life.of(plugin)
        self._registry.withdraw_all(plugin.incarnation)
        plugin.incarnation = plugin.pid = 0
        plugin.figures, plugin.layers, plugin.permissions = None, (), NOTHING
        plugin.limits = NO_LIMITS
        if not plugin.lifecycle.has_worker:
            return
        followers = self._registry.followers(plugin.id)
        plugin.lifecycle.counted = life.incarnation
        self._handle(plugin, event)
        self._deaths.died(plugin, life, cause, event.cause, time.monotonic())
        for follower in followers:
            if follower.state in _CAN_FOLLOW:
                self._handle(follower, lifecycle.ProviderLeft())

    def _forget(self, plugin: Plugin) -> None:
        self._registry.drop(plugin)
        self._permits.forget(plugin.id)
        self._deaths.forget(plugin.id)
        self._outside.write([store.forget(plugin.id)])
        if plugin.ready_at:
            self._outside.publish(PluginUnloaded(plugin.id))

    def _next_incarnation(self) -> int:
        self._spawns += 1
        return (self.epoch << 32) | self._spawns

    def _arm(self) -> None:
        deadlines = [plugin.lifecycle.deadline for plugin in self._registry.plugins.values()]
        if self._is_held_up:
            deadlines.append(self._pace.next_at(time.monotonic()))
        deadlines.append(self._reconsidering.deadline(time.monotonic()))
        soonest = min((when for when in deadlines if when is not None), default=None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if soonest is None else self._reactor.call_at(soonest, self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        for plugin in tuple(self._registry.plugins.values()):
            before = plugin.state
            self._carry_out(plugin, plugin.lifecycle.expire(now))
            self._moved(plugin, before, now)
        for plugin_id in self._reconsidering.expire(now):
            self.restart(plugin_id)
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
