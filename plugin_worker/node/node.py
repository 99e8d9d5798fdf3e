"""The node's loop: the daemon's words in, the workers' words out, as a list of named steps.

    probe the machine -> open the door for clients -> find the daemon -> greet it -> turn
        -> told to stop, or the owner is gone, or nobody came for too long -> end what is left

It decides nothing: what to start, stop or tie together is the daemon's business. While there is
no daemon its workers and their lanes go on, exits are remembered and events are kept.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Final

import zmq

from plugin_worker.node.bubblewrap import Bubblewrap
from plugin_worker.node.causes import Causes
from plugin_worker.node.cgroups import Cgroups
from plugin_worker.node.clients import Clients
from plugin_worker.node.cycles import Cycles
from plugin_worker.node.feeds import Feeds
from plugin_worker.node.folder import hold
from plugin_worker.node.lanes import Lanes
from plugin_worker.node.leaving import Leaving
from plugin_worker.node.litter import Litter
from plugin_worker.node.notices import Notices
from plugin_worker.node.orphans import Orphans
from plugin_worker.node.profiles import Profiles
from plugin_worker.node.remains import Gathered, KeptRemains
from plugin_worker.node.saying import say
from plugin_worker.node.segments import Request, Segments
from plugin_worker.node.workers import Workers
from plugin_worker.node.zygote_link import ZygoteLink
from plugin_worker.sandbox.policy import PROFILES
from plugin_worker.sandbox.probe import probe
from protocol import failpoints
from protocol.errors import RemoteProtocolError
from protocol.link import DaemonLink
from protocol.messages import (
    FROM_NODE,
    TO_NODE,
    AdmitClient,
    AllTold,
    ClientLeft,
    DaemonChanged,
    Down,
    EndWorker,
    Exited,
    ExitSeen,
    ExpelClient,
    Explain,
    FromNode,
    GrantLane,
    Held,
    NodeDetails,
    NodeWelcome,
    Ping,
    Pong,
    Refused,
    Relay,
    Samples,
    SpawnWorker,
    StopNode,
    TakeSample,
    ToEndpoint,
    ToNode,
    WaitOver,
)
from protocol.peer import BusPeer
from protocol.process import descriptors, raise_descriptor_limit
from protocol.reactor import Reactor
from protocol.session import greeting

GREET_AGAIN_S: Final = 0.1
"""How soon a daemon that does not read is greeted again, seconds."""

ORPHANS_S: Final = 2.0
"""How long a node that leaves waits for the end of what its workers have left behind, seconds."""

LITTER_S: Final = 5.0
"""How long it then waits until what dead workers have left in their folders is removed, seconds."""

MAX_EXITS: Final = 4096
"""Exits that are remembered while there is no daemon to be told."""


class Node:
    """One node; lives until it is told to stop or is left alone."""

    def __init__(
        self, run_dir: Path, name: str, sandbox: str, alone_s: float, *, best_effort: bool
    ) -> None:
        self._run_dir = run_dir
        self._here = hold(run_dir)
        self._name = name
        self._sandbox = sandbox
        self._missing = {layer: why for layer, why in probe(PROFILES[sandbox]).items() if why}
        self._profiles = Profiles(self._missing, best_effort=best_effort)
        self._is_ownerless = False
        self._exits: dict[int, Exited] = {}
        self._remains = KeptRemains()
        self._has_greeted = False
        """Whether a daemon has been told all; what changes afterwards is told as it comes."""
        self._alone_s = alone_s
        self._reactor = Reactor()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._build()

    def _build(self) -> None:
        reactor, run_dir, here = self._reactor, self._run_dir, self._here
        for folder in ("tmp", "logs"):
            (here / folder).mkdir(mode=0o700, exist_ok=True)
        self._groups = Cgroups.of_this_machine()  # while there is one thread
        self._litter = Litter()
        for left in (here / "tmp").iterdir():  # by an earlier node; a worker may get its name
            self._litter.remove(left.rename(left.with_name(token_hex(8))))
        self._zygote = ZygoteLink(reactor, run_dir / "lib", run_dir / "tmp" / "zygote")
        self._bubblewrap = Bubblewrap(reactor, run_dir / "lib")
        self._notices = Notices(reactor, self.tell_daemon)
        self._feeds = Feeds(
            reactor, lambda number, message: self._send(number, message, ()), self._notices.note
        )
        self._orphans = Orphans(reactor, self._children)
        self._workers = Workers(
            reactor,
            run_dir,
            self._zygote,
            self._bubblewrap,
            self._profiles,
            self._feeds,
            self._litter,
            self._groups,
            self._notices,
            self,
        )
        self._leaving = Leaving(reactor, self._workers, self._alone_s)
        self._segments = Segments(self._send, self._other_end, self._is_behind)
        self._lanes = Lanes(
            self._send, self.tell_daemon, self._segments.lane_over, self._workers.held_to
        )
        self._causes = Causes(
            lambda number, answer: self._send(number, answer, ()),
            self._lanes.tied,
            self._workers.is_ending,
        )
        self._cycles = Cycles(self._lanes.tied, self._lanes.name_of)
        self._clients = Clients(
            reactor,
            here / "node.sock",
            self._client_left,
            self.lane_closed,
            self.death_asked,
            self.wait_told,
            self.segment_asked,
        )
        self._feeds.peer = BusPeer(
            reactor,
            self._context,
            (self._address("events-in"), self._address("events-out")),
            self._feeds,
        )
        self._link = DaemonLink(
            reactor,
            self._context,
            self._address("control"),
            connected=self._greet,
            disconnected=self._daemon_lost,
            received=self._received,
        )

    def _address(self, name: str) -> str:
        return f"ipc://{self._run_dir / name}.sock"

    # --- the main loop ----------------------------------------------------------------------------

    def run(self, owner_fd: int | None) -> None:
        """Serve until told to stop."""
        if owner_fd is not None:
            self._reactor.watch(owner_fd, lambda: self._owner_gone(owner_fd))
        self._leaving.left_alone()
        while not self._leaving.is_over:
            self._reactor.turn()
        self._orphans.end_all(time.monotonic() + ORPHANS_S)
        self._close()

    def _owner_gone(self, owner_fd: int) -> None:
        self._reactor.forget(owner_fd)
        self._is_ownerless = True
        # The daemon sees the same end and stops in order; without it, this is the whole stop.
        if not self._link.is_connected:
            self._leaving.at_once()

    def _close(self) -> None:
        self._zygote.close()
        self._bubblewrap.close()
        self._workers.close(LITTER_S)
        self._clients.close()
        self._segments.close()
        self._feeds.interest.close()
        self._feeds.peer.close()
        self._link.close()
        self._reactor.close()
        self._context.destroy(linger=0)
        if failpoints.ARMED:
            failpoints.hit("leave.after")
        for folder in ("tmp", "lib"):
            self._litter.remove(self._here / folder)
        self._litter.close(LITTER_S)

    # --- the daemon -------------------------------------------------------------------------------

    def tell_daemon(self, message: FromNode) -> None:
        """Send to the daemon; what it misses while it is away stands in the next greeting."""
        if self._has_greeted and not self._link.send(FROM_NODE.encode(message)):
            self._greet_again()

    def _greet(self) -> None:
        if failpoints.ARMED:
            failpoints.hit("greet.before")
        details = NodeDetails(
            name=self._name,
            pid=os.getpid(),
            socket=str(self._run_dir / "node.sock"),
            sandbox=self._sandbox,
            missing=self._missing,
            workers=tuple(worker.report() for worker in self._workers.living.values()),
            exits=tuple(self._exits.values()),
            limits_by=f"rlimit, {self._groups}, watch",
        )
        if not self._link.is_connected or self._leaving.is_begun:
            return
        # Not only once it has welcomed us: what happens until then is in no greeting.
        self._has_greeted = all(self._link.send(body) for body in self._told(details))
        if not self._has_greeted:
            self._greet_again()
        if failpoints.ARMED:
            failpoints.hit("greet.after")

    def _told(self, details: NodeDetails) -> Iterator[bytes]:
        """Give the greeting, all permissions and facts, what the dead left, and the end of it."""
        yield greeting("node", FROM_NODE, details)
        # In messages of their own: together they may not fit in one.
        for worker in self._workers.living.values():
            yield FROM_NODE.encode(worker.permitted())
        for worker in self._workers.living.values():
            for fact in worker.facts.values():
                yield FROM_NODE.encode(Relay(worker.incarnation, fact))
        yield from self._remains.frames
        yield FROM_NODE.encode(AllTold())

    def _greet_again(self) -> None:
        """The daemon does not read: what it misses is in a greeting, once it reads again."""
        self._has_greeted = False
        self._reactor.call_later(GREET_AGAIN_S, self._greet)

    def _daemon_lost(self) -> None:
        self._has_greeted = False
        self._feeds.peer.lost()
        self._feeds.give_up()
        self._tell_everybody(DaemonChanged(0))
        if self._is_ownerless:
            self._leaving.at_once()  # its end was not heard of yet when the owner left
        self._leaving.left_alone()

    def _welcomed(self, epoch: int) -> None:
        self._leaving.found()
        self._feeds.peer.join(self._name)
        self._tell_everybody(DaemonChanged(epoch))

    def _tell_everybody(self, message: ToEndpoint) -> None:
        for incarnation in (*self._workers.living, *self._clients.connected):
            self._send(incarnation, message, ())

    def _received(self, body: bytes) -> None:
        try:
            self._ordered(TO_NODE.decode(body))
        except RemoteProtocolError as error:
            say(f"the daemon broke the protocol: {error}")
            self._leaving.at_once()

    def _ordered(self, message: ToNode) -> None:  # noqa: C901 - one line for each order
        if isinstance(message, Relay):
            self._workers.relay(message.incarnation, message.body)
        elif isinstance(message, GrantLane):
            self._lanes.grant(message)
        elif isinstance(message, SpawnWorker):
            self._workers.spawn(message)
        elif isinstance(message, EndWorker):
            self._workers.end(message)
        elif isinstance(message, ExitSeen):
            self._exits.pop(message.incarnation, None)
            self._remains.seen(message.incarnation)
        elif isinstance(message, AdmitClient):
            self._clients.admit(message)
        elif isinstance(message, ExpelClient):
            self._clients.expel(message.incarnation)
            self._forget(message.incarnation)
        elif isinstance(message, TakeSample):
            self._sample(message.request)
        elif isinstance(message, NodeWelcome):
            self._welcomed(message.epoch)
        elif isinstance(message, Ping):
            self.tell_daemon(Pong(message.number, descriptors()[0]))
        elif isinstance(message, StopNode | Refused):
            self._leaving.at_once()

    def _sample(self, request: str) -> None:
        samples = (
            worker.sample(*self._feeds.lag(worker.incarnation))
            for worker in self._workers.living.values()
            if worker.pid
        )
        taken = tuple(sample for sample in samples if sample is not None)
        self.tell_daemon(Samples(request, taken))

    def _children(self) -> set[int] | None:
        """Give the processes that are ours; None while one is being made."""
        if self._zygote.is_forking:
            return None
        workers = (worker.pid for worker in self._workers.living.values())
        return {*self._zygote.pids, *self._bubblewrap.pids, *workers}

    # --- endpoints --------------------------------------------------------------------------------

    def _send(self, incarnation: int, message: ToEndpoint, descriptors: tuple[int, ...]) -> bool:
        if self._workers.send(incarnation, message, descriptors):
            return True
        return self._clients.send(incarnation, message, descriptors)

    def ended(self, exit_: Exited, remains: Gathered) -> None:
        """A worker is gone: first those hear of it who may be waiting for it."""
        names = self._lanes.callers_of(exit_.incarnation)
        down = Down(exit_.incarnation, exit_.plugin_id, exit_.cause)
        for other in self._forget(exit_.incarnation) | self._causes.askers(exit_.incarnation):
            self._send(other, down, ())
        if len(self._exits) < MAX_EXITS:
            self._exits[exit_.incarnation] = exit_
        left = remains(names)
        if left is not None:
            self._remains.keep(left)
            self.tell_daemon(left)
        self.tell_daemon(exit_)
        self._orphans.look_soon()

    def lane_closed(self, lane: int, callee: int) -> None:
        """A callee has seen a lane's end."""
        self._lanes.closed(lane, callee)

    def death_asked(self, incarnation: int, question: Explain) -> None:
        """An endpoint has seen a lane's end, and asks how whoever was at the other has ended."""
        self._causes.asked(incarnation, question)

    def wait_told(self, incarnation: int, message: Held | WaitOver) -> None:
        """An endpoint waits and owes an answer meanwhile, or waits no longer."""
        deadlock = self._cycles.told(incarnation, message)
        if deadlock is not None:
            self._send(incarnation, deadlock, ())

    def segment_asked(self, incarnation: int, message: Request) -> None:
        """An endpoint wants shared memory, or has no use for it any more."""
        self._segments.told(incarnation, message)

    def _other_end(self, lane: int, incarnation: int) -> int | None:
        return self._lanes.other_end(lane, incarnation)

    def _is_behind(self, incarnation: int) -> bool:
        return self._workers.is_behind(incarnation) or self._clients.is_behind(incarnation)

    def _client_left(self, incarnation: int) -> None:
        self._forget(incarnation)
        self.tell_daemon(ClientLeft(incarnation))

    def _forget(self, incarnation: int) -> set[int]:
        """Forget an endpoint that is gone; give those that it had lanes with."""
        self._cycles.forget(incarnation)
        peers = self._lanes.forget(incarnation)
        self._segments.forget(incarnation)
        return peers


def main(arguments: list[str]) -> int:
    """Run one node. Started by a daemon, by name."""
    run_dir, name, sandbox, mode, alone_s, *owner = arguments
    failpoints.arm("node")
    if not _may_begin():
        return 0
    raise_descriptor_limit()
    # Inherited as ignored, it would let the kernel reap our children: none would have a cause.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A terminal's Ctrl-C is for the daemon, which stops us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    node = Node(Path(run_dir), name, sandbox, float(alone_s), best_effort=mode == "best-effort")
    node.run(int(owner[0]) if owner else None)
    return 0


def _may_begin() -> bool:
    """Wait until the daemon has written us down; False when it died before, and none will know."""
    may = bool(os.read(0, 1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return may
