"""The worker's loop: hooks, handlers and event callbacks, one at a time, in one thread.

    say hello -> wait to be told -> import, on_load -> serve calls and events -> stop: drain,
    on_unload, leave

The loop polls umbilical and lanes and runs what comes itself; nothing is handed to another thread,
unless the manifest says `concurrency = n`: then n - 1 threads more serve lanes of their own.
"""

import collections
import contextlib
import gc
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from plugin_worker import loader
from plugin_worker.context import EventCallback, PluginContext, Subscription
from plugin_worker.denials import Denials
from plugin_worker.desk import Desk
from plugin_worker.gate import gated
from plugin_worker.plugin import Plugin
from plugin_worker.presence import Presence, write_stacks_to
from plugin_worker.publisher import Publisher
from plugin_worker.refusals import REFUSALS
from protocol import failpoints, remote
from protocol.admission import CallRate
from protocol.arena import Arena
from protocol.caller import LATE_S, Caller
from protocol.crew import ServingThread
from protocol.errors import (
    PermissionDenied,
    ServiceUnavailable,
    from_wire,
    in_a_line,
    travelling,
)
from protocol.flight import FlightWriter
from protocol.follower import Delivery
from protocol.interest import InterestReader
from protocol.limits import parse_limits
from protocol.line import Line, line_of
from protocol.messages import (
    FROM_ENDPOINT,
    Broken,
    CallbacksRan,
    Deadlock,
    Described,
    DescribePlugin,
    FromEndpoint,
    LaneClosed,
    LaneOpened,
    Loaded,
    LoadPlugin,
    Ping,
    PluginSource,
    Published,
    Question,
    Refusal,
    Resolve,
    StopPlugin,
    Subscribe,
    ToEndpoint,
    ToWorker,
    Unsubscribe,
    Withdraw,
    WorkerDetails,
)
from protocol.names import Topic
from protocol.packets import Kind
from protocol.permissions import parse_permissions
from protocol.plugin import PluginMetadata
from protocol.reached import limits_reached, set_limits
from protocol.reactor import Reactor, hear
from protocol.runs import Run, unpack_delivery
from protocol.servant import Servant
from protocol.serving import LaneServer
from protocol.session import greeting
from protocol.stub import Options
from protocol.subscriptions import CONFIRM_S, Past, Subscriptions
from protocol.turn import TURN
from protocol.umbilical import Umbilical
from protocol.waits import DOOMED

if TYPE_CHECKING:
    from protocol.eventbus import Publishing

MAX_TRACEBACK: Final = 64 * 1024
"""Characters of a traceback that are reported; the end is kept, it says most."""

GRACE_S: Final = 5.0
"""How long a daemon may be away before what was asked of it fails, seconds."""

_LAST_CALLS: Final = 1000
"""Turns that a leaving worker gives to calls that had reached it before."""


def run(spec: dict[str, object], umbilical: socket.socket, flight_fd: int, interest_fd: int) -> int:
    """Be a worker, from its confinement to its end; give the process's exit status.

    Args:
        spec: `incarnation`, `plugin_id`, `layers`, `site` (folders of installed packages),
            `permissions` (those about names) and `limits` in force.
        umbilical: This end of the pair that ties the worker to its node.
        flight_fd: The flight page.
        interest_fd: The node's interest page.
    """
    gc.enable()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    write_stacks_to(flight_fd)
    set_limits(parse_limits(spec.get("limits", {})))
    runtime = Runtime(spec, umbilical, flight_fd, interest_fd)
    try:
        return runtime.run()
    except (EOFError, BrokenPipeError):
        return 1  # the node is gone, and with it whoever this was for


class Runtime:
    """One worker; lives as long as its process."""

    def __init__(
        self, spec: dict[str, Any], umbilical: socket.socket, flight_fd: int, interest_fd: int
    ) -> None:
        self._spec = spec
        self._reactor = Reactor()
        ours = Umbilical(umbilical, takes_descriptors=True)
        self._desk = Desk(ours, self._arrived, self._meanwhile)
        self._flight = FlightWriter(flight_fd)
        self._servant = Servant(self._flight)
        self._lanes = LaneServer(self._reactor, self._servant, self, self._lane_closed)
        self._crew: list[ServingThread] = []
        self.permissions = parse_permissions(spec["permissions"])
        """Those in force; daemon and node hold them against it, whatever stands here."""
        limits = parse_limits(spec["limits"])
        self._denials = Denials(self._desk)
        self._caller = Caller(self)
        if limits.call_rate != inf:
            self._caller.rate = CallRate(limits.call_rate)
        self._publisher = Publisher(self._desk, InterestReader(interest_fd))
        self._way_up = gated(
            self._publisher, spec["plugin_id"], self.permissions, limits, self.deny
        )
        self._subscriptions = Subscriptions()
        self._subscribing = threading.Lock()
        self._failed = 0
        """Callbacks that have raised and been counted."""
        self._orders: collections.deque[ToWorker] = collections.deque()
        self._deliveries: collections.deque[Delivery | Callable[[], None]] = collections.deque()
        self._awaited: collections.deque[None] = collections.deque()
        """One for each delivery among them whose publisher waits until the callbacks have run. Any
        thread may add one while the loop's takes one away, so it is no number."""
        self._new_lanes: collections.deque[tuple[LaneOpened, int]] = collections.deque()
        self._main = threading.get_ident()
        self._presence = Presence(self._desk.tell_node_soon)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._desk.alarm = (self._wake, self._woken)
        self._plugin: Plugin | None = None
        self._context: PluginContext | None = None
        self._is_leaving = False

    def run(self) -> int:
        """Serve until told to stop, or until there is nothing to serve."""
        TURN.reactor = self._reactor
        self._reactor.meanwhile, self._reactor.urgent = self._meanwhile, self._awaited
        self._reactor.watch(self._desk.fd, self._desk.read)
        self._reactor.watch(self._wake, self._woken)
        self.greet()
        REFUSALS.on_refusal = self._denials.note  # not before: the greeting comes first
        if failpoints.ARMED:
            failpoints.hit("hello.after")
        self._reactor.run(self._step)
        self._publisher.flush()
        return 0

    def greet(self) -> None:
        """Say hello to the node."""
        details = WorkerDetails(tuple(self._spec["layers"]))
        self._desk.send(Kind.NODE, greeting("worker", FROM_ENDPOINT, details))

    def close(self) -> None:
        """Let go of every descriptor."""
        self._reactor.close()
        self._desk.close()
        os.close(self._wake)

    def _woken(self) -> None:
        hear(self._wake)
        self._presence.answer()
        self._open_lanes()
        self._reactor.nudge()

    def _step(self) -> bool | None:
        """Do one thing of what has come, perhaps while the plugin's own code waited."""
        self._open_lanes()
        self._lanes.go_on()
        if self._orders:
            self._obey(self._orders.popleft())
        elif self._deliveries:
            self._deliver(self._deliveries.popleft())
        self._publisher.flush()
        if self._is_leaving:
            return None
        return bool(self._new_lanes or self._deliveries or self._orders or self._lanes.has_more)

    def _open_lanes(self) -> None:
        while self._new_lanes:
            self._lanes.open(*self._new_lanes.popleft())

    def _arrived(self, message: ToEndpoint | ToWorker | bytes, descriptors: list[int]) -> None:
        """Keep what came for the loop. Called in whichever thread reads the umbilical."""
        if isinstance(message, Published):
            self._publisher.taken(message.events, message.size)
            return
        if isinstance(message, Ping):
            self._presence.asked(message)
            self._presence.answer()
        if isinstance(message, Deadlock):
            DOOMED[message.number] = message.circle
            for thread in self._crew:
                thread.wake()
        if isinstance(message, LaneOpened):
            self._serve_lane(message, descriptors[0])
        elif isinstance(message, bytes):
            self._take_delivery(unpack_delivery(message))
        elif isinstance(message, DescribePlugin | LoadPlugin | StopPlugin):
            self._orders.append(message)
        elif isinstance(message, Refusal):
            sys.stderr.write(f"{from_wire(message.kind, message.fields)}\n")  # of what was stated
        if threading.get_ident() == self._main:
            self._open_lanes()  # at once: this thread may be waiting for what comes on them
        self._go_on()

    def _go_on(self) -> None:
        """Have the loop look at what is there; from any thread."""
        if threading.get_ident() == self._main:
            self._reactor.nudge()
        else:
            os.eventfd_write(self._wake, 1)

    def _take_delivery(self, delivery: Delivery) -> None:
        if isinstance(delivery, Run) and delivery.head.report:
            self._awaited.append(None)
        self._deliveries.append(delivery)

    def _meanwhile(self) -> bool:
        """Run what other publishers wait for: they may be what this thread is waiting for."""
        has_run = False
        while self._awaited and self._deliveries and threading.get_ident() == self._main:
            self._deliver(self._deliveries.popleft())
            has_run = True
        return has_run

    # --- what the daemon orders -------------------------------------------------------------------

    def _obey(self, order: ToWorker) -> None:
        if isinstance(order, StopPlugin):
            self._stop()
        elif self._plugin is not None:
            return  # said again by a daemon that took over
        elif isinstance(order, DescribePlugin):
            self._describe(order.source)
        elif isinstance(order, LoadPlugin):
            self.load(order)

    def _describe(self, source: PluginSource) -> None:
        with self._reported("import") as stage:
            self._open_environment(source)
            plugin = loader.load(source)
            stage.name = "metadata"
            metadata = loader.check_metadata(plugin, None)
            self._desk.tell_daemon(Described(metadata.to_wire()))
        self._is_leaving = True

    def load(self, order: LoadPlugin) -> None:
        """Import the plugin and have it begin; what it raises is told to the daemon."""
        with self._reported("import") as stage:
            if failpoints.ARMED:
                failpoints.hit("load.before")
            self._open_environment(order.source)
            remote.set_root(order.source.root)
            plugin = loader.load(order.source)
            stage.name = "metadata"
            declared = PluginMetadata.from_wire(order.metadata)
            loader.check_metadata(plugin, declared)
            stage.name = "on_load"
            if failpoints.ARMED:
                failpoints.hit("load.imported")
            self._context = PluginContext(self, declared.id, Path(order.data_dir))
            self._lanes.is_reentrant = order.reentrant
            self._crew = [self._hire(number, order) for number in range(1, order.concurrency)]
            plugin.on_load(self._context)
            if failpoints.ARMED:
                failpoints.hit("load.done")
            self._subscribe_plugin(plugin, self._context, order.events)
            self._plugin = plugin
            self._desk.state("state", Loaded())
            if failpoints.ARMED:
                failpoints.hit("load.told")
            return
        self._is_leaving = True

    def _open_environment(self, source: PluginSource) -> None:
        loader.open_environment(source.root, self._spec["site"])

    def _subscribe_plugin(
        self, plugin: Plugin, context: PluginContext, events: tuple[str, ...]
    ) -> None:
        if type(plugin).on_event is Plugin.on_event:
            return
        for topic in events:
            self.subscribe(Topic(topic), lambda event: plugin.on_event(event, context), Past())

    def _reported(self, stage: str) -> "_Stage":
        return _Stage(self, stage)

    def report(self, stage: str, error: BaseException) -> None:
        """Tell the daemon what the plugin's own code raised; the log has it too."""
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, frames))
        sys.stderr.write(text)
        kept = travelling(text[-MAX_TRACEBACK:])
        reached = limits_reached(error)
        line = in_a_line(error) + (f"; {reached}" if reached else "")
        broken = Broken(stage=stage, error=line, traceback=kept)
        self._desk.state("state", broken)

    def _stop(self) -> None:
        """Finish what has reached us, accept nothing new, run `on_unload`, leave."""
        if failpoints.ARMED:
            failpoints.hit("drain.before")
        for _ in range(_LAST_CALLS):
            if not self._serve_waiting():
                break
        if failpoints.ARMED:
            failpoints.hit("drain.after")
        if self._plugin is not None and self._context is not None:
            with self._reported("on_unload"):
                self._plugin.on_unload(self._context)
                if failpoints.ARMED:
                    failpoints.hit("unload.after")
        self._is_leaving = True

    def _serve_waiting(self) -> bool:
        before = self._lanes.served
        self._open_lanes()
        self._reactor.turn(0)
        self._lanes.go_on()
        while self._deliveries:
            self._deliver(self._deliveries.popleft())
        return self._lanes.served != before

    # --- calls ------------------------------------------------------------------------------------

    @property
    def arena(self) -> Arena:
        """The worker's shared memory."""
        return self._desk.arena

    def own(self) -> int:
        """Give this worker's incarnation."""
        incarnation: int = self._spec["incarnation"]
        return incarnation

    def tell_node(self, message: FromEndpoint) -> None:
        """Tell the node."""
        self._desk.tell_node(message)

    def _serve_lane(self, opened: LaneOpened, fd: int) -> None:
        """Give a lane to whoever of the plugin's threads serves fewest; in any of them."""
        idlest = min(self._crew, key=lambda thread: thread.lanes, default=None)
        if idlest is not None and idlest.lanes < len(self._lanes) + len(self._new_lanes):
            idlest.serve(opened, fd)
        else:
            self._new_lanes.append((opened, fd))

    def _hire(self, number: int, order: LoadPlugin) -> ServingThread:
        thread = ServingThread(f"crew {number}", self._servant, self, self._lane_closed)
        if not order.reentrant:
            thread.refuse_reentry()
        # While the others are busy, it is the one that hears of new lanes.
        thread.watch(self._desk.fd, self._desk.read)
        return thread

    def _lane_closed(self, number: int) -> None:
        self._desk.tell_node(LaneClosed(number))

    def open_line(self, service: str, deadline: float, *, wait: bool) -> Line:
        """Open a line for the calling thread; what `Caller` needs of a process."""
        left = max(0.0, deadline - time.monotonic())
        wait_s = left if wait else 0.0
        opened = self._resolve(service, wait_s, min(wait_s + GRACE_S, left + LATE_S))
        if opened is None:
            raise ServiceUnavailable(service, "nobody offers it; see: spiral-host services")
        return opened

    def _resolve(self, service: str, wait_s: float, timeout: float) -> Line | None:
        answer = self._desk.ask(
            lambda name: Resolve(request=name, service=service, wait_s=wait_s),
            timeout=timeout,
        )
        if answer is None:
            return None
        opened, fd = answer
        return line_of(opened, fd, self._desk.waiter(fd), self)

    def cause_of_death(self, incarnation: int, deadline: float) -> str:
        """Say how a peer ended."""
        return self._desk.cause_of_death(incarnation, deadline)

    # --- what the context needs -------------------------------------------------------------------

    def ask(self, build: Callable[[str], Question]) -> Any:  # noqa: ANN401 - as the daemon answers
        """Ask the daemon and wait for its answer."""
        return self._desk.ask(build)

    def offer(self, name: str, service: object, kind: Callable[..., Any] | None) -> None:
        """Offer a service."""
        self._desk.state(f"service:{name}", self._servant.offer(name, service, kind))

    def withdraw(self, name: str) -> bool:
        """Offer it no more."""
        if not self._servant.withdraw(name):
            return False
        self._desk.retract(f"service:{name}", Withdraw(name))
        return True

    def find_service(self, name: str, wait_s: float, options: Options) -> Any:  # noqa: ANN401
        """Give a stub, the object itself if it is the plugin's own, or None."""
        own = self._servant.object_of(name)
        if own is not None:
            return own
        longest_s = wait_s + GRACE_S
        return self._caller.find(name, options, lambda: self._resolve(name, wait_s, longest_s))

    @property
    def publisher(self) -> "Publishing":
        """The way onto the bus."""
        return self._way_up

    def deny(self, permission: str, what: str) -> NoReturn:
        """Refuse the plugin something, and have the operator told.

        Raises:
            PermissionDenied: Always.
        """
        self._denials.note(permission, what)
        raise PermissionDenied(permission, what, self._spec["plugin_id"])

    def subscribe(self, pattern: Topic, callback: EventCallback, past: Past) -> Subscription:
        """Have a callback called for past events and those to come; holds when this returns."""
        if not self.permissions.may_subscribe(pattern):
            self.deny("subscribe", pattern)
        added: list[Subscription] = []
        name = self._desk.new_name()

        def say() -> None:
            with self._subscribing:  # or the node might hear of this before another's last word
                added.append(self._subscriptions.add(pattern, callback)[0])
                self._desk.tell_node(Subscribe(name, pattern, *past))

        try:
            frames = self._desk.expect(name, say, CONFIRM_S)
        except BaseException:
            for subscription in added:
                self.unsubscribe(subscription)
            raise
        subscription = added[0]
        self._deliveries.append(lambda: self._subscriptions.begin(subscription, past, frames))
        self._go_on()
        return subscription

    def busy(self, until: float) -> None:
        """Say in the flight page until when the plugin may not answer."""
        self._flight.busy(until)

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription."""
        with self._subscribing:
            found, was_last = self._subscriptions.remove(subscription)
            if was_last:
                self._desk.tell_node(Unsubscribe(subscription.topic))
        return found

    def _deliver(self, delivery: "Delivery | Callable[[], None]") -> None:
        if not isinstance(delivery, tuple):
            delivery()
            self._count(0)
            return
        if isinstance(delivery, Run) and delivery.head.report:
            self._awaited.pop()
        if failpoints.ARMED:
            failpoints.hit("callback.before")
        ran = self._subscriptions.deliver(delivery)
        if failpoints.ARMED:
            failpoints.hit("callback.after")
        if isinstance(delivery, Run):
            head = delivery.head
            self._count(head.events)
            if ran is not None:
                figures = (ran.matched, ran.failed, tuple(ran.failures))
                self._desk.tell_node(CallbacksRan(head.incarnation, head.report, *figures))

    def _count(self, events: int) -> None:
        # Against what was counted last: a callback that waits has others run, which are counted.
        failed = self._subscriptions.failed
        self._flight.ran_events(events, failed - self._failed)
        self._failed = failed


class _Stage(contextlib.AbstractContextManager["_Stage"]):
    """A piece of the plugin's own code; what it raises is reported and goes no further."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.name = name
        self._runtime = runtime

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is not None and not isinstance(error, EOFError | BrokenPipeError):
            self._runtime.report(self.name, error)
            return True
        return False
