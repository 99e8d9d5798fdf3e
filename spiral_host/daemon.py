"""Start up, main loop, shutdown: the one process that decides, as a list of named steps.

    run -> take the run directory -> read the store -> bind the sockets -> find or start the node
        -> adopt what lives -> let clients in -> turn until told to stop
        -> stop plugins in reverse order -> end the node -> remove the run's files

It imports nothing that a plugin wrote. Killed at any moment, it can be started again on the same
run directory: node, workers and lanes live on, and the node tells the new one what runs.
"""

import collections
import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Final, TypeVar

from protocol import failpoints
from protocol.errors import SpiralHostError, UsageError
from protocol.events import PluginEvent
from protocol.messages import (
    Answer,
    Denied,
    GetStatus,
    ListPlugins,
    NodeDetails,
    Ping,
    Place,
    Samples,
    StopNode,
    TakeSample,
    ToNode,
    WorkerReport,
)
from protocol.process import descriptors, raise_descriptor_limit
from protocol.reactor import Reactor
from protocol.tally import Counted
from spiral_host import nodes, store
from spiral_host.audit import Audit
from spiral_host.background import Background
from spiral_host.bus import Bus
from spiral_host.config import DaemonConfig
from spiral_host.crash_writer import CrashWriter
from spiral_host.crashes import Death
from spiral_host.denials import Denials
from spiral_host.endpoint import Endpoint, Sent, is_crowded
from spiral_host.granting import Granting
from spiral_host.grants import Grants
from spiral_host.harmless import harmless_line, harmless_text
from spiral_host.hub import Hub
from spiral_host.manifest import Manifest
from spiral_host.node_watch import NodeWatch
from spiral_host.nodes import ADOPTING_S, NodeKeeper
from spiral_host.operator import Operator, read_operator
from spiral_host.orders import Orders
from spiral_host.permits import Permits
from spiral_host.questions import Asker, Questions
from spiral_host.real_paths import Grounds
from spiral_host.refusals import Refusals
from spiral_host.registry import Registry
from spiral_host.relayed import WorkerFrames
from spiral_host.rundir import NODE, STORE, RunDir, RunDirTaken, remove_unserved
from spiral_host.sessions import Sessions
from spiral_host.store import Statement, Store
from spiral_host.supervisor import STOP_S, Supervisor
from spiral_host.takeover import Restarting
from spiral_host.views import (
    plugin_row,
    sandbox_hindrance,
    sandbox_words,
    shortened,
    status_row,
)
from spiral_host.worker_orders import WorkerOrders

LOOK_AROUND_S: Final = 1.0
"""How often the daemon looks whether its run directory is still there, seconds: two calls to the
kernel, and as long as an operator may wonder what has become of it."""

DOOR_S: Final = 0.01
"""How often, at most, it is looked how many have come in while messages arrive, seconds."""

LEAVING_S: Final = 5.0
"""How long the node may take to leave once every plugin has stopped, seconds."""

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that mean an orderly stop; a terminal that is closed must leave nothing behind."""

SAMPLE_S: Final = 1.0
"""How long a view waits for fresh figures before it shows the last ones, seconds."""

T = TypeVar("T")


class Daemon:
    """One daemon; lives as long as its run."""

    def __init__(self, config: DaemonConfig, operator: Operator) -> None:
        Grounds.of(config).check()
        self._config = config
        self._operator = operator
        self._started = time.monotonic()
        self._background = Background(self.call_soon)
        self._status = 0
        self._over = False
        self._leaves_all_behind = self._is_homeless = False
        self._serves = False
        self._soon: collections.deque[Callable[[], None]] = collections.deque()
        self._signals = 0
        self._door_seen = 0.0
        self._node_watch = NodeWatch(LOOK_AROUND_S)
        self._node_silent_s = 0.0
        self._leaving_since = self._started
        self._node_details: NodeDetails | None = None
        self._alive: list[WorkerReport] = []
        self._audit = Audit(config.run_dir)
        self._refusals = Refusals()
        self._samples: dict[str, Callable[[], None]] = {}
        self._take_over()
        self._build()

    def _take_over(self) -> None:
        self._reactor = Reactor()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._reactor.watch(self._wake_in.fileno(), self._woken)
        self._listen_to_signals()
        self._run_dir = RunDir(self._config.run_dir)
        self._run_dir.clear_sockets()
        self._forget_last_run()
        self._store = Store(self._run_dir.path / STORE, self.call_soon)
        if self._store.loss:
            _say(self._store.loss)
        self.epoch = self._store.epoch
        self._crashes = CrashWriter(self._run_dir.path, self.epoch)
        self._endpoint = Endpoint(self._run_dir)

    def _forget_last_run(self) -> None:
        """An application that embeds us begins afresh, whatever an earlier one left behind."""
        if self._config.owner_fd is not None:
            for name in (STORE, f"{STORE}-wal", f"{STORE}-shm"):
                (self._run_dir.path / name).unlink(missing_ok=True)

    def _build(self) -> None:
        expected = [self._store.node[0]] if self._store.node else []
        self._bus = Bus(Hub(self.epoch, expected=expected), self._endpoint, self._reactor)
        self._registry = Registry()
        registry, reactor = self._registry, self._reactor
        told = self._config
        worker_orders = WorkerOrders(self.tell_node, told.data, self._operator, told.sandbox)
        self._permits = Permits(
            Grants(told.operator_dir), self._operator.everyone, Grounds.of(told), self._consented
        )
        self._supervisor = Supervisor(registry, self, self, reactor, worker_orders, self._permits)
        self._supervisor.epoch = self.epoch
        self._supervisor.restarting = [
            Restarting(order["id"], order["restarted"], order["counted"])
            for order in self._store.requests.values()
            if "restarted" in order
        ]
        config = self._store.config
        self._denials = Denials(registry, reactor, self)
        self._questions = Questions(
            registry, reactor, config, self.write, self.tell_node, self._denials.note
        )
        self._questions.epoch = self.epoch
        self._orders = Orders(
            registry, self._supervisor, self._store.requests, self.write, self.publish, self._leave
        )
        granting = Granting(
            registry,
            self._supervisor,
            self._permits,
            self._refusals,
            self._orders,
            self._store.requests,
            self,
        )
        workers = WorkerFrames(registry, self._supervisor, self._questions, self.tell_node)
        self._sessions = Sessions(
            self,
            registry,
            self._supervisor,
            self._questions,
            self._orders,
            granting,
            workers,
            self._run_dir.path / NODE,
        )
        self._workers = workers
        self._bus.knows = self._sessions.knows
        self._node = NodeKeeper(
            self._config,
            reactor,
            self._remember_node,
            self._node_gone,
            self._node_hopeless,
        )
        for wanted in self._store.plugins:
            self._supervisor.remember(wanted)

    # --- the main loop ----------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; give the process's exit status."""
        self._watch()
        self._node.find_or_start(self._store.node, is_lost=bool(self._store.loss))
        try:
            while not self._over:
                self._reactor.turn()
        except BaseException:  # noqa: BLE001 - a bug of ours: what runs goes on, for the next daemon
            traceback.print_exc()
            self._status, self._leaves_all_behind = 1, True
        self._close()
        return self._status

    def _watch(self) -> None:
        self._endpoint.watch(
            self._reactor,
            self._control_said,
            self._bus.received,
            self._bus.subscribed,
        )
        if self._config.owner_fd is not None:
            self._reactor.watch(self._config.owner_fd, self._owner_gone)
        self._reactor.call_later(LOOK_AROUND_S, self._look_around)

    def _look_around(self) -> None:
        """Notice what nothing announces."""
        if not self._run_dir.is_ours and not self._is_homeless:
            self._is_homeless = True
            _say(f"{self._run_dir.path} has been removed or replaced: plugins stop, and I leave")
            self._status = 1
            self._orders.shut_down()
        self._watch_door()
        self._look_at_node()
        self._look_at_stop()
        self._reactor.call_later(LOOK_AROUND_S, self._look_around)

    def _look_at_stop(self) -> None:
        """End a node that cannot end its workers: a stop has its time, whatever stands still."""
        now = time.monotonic()
        if not self._orders.is_leaving:
            self._leaving_since = now
        elif self._node_silent_s or now > self._leaving_since + STOP_S + LEAVING_S:
            self._node.kill()

    def _control_said(self, peer: bytes, frames: list[bytes]) -> None:
        if time.monotonic() > self._door_seen + DOOR_S:  # newcomers can be faster than the timer
            self._watch_door()
        self._sessions.received(peer, frames)

    def _watch_door(self) -> None:
        """Let nobody in while descriptors are short. Without a node there is a way in for one."""
        self._door_seen = time.monotonic()
        too_many = is_crowded(*descriptors(), is_open=self._endpoint.is_open)
        self._endpoint.let_in(anybody=not too_many or self._node_details is None)

    def _listen_to_signals(self) -> None:
        # Before there is anything to clean up: from here on a signal is only read by the loop.
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        for number in STOPPING:
            ignored = signal.getsignal(number) is signal.SIG_IGN
            if number != signal.SIGHUP or not ignored:  # nohup means what it says
                signal.signal(number, lambda *_: None)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have the loop call back; safe from any thread."""
        self._soon.append(callback)
        with contextlib.suppress(BlockingIOError):
            self._wake_out.send(b"\0")

    def _woken(self) -> None:
        # A signal arrives here as its number, a call from another thread as 0.
        numbers = self._wake_in.recv(4096)
        while self._soon:
            self._soon.popleft()()
        for number in numbers:
            if number in STOPPING:
                self._asked_to_stop()

    def _asked_to_stop(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._orders.shut_down()
        elif self._node.is_alive:
            self._node.kill()
        else:
            self._over = True

    def _owner_gone(self) -> None:
        if self._config.owner_fd is not None:
            self._reactor.forget(self._config.owner_fd)
        self._orders.shut_down()

    def _close(self) -> None:
        if failpoints.ARMED:
            failpoints.hit("close.before")
        if not self._run_dir.is_ours:
            # SQLite and ZeroMQ, when closed, remove files by their paths. Ours are gone; what lies
            # there now is another daemon's.
            os._exit(self._status or 1)
        self._store.close()
        self._crashes.close()
        self._audit.close()
        self._endpoint.close()
        self._reactor.close()
        signal.set_wakeup_fd(-1)
        self._wake_in.close()
        self._wake_out.close()
        if failpoints.ARMED:
            failpoints.hit("close.after")
        if self._leaves_all_behind:
            self._run_dir.let_go()
        else:
            self._run_dir.remove()

    # --- what the parts need of the daemon --------------------------------------------------------

    def tell_node(self, message: ToNode) -> None:
        """Send to the node, if there is one."""
        self._sessions.tell_node(message)

    def send_control(self, peer: bytes, body: bytes) -> Sent:
        """Send to a node or client."""
        return self._endpoint.send_control(peer, body)

    def node_deaf(self) -> None:
        """End a node that reads nothing any more; another one is started."""
        self._node.kill()

    def publish(self, event: PluginEvent) -> None:
        """Put an event of the daemon's own on the bus."""
        self._bus.publish(event)

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Change the store; `then` is called by the loop once the change is on disk."""
        self._store.write(statements, then)

    def in_background(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do this where it may wait for a disk, and have the loop called with what came of it."""
        self._background.do(work, then)

    def died(self, death: Death) -> None:
        """Have a report written of a death that nobody had asked for."""
        self._crashes.keep(death)

    def audit(self, kind: str, plugin_id: str, **fields: object) -> None:
        """Have a line written to the audit log."""
        self._audit.write(kind, plugin_id, **fields)

    def denied(self, denied: Denied) -> None:
        """Take in that a worker was refused something, on its machine."""
        self._denials.told(denied)

    def refused(self, plugin_id: str, counted: Counted) -> None:
        """Write down what a plugin was refused, and keep it for who asks."""
        permission, what, times = counted
        self.audit("refused", plugin_id, permission=permission, what=what, times=times)
        self._refusals.note(plugin_id, permission, what, time.monotonic(), times)

    def _consented(self, kind: str, manifest: Manifest, permissions: Sequence[str]) -> None:
        """Write down what was decided of a plugin without anybody asking."""
        version = manifest.metadata.version
        self.audit(kind, manifest.id, version=version, permissions=permissions)

    def changed(self) -> None:
        """Look again at what waits for something to move."""
        self._questions.look_again()
        self._orders.look_again()

    def client_left(self, incarnation: int) -> None:
        """Forget a client."""
        self._bus.leave(f"client:{incarnation}")

    # --- the node ---------------------------------------------------------------------------------

    def node_heard(self) -> None:
        """The node has said something."""
        self._node_watch.heard(time.monotonic())

    def _look_at_node(self) -> None:
        """Notice a node that does nothing any more, though its process is there."""
        look = self._node_watch.look(time.monotonic())
        self._node_silent_s = look.silent_s if self._node_details else 0.0
        if look.is_to_be_asked:
            self.tell_node(Ping(0))
        if look.is_hopeless and self._node_details:
            _say(f"the node has said nothing for {look.silent_s:.0f} s: it is ended")
            self._node.kill()

    def node_arrived(self, details: NodeDetails) -> None:
        """The node has greeted us: take over what it runs; what its workers stated follows."""
        if failpoints.ARMED:
            failpoints.hit("adopt.before")
        self._node.arrived(details.name, details.pid)
        hindrance = sandbox_hindrance(self._config, details)
        if hindrance:
            self._refuse_to_start(hindrance, is_fresh=not details.workers)
            return
        self._node_details = details
        self._alive = self._supervisor.adopt(details.workers)
        for exit_ in details.exits:
            self._supervisor.exited(exit_)

    def node_told(self) -> None:
        """The node has told what its workers had stated: go on, and let clients in."""
        if self._node_details is None:
            return
        if failpoints.ARMED:
            failpoints.hit("adopt.told")
        self._supervisor.resume(self._alive)
        if failpoints.ARMED:
            failpoints.hit("adopt.after")
        self._reactor.call_later(ADOPTING_S, self._bus.open)
        self._sessions.let_clients_in()
        if not self._serves:
            self._serves = True
            self._begin()

    def _begin(self) -> None:
        words = sandbox_words(self._config.sandbox, self._node_details)
        _say(f"serving {self._config.run_dir}, pid {os.getpid()}, sandbox {words}")
        places = tuple(Place(path) for path in self._config.plugins)
        if places and not self._orders.is_leaving:
            self._orders.load_first(f"daemon:{self.epoch}", places, _say)

    def _refuse_to_start(self, hindrance: str, *, is_fresh: bool) -> None:
        _say(f"sandbox: {hindrance}")
        self._status = 1
        if is_fresh:
            self._orders.shut_down()
        else:
            # What an earlier daemon started is not ours to end; another one may take it over.
            self._over = self._leaves_all_behind = True

    def _remember_node(
        self, name: str, pid: int, start_time: int, then: Callable[[], None]
    ) -> None:
        self.write(store.keep_node(name, pid, start_time), then)

    def _node_gone(self, name: str) -> None:
        self._node_details = None
        self._sessions.node_lost(name)
        self._bus.bury(name)
        self._supervisor.node_lost()
        if self._orders.is_leaving:
            self._node.is_wanted = False
            self._over = True

    def _node_hopeless(self) -> None:
        why = nodes.last_words(self._config.run_dir)
        _say(f"the node ends as soon as it starts: {why or 'it says nothing'}; please report it")
        self._status, self._over = 1, True

    def _leave(self) -> None:
        if failpoints.ARMED:
            failpoints.hit("leave.before")
        self._node.is_wanted = False
        if not self._node.is_alive:
            self._over = True
            return
        self._sessions.tell_node(StopNode())
        self._reactor.call_later(LEAVING_S, self._node.kill)

    # --- how things are ---------------------------------------------------------------------------

    def look(self, asker: Asker, question: ListPlugins | GetStatus) -> None:
        """Say how things are."""
        if isinstance(question, GetStatus):
            row = status_row(
                self._config, self._registry, self._node_details, self._started, self._alarms()
            )
            asker.reply(Answer(question.request, row))
            return

        def answer() -> None:
            registry = self._registry
            rows = [plugin_row(plugin, registry) for plugin in registry.plugins.values()]
            asker.reply(Answer(question.request, shortened(rows)))

        if question.fresh and self._node_details is not None:
            self._measure(answer)
        else:
            answer()

    def _measure(self, then: Callable[[], None]) -> None:
        request = token_hex(8)
        self._samples[request] = then
        self.tell_node(TakeSample(request))
        self._reactor.call_later(SAMPLE_S, lambda: self._measured(request))

    def samples_arrived(self, samples: Samples) -> None:
        """Take in the node's figures."""
        for sample in samples.samples:
            plugin = self._registry.by_incarnation(sample.incarnation)
            if plugin is not None:
                plugin.figures = sample
        self._measured(samples.request)

    def _measured(self, request: str) -> None:
        then = self._samples.pop(request, None)
        if then is not None:
            then()

    def _alarms(self) -> list[str]:
        alarms = []
        if self._node_silent_s:
            alarms.append(
                f"the node has said nothing for {self._node_silent_s:.0f} s; "
                "what it runs serves on, and nothing new can be started"
            )
        alarms += self._permits.alarms
        if self._store.failure:
            alarms.append(f"the store cannot be written: {self._store.failure}")
        if self._crashes.failure:
            lost = f"{self._crashes.failure}; lost so far: {self._crashes.lost}"
            alarms.append(f"crash reports cannot be written: {lost}")
        if self._audit.failure:
            lost = f"{self._audit.failure}; lost so far: {self._audit.lost}"
            alarms.append(f"the audit log cannot be written: {lost}")
        if not self._endpoint.is_open:
            used, limit = descriptors()
            alarms.append(
                f"{used} of {limit} descriptors are in use, so nobody new is let in; "
                "close some clients, or raise the limit (ulimit -n)"
            )
        refused = self._sessions.violations + self._bus.violations
        if refused:
            alarms.append(f"messages that broke the protocol were refused: {refused}")
        return alarms


def run(config: DaemonConfig) -> int:
    """Serve a run directory in the foreground until SIGINT, SIGTERM or a stop is ordered.

    Returns:
        The process's exit status: 0; 1 when it could not serve; 2 when it could not have been
        meant, such as a run directory of somebody else. The reason is on stderr.
    """
    raise_descriptor_limit()
    try:
        failpoints.arm("daemon")
        operator = read_operator(config.operator_dir)
        return Daemon(operator.fill(config), operator).run()
    except SpiralHostError as error:
        _say(str(error))
        status = 2 if isinstance(error, UsageError) and not isinstance(error, RunDirTaken) else 1
    except OSError as error:
        _say(f"{error.filename or config.run_dir}: {error.strerror or error}; is it yours to use?")
        status = 1
    remove_unserved(config.run_dir)
    return status


def _say(line: str, traceback: str = "") -> None:
    """Write where errors belong; a plugin's own words can do no harm there."""
    with contextlib.suppress(OSError):  # a full disk or a terminal that is gone must not end us
        sys.stderr.write(f"spiral-host: {harmless_line(line)}\n{harmless_text(traceback)}")
        sys.stderr.flush()


def main() -> int:
    """Run the daemon that an application or `spiral-host start` has described in JSON on stdin."""
    said = json.loads(os.read(0, 1 << 20))
    config = DaemonConfig(
        run_dir=Path(said["run_dir"]),
        data_dir=Path(said["data_dir"]) if said["data_dir"] else None,
        config_dir=Path(said["config_dir"]) if said["config_dir"] else None,
        sandbox=said["sandbox"],
        best_effort=said["best_effort"],
        plugins=tuple(said["plugins"]),
        alone_s=said["alone_s"],
        owner_fd=said["owner_fd"],
    )
    return run(config)


if __name__ == "__main__":
    sys.exit(main())
