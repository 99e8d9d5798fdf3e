"""Start, confine, signal and reap the workers of this machine, and pass on what they say."""

import os
import signal
import socket
import time
import traceback
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Final, Protocol

from plugin_worker.confine import in_force
from plugin_worker.node.aside import Aside
from plugin_worker.node.backlog import flush_later
from plugin_worker.node.bubblewrap import Bubblewrap
from plugin_worker.node.cgroups import Cgroups, Member
from plugin_worker.node.feeds import Feeds, Wire
from plugin_worker.node.health import Health
from plugin_worker.node.launcher import Order, Started
from plugin_worker.node.litter import Litter
from plugin_worker.node.notices import Notices
from plugin_worker.node.profiles import NAMESPACES, Profiles
from plugin_worker.node.remains import Gathered, gather, leaves_remains
from plugin_worker.node.saying import say
from plugin_worker.node.segments import Request
from plugin_worker.node.spawner import Spawner
from plugin_worker.node.worker import WorkerProcess
from plugin_worker.node.zygote_link import ZygoteLink
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.namespaces import try_namespaces
from plugin_worker.sandbox.policy import rlimits
from protocol import failpoints
from protocol.errors import ProtocolError, RemoteProtocolError, UsageError
from protocol.flight import read_flight
from protocol.messages import (
    FROM_ENDPOINT,
    TO_ENDPOINT,
    CallbacksRan,
    Cause,
    Confined,
    Dropped,
    EndWorker,
    Exited,
    Explain,
    FromNode,
    Greeted,
    Held,
    LaneClosed,
    Ping,
    Pong,
    Relay,
    Remains,
    Spawned,
    SpawnFailed,
    SpawnWorker,
    Subscribe,
    ToEndpoint,
    Unsubscribe,
    Violated,
    WaitOver,
    WasDenied,
    WorkerDetails,
)
from protocol.names import EVERYTHING, parse_pattern, parse_topic
from protocol.packets import Kind
from protocol.process import start_time_of
from protocol.reactor import Reactor
from protocol.session import accept

_KERNEL_SHOWS: Final = (NAMESPACES, "rlimits", "capabilities", "no-new-privs", "seccomp")
"""Layers that can be checked from outside; the others are the confined worker's own word."""

HANG_UP_S: Final = 0.5
"""How long a worker that has closed its umbilical may take to end by itself, seconds."""

_STANDS: Final = b"state"
"""The key of the fact that a worker tells when its plugin has been loaded, or has failed to be."""

_BURST: Final = 64
"""Messages of one worker that are handled before the others get their turn."""


class Outside(Protocol):
    """What the workers' keeper needs of the node."""

    def tell_daemon(self, message: FromNode) -> None:
        """Send to the daemon, if one is there."""

    def ended(self, exit_: Exited, remains: Gathered) -> None:
        """A worker is gone: tell its peers, then the daemon; keep what no daemon has seen yet."""

    def lane_closed(self, lane: int, callee: int) -> None:
        """A callee has seen a lane's end."""

    def death_asked(self, incarnation: int, question: Explain) -> None:
        """An endpoint has seen a lane's end, and asks how whoever was at the other has ended."""

    def wait_told(self, incarnation: int, message: Held | WaitOver) -> None:
        """An endpoint waits and owes an answer meanwhile, or waits no longer."""

    def segment_asked(self, incarnation: int, message: Request) -> None:
        """An endpoint wants shared memory, or has no use for it any more."""


class Workers:
    """Every worker of this machine; lives as long as the node."""

    def __init__(
        self,
        reactor: Reactor,
        run_dir: Path,
        zygote: ZygoteLink,
        bubblewrap: Bubblewrap,
        profiles: Profiles,
        feeds: Feeds,
        litter: Litter,
        groups: Cgroups,
        notices: Notices,
        outside: Outside,
    ) -> None:
        self.living: dict[int, WorkerProcess] = {}
        self._reactor = reactor
        self._spawner = Spawner(run_dir, has_groups="pids" in groups.available)
        self._zygote = zygote
        self._bubblewrap = bubblewrap
        self._profiles = profiles
        self._feeds = feeds
        self._litter = litter
        self._notices = notices
        self._outside = outside
        self._lib = run_dir / "lib"
        self._groups = groups
        self._aside = Aside(reactor, "limits")
        self._health = Health(reactor, self.living, self._ask, outside.tell_daemon, self._aside)

    # --- start ------------------------------------------------------------------------------------

    def spawn(self, order: SpawnWorker) -> None:
        """Start a worker; saying it twice starts one."""
        if order.incarnation in self.living:
            return
        try:
            if failpoints.ARMED:
                failpoints.hit("spawn.before")
            worker, theirs = self._spawner.prepare(order)
        except (OSError, UsageError) as error:
            self._outside.tell_daemon(SpawnFailed(order.incarnation, str(error)))
            return
        self.living[order.incarnation] = worker
        wire = Wire(
            send=lambda body: self._push(worker, Kind.EVENTS, body, ()),
            unsent=lambda: worker.umbilical.backlog,
            ran=worker.events_ran,
        )
        self._feeds.add(order.incarnation, order.plugin_id, wire, worker.permissions)
        self._reactor.watch(worker.umbilical.fd, lambda: self._read(worker))
        self._reactor.watch(worker.log.read_fd, lambda: self._drain(worker))

        self._launch(worker, order, theirs)

    def _launch(self, worker: WorkerProcess, order: SpawnWorker, theirs: socket.socket) -> None:
        def taken() -> None:
            theirs.close()
            worker.log.handed_over()

        def failed(why: str) -> None:
            if NAMESPACES not in worker.planned or not self._profiles.are_namespaces_in_doubt:
                give_up(why, is_final=False)
                return

            def tried(found: str) -> None:
                if not self._profiles.does_without(found):
                    give_up(why, is_final=bool(found))
                    return
                say(f"{worker.plugin_id} starts without namespaces, and so do others: {found}")
                self._launch(worker, order, theirs)

            # It may be this plugin that failed, and not the machine.
            self._aside.do(try_namespaces, tried, lambda _: give_up(why, is_final=False))

        def give_up(why: str, *, is_final: bool) -> None:
            taken()
            self._bury(worker)
            self._outside.tell_daemon(SpawnFailed(worker.incarnation, why, is_final))

        worker.planned = self._profiles.layers(order.profile)
        try:
            confinement = self._spawner.confinement(order, worker.planned)
            frame = self._spawner.frame(order, worker, confinement)
        except (ConfinementError, UsageError) as error:
            give_up(str(error), is_final=True)
            return
        launcher = self._bubblewrap if NAMESPACES in worker.planned else self._zygote
        pages = (worker.flight_fd, self._feeds.interest.fd)
        launcher.launch(
            Order(
                incarnation=order.incarnation,
                confinement=confinement,
                environment=self._spawner.environment(order),
                frame=frame,
                descriptors=(theirs.fileno(), worker.log.write_fd, *pages),
                taken=taken,
                started=lambda started: self._started(worker, started),
                failed=failed,
            )
        )

    def _started(self, worker: WorkerProcess, started: Started) -> None:
        if failpoints.ARMED:
            failpoints.hit("fork.heard")
        worker.pid, worker.pidfd, worker.guard = started.pid, started.pidfd, started.guard
        try:
            if worker.guard is None:
                worker.pidfd = os.pidfd_open(worker.pid)
            worker.start_time = start_time_of(worker.pid)
        except OSError as failure:
            # No descriptor is left to hold it by: it is nobody's, and ends as an orphan.
            self._bury(worker)
            why = f"it cannot be held: {failure}"
            self._outside.tell_daemon(SpawnFailed(worker.incarnation, why))
            return
        if worker.guard is None:
            self._reactor.watch(worker.pidfd, lambda: self._ended(worker))
        else:
            self._profiles.namespaces_held()
            worker.guard.follow(worker.pidfd, lambda: self._ended(worker))
        self._health.born(worker)
        self._join_group(worker)
        self._outside.tell_daemon(Spawned(worker.incarnation, worker.pid))
        if failpoints.ARMED:
            failpoints.hit("fork.told")
        if worker.rule:
            worker.kill(worker.rule)  # ordered while nobody knew its number yet
        self._check(worker)

    def _join_group(self, worker: WorkerProcess) -> None:
        if not self._groups.available:
            return
        member = Member(
            str(worker.incarnation), worker.pid, worker.limits, may_fork=worker.may_fork
        )

        def joined(why: str) -> None:
            if not why and worker.watch is not None:
                worker.watch.held |= frozenset(worker.grouped)
            elif worker.may_fork:
                worker.kill(f"limit processes: it could not be put in a group of its own: {why}")
            elif why:
                say(f"{worker.plugin_id} is in no group of its own: {why}")
                worker.grouped = ()
                if worker.confined:
                    self._tell_confined(worker)
            worker.awaits_group = False
            self._check(worker)

        worker.grouped, worker.awaits_group = self._groups.holds, worker.may_fork
        self._groups.join(self._aside, worker.incarnation, member, joined)

    def _check(self, worker: WorkerProcess) -> None:
        """Once it is forked and has said hello: is it as confined as it says?"""
        if not worker.pid or not worker.said_hello or worker.awaits_group or worker.confined:
            return
        try:
            seen = in_force(worker.pid, rlimits(worker.limits))
        except OSError:
            return  # it has just died; its pidfd will say so
        lacking = [name for name in _KERNEL_SHOWS if name in worker.planned and name not in seen]
        if lacking:
            worker.kill(f"not confined: {', '.join(lacking)}")
            return
        worker.layers, worker.confined = worker.planned, True
        self._send(worker, Greeted(worker.incarnation), ())
        self._tell_confined(worker)
        if failpoints.ARMED:
            failpoints.hit("confined.told")

    def _tell_confined(self, worker: WorkerProcess) -> None:
        confined = Confined(worker.incarnation, worker.layers, worker.limits_held())
        self._outside.tell_daemon(confined)

    # --- what workers say -------------------------------------------------------------------------

    def _read(self, worker: WorkerProcess) -> None:
        try:
            for _ in range(_BURST):
                message = worker.umbilical.receive()
                if message is None:
                    return
                kind, body, _ = message
                wait_s = worker.wait_s(kind, len(body), self._said(worker, kind, body))
                if wait_s:
                    self._pause(worker, wait_s)
                    return
        except (EOFError, OSError):
            self._hung_up(worker)
        except (ProtocolError, UsageError) as error:
            self._violated(worker, str(error))
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end the others' node
            say(traceback.format_exc())
            self._violated(worker, f"it led the node into a bug: {error!r}")

    def _pause(self, worker: WorkerProcess, wait_s: float) -> None:
        """Let a worker that says too much wait: its own sends block, nobody else notices."""
        if not worker.is_open:
            return
        self._reactor.forget(worker.umbilical.fd)
        self._reactor.call_later(wait_s, lambda: self._go_on(worker))

    def _go_on(self, worker: WorkerProcess) -> None:
        if worker.is_open:
            self._reactor.watch(worker.umbilical.fd, lambda: self._read(worker))
            if worker.umbilical.backlog:
                self._flush_later(worker)

    def _said(self, worker: WorkerProcess, kind: Kind, body: bytes) -> int:
        """Take in what a worker says; give how many events that were."""
        if not worker.said_hello:
            self._hello(worker, body)
        elif kind is Kind.EVENTS:
            return self._feeds.published(worker.incarnation, body)
        elif kind is Kind.RELAY:
            self._outside.tell_daemon(Relay(worker.incarnation, body))
        elif kind is Kind.FACT:
            self._outside.tell_daemon(Relay(worker.incarnation, worker.keep(body)))
            if _STANDS in worker.facts:
                self._health.loaded(worker)
        else:
            self._told(worker, body)
        return 0

    def _hello(self, worker: WorkerProcess, body: bytes) -> None:
        details = accept(body, "worker", FROM_ENDPOINT)
        if not isinstance(details, WorkerDetails):
            raise RemoteProtocolError("a greeting without details")
        if failpoints.ARMED:
            failpoints.hit("hello.heard")
        worker.said_hello = True
        self._check(worker)

    def _told(self, worker: WorkerProcess, body: bytes) -> None:  # noqa: C901 - one line for each
        message = FROM_ENDPOINT.decode(body)
        if isinstance(message, Subscribe):
            self._feeds.subscribe(worker.incarnation, parse_pattern(message.pattern), message)
        elif isinstance(message, Unsubscribe):
            self._feeds.unsubscribe(worker.incarnation, parse_pattern(message.pattern))
        elif isinstance(message, Dropped):
            self._feeds.dropped(worker.incarnation, parse_topic(message.topic), message.count)
        elif isinstance(message, CallbacksRan):
            self._feeds.ran(worker.incarnation, message)
        elif isinstance(message, LaneClosed):
            self._outside.lane_closed(message.lane, worker.incarnation)
        elif isinstance(message, Explain):
            self._outside.death_asked(worker.incarnation, message)
        elif isinstance(message, Held | WaitOver):
            self._outside.wait_told(worker.incarnation, message)
        elif isinstance(message, Pong):
            self._health.answered(worker, message)
        elif isinstance(message, WasDenied):
            self._notices.said(worker.incarnation, message)
        elif isinstance(message, Request):
            self._outside.segment_asked(worker.incarnation, message)
        else:
            raise RemoteProtocolError("a second greeting")

    def _violated(self, worker: WorkerProcess, why: str) -> None:
        self._outside.tell_daemon(Violated(worker.incarnation, why))
        worker.kill(f"protocol violation: {why}")
        self._deafen(worker)

    def _hung_up(self, worker: WorkerProcess) -> None:
        # Its end closes shortly before its exit is known: one that is dying tells its own cause.
        self._deafen(worker)
        self._reactor.call_later(HANG_UP_S, lambda: worker.kill("it closed its umbilical"))

    def _deafen(self, worker: WorkerProcess) -> None:
        if worker.is_open:
            worker.is_open = False
            self._reactor.forget(worker.umbilical.fd)

    def _drain(self, worker: WorkerProcess) -> None:
        wait_s = worker.log.drain(time.monotonic())
        if wait_s == 0:
            return
        self._reactor.forget(worker.log.read_fd)
        if wait_s is not None:  # it prints too much: its own writes block, nobody else notices
            self._reactor.call_later(wait_s, lambda: self._drain_again(worker))

    def _drain_again(self, worker: WorkerProcess) -> None:
        if self.living.get(worker.incarnation) is worker:
            self._reactor.watch(worker.log.read_fd, lambda: self._drain(worker))

    # --- what is said to workers ------------------------------------------------------------------

    def relay(self, incarnation: int, body: bytes) -> None:
        """Pass a lifecycle frame on, byte for byte."""
        worker = self.living.get(incarnation)
        if worker is not None:
            self._push(worker, Kind.RELAY, body, ())

    def send(self, incarnation: int, message: ToEndpoint, descriptors: tuple[int, ...]) -> bool:
        """Send a message of the node's own; False when there is no such worker."""
        worker = self.living.get(incarnation)
        if worker is None or not worker.is_open:
            return False
        self._send(worker, message, descriptors)
        return True

    def _send(self, worker: WorkerProcess, message: ToEndpoint, fds: tuple[int, ...]) -> None:
        self._push(worker, Kind.NODE, TO_ENDPOINT.encode(message), fds)

    def _ask(self, worker: WorkerProcess, ping: Ping) -> None:
        self._send(worker, ping, ())

    def _push(self, worker: WorkerProcess, kind: Kind, body: bytes, fds: tuple[int, ...]) -> None:
        if not worker.is_open:
            return
        try:
            if not worker.umbilical.send(kind, body, fds):
                self._flush_later(worker)
        except ProtocolError as error:
            self._violated(worker, str(error))
        except OSError:
            self._hung_up(worker)

    def _flush_later(self, worker: WorkerProcess) -> None:
        flush_later(self._reactor, worker.umbilical, lambda: self._flush(worker))

    def _flush(self, worker: WorkerProcess) -> None:
        if not worker.is_open:
            return
        try:
            if worker.umbilical.flush():
                self._reactor.forget_writable(worker.umbilical.fd)
            else:
                self._flush_later(worker)
        except OSError:
            self._hung_up(worker)

    def held_to(self, incarnation: int) -> tuple[tuple[str, ...], float]:
        """Say what a worker may call, and how often a second; who is no worker is not limited."""
        worker = self.living.get(incarnation)
        if worker is None:
            return (EVERYTHING,), inf
        return worker.permissions.services, worker.limits.call_rate

    def is_ending(self, incarnation: int) -> bool:
        """Say whether a worker is about to be gone, but is not yet."""
        worker = self.living.get(incarnation)
        return worker is not None and worker.is_ending()

    def is_behind(self, incarnation: int) -> bool:
        """Say whether a worker has so much to read that what it can do without is not added."""
        worker = self.living.get(incarnation)
        return worker is not None and worker.umbilical.is_behind

    def end(self, order: EndWorker) -> None:
        """End a worker: SIGTERM, or SIGKILL when forced; after its stacks, if they are wanted."""
        worker = self.living.get(order.incarnation)
        if worker is None:
            return
        worker.rule = worker.rule or order.rule
        number = signal.SIGKILL if order.force else signal.SIGTERM
        if order.stacks:
            self._health.write_stacks(worker, lambda: worker.signal(number))
        else:
            worker.signal(number)

    # --- death ------------------------------------------------------------------------------------

    def _ended(self, worker: WorkerProcess) -> None:
        self._reactor.forget(worker.pidfd)
        self._groups.ended(self._reactor, worker.incarnation, lambda: self._died(worker))

    def _died(self, worker: WorkerProcess) -> None:
        if failpoints.ARMED:
            failpoints.hit("exit.seen")
        self._hear_out(worker)
        self._notices.forget(worker.incarnation)
        cause = self._reap(worker)
        exit_ = Exited(incarnation=worker.incarnation, plugin_id=worker.plugin_id, cause=cause)
        del self.living[worker.incarnation]
        self._outside.ended(exit_, lambda names: self._remains(worker, cause, names))
        if failpoints.ARMED:
            failpoints.hit("exit.told")
        if exit_.cause.kind != "exit" or exit_.cause.code:
            running = len(read_flight(worker.flight_fd).running)
            flying = f"; calls in flight: {running}" if running else ""
            worker.log.note(f"{worker.plugin_id}, pid {worker.pid}, ended: {exit_.cause}{flying}")
        self._bury(worker)

    def _reap(self, worker: WorkerProcess) -> Cause:
        """Reap it: from now on its number may be another's."""
        number = worker.incarnation
        cause = worker.reap()
        explained = self._groups.explain(number, cause) or self._health.explain(cause)
        self._groups.leave(self._aside, number)
        return explained

    def _remains(
        self, worker: WorkerProcess, cause: Cause, names: Mapping[int, str]
    ) -> Remains | None:
        worker.log.drain_all()  # whoever is told of its end finds in the file what it printed
        if not leaves_remains(worker, cause):
            return None
        events = self._feeds.last_given(worker.incarnation)
        return gather(worker, events, names, self._lib, time.monotonic())

    def _hear_out(self, worker: WorkerProcess) -> None:
        """Take what a worker had said before it died: it comes before the news of its death."""
        worker.umbilical.stop_hearing()  # a process of its own may hold the other end and go on
        while worker.is_open:
            try:
                message = worker.umbilical.receive()
                if message is None:
                    return
                self._said(worker, message[0], message[1])
            except (EOFError, OSError, ProtocolError, UsageError):
                self._deafen(worker)
            except Exception:  # noqa: BLE001 - a bug of ours must not end the others' node
                say(traceback.format_exc())
                self._deafen(worker)

    def _bury(self, worker: WorkerProcess) -> None:
        self._deafen(worker)
        self.living.pop(worker.incarnation, None)
        self._feeds.remove(worker.incarnation)
        for fd in (worker.log.read_fd, worker.pidfd):
            self._reactor.forget(fd)
        worker.close()
        self._litter.remove(worker.tmp)

    def close(self, longest_s: float) -> None:
        """Wait for what is done beside the loop, then remove every group."""
        self._aside.close(longest_s)
        self._groups.close()

    def end_all(self, rule: str) -> None:
        """End every worker by force."""
        for worker in self.living.values():
            worker.kill(rule)
