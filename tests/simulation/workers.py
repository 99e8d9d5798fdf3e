"""A simulated node and its workers: they speak the protocol, in simulated time, and misbehave."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from protocol.messages import (
    FROM_NODE,
    FROM_WORKER,
    TO_NODE,
    TO_WORKER,
    AllTold,
    Broken,
    Cause,
    Confined,
    Described,
    DescribePlugin,
    EndWorker,
    Exited,
    ExitSeen,
    FromNode,
    FromWorker,
    Heard,
    Loaded,
    LoadPlugin,
    NodeDetails,
    Offer,
    Refused,
    Relay,
    Samples,
    Silent,
    Spawned,
    SpawnFailed,
    SpawnWorker,
    StopNode,
    StopPlugin,
    TakeSample,
    Violated,
    WorkerReport,
)
from protocol.session import greeting
from tests.simulation.hours import Connection, Life

if TYPE_CHECKING:
    from tests.simulation.world import World

LAYERS = ("landlock", "seccomp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a plugin's code does, as far as a host can tell. Times in seconds.

    Attributes:
        load: What `on_load` comes to: `ready`, `raises`, `dies`, `hangs` or `lies`.
        life: How long it lives on the average once it is ready, while there are faults.
        hang: How long until its loop turns no more, on the average, while there are faults.
        stubborn: Whether it heeds neither StopPlugin nor SIGTERM.
        supervision: The manifest's table of that name.
    """

    load: str = "ready"
    load_s: float = 0.05
    leave_s: float = 0.01
    life: float | None = None
    hang: float | None = None
    stubborn: bool = False
    supervision: str = ""


def write_supervision(rng: Random, needs: list[str]) -> str:
    """Say in a manifest how a plugin is to be supervised."""
    restart = rng.choice(["permanent", "permanent", "permanent", "transient", "temporary"])
    lines = [
        f'restart = "{restart}"',
        f"hang_s = {rng.choice([1, 5])}",
        f"stop_s = {rng.choice([1, 5, 20])}",
    ]
    if restart != "temporary":
        lines.append(f"crashes = {rng.choice([2, 5])}")
    lines.append("[supervision.providers]")
    ways = ["tell", "block"] if restart == "temporary" else ["tell", "block", "restart"]
    return "\n".join([*lines, *(f'{need} = "{rng.choice(ways)}"' for need in needs)])


def write_code(rng: Random, needs: list[str]) -> Code:
    """Write a plugin as people do: most are good."""
    load = rng.choices(["ready", "raises", "dies", "hangs", "lies"], [20, 1, 2, 1, 1])[0]
    return Code(
        load=load,
        load_s=rng.choice([0.001, 0.05, 0.05, 1.0, 6.0]),
        leave_s=rng.choice([0.0, 0.01, 1.0]),
        life=rng.choice([None, None, None, 20.0, 1.0]),
        hang=rng.choice([None, None, None, None, 10.0]),
        stubborn=rng.random() < 0.2,
        supervision=write_supervision(rng, needs),
    )


class Worker:
    """One worker process, from its fork to its death."""

    def __init__(self, node: "Node", order: SpawnWorker) -> None:
        self.incarnation = order.incarnation
        self.plugin_id = order.plugin_id
        self.pid = 0
        self.is_ending = False
        """Whether the node has been told to end it, or has told it to leave."""
        self.is_ready = False
        self.is_alive = True
        self.confined = False
        self.silence = ""
        self.facts: dict[str, bytes] = {}
        self.rule = ""
        self._world = node.world
        self._node = node
        self._rng = node.world.rng
        self._life = Life(node.world.hours)
        self._code = Code()
        self._is_told = self._is_busy = False
        self._after: list[Callable[[], None]] = []
        self._later(self._rng.choice([0.002, 0.002, 0.02]), self._forked)

    def _later(self, delay_s: float, then: Callable[[], None]) -> None:
        self._life.call_later(delay_s, then)

    def _forked(self) -> None:
        if self._world.has_faults and self._rng.random() < 0.01:
            self._life.is_over = True
            self.is_alive = False
            del self._node.workers[self.incarnation]
            self._world.note(f"{self}: cannot be forked")
            self._world.judge.died(self)
            self._node.tell_daemon(SpawnFailed(self.incarnation, "no memory"))
            return
        self.pid = self._world.new_pid()
        self._world.note(f"{self}: forked")
        self._node.tell_daemon(Spawned(self.incarnation, self.pid))
        if self.rule:
            self.die("signal", 9)
        elif self._world.has_faults and self._rng.random() < 0.02:
            self._later(self._rng.random(), lambda: self.die("signal", 11))
        else:
            self._later(0.002, self._said_hello)

    def _said_hello(self) -> None:
        self.confined = True
        self._node.tell_daemon(Confined(self.incarnation, LAYERS))

    # --- what the daemon says to it ---------------------------------------------------------------

    def obey(self, message: Relay | EndWorker) -> None:
        """Take in a signal, or a relayed frame; these one after the other, as its loop can."""
        if isinstance(message, EndWorker):
            self._signalled(message)
            return
        order = TO_WORKER.decode(message.body)
        if isinstance(order, StopPlugin):
            self.is_ending = True
            self._world.judge.stopping(self)
        if self._is_busy:
            self._after.append(lambda: self._do(order))
        else:
            self._do(order)

    def _do(self, order: object) -> None:
        if self.silence:
            return
        if isinstance(order, StopPlugin):
            if not self._code.stubborn:
                self._later(self._code.leave_s, lambda: self.die("exit", 0))
        elif self._is_told:
            return
        elif isinstance(order, DescribePlugin):
            self._is_told = True
            self._later(0.05, lambda: self._describe(order))
        elif isinstance(order, LoadPlugin):
            self._is_told = self._is_busy = True
            self._code = self._world.code[self.plugin_id]
            if self._code.load != "hangs":
                self._later(self._code.load_s, self._load_over)

    def _describe(self, order: DescribePlugin) -> None:
        plugin_id = self._world.plugin_at(order.source)
        self._say(Described(self._world.metadata(plugin_id).to_wire()))
        self._later(0.001, lambda: self.die("exit", 0))

    def _load_over(self) -> None:
        self._is_busy = False
        load = self._code.load
        if load == "raises":
            broken = Broken(stage="on_load", error="ValueError: no", traceback="Traceback ...")
            self._state("state", broken)
            self._later(0.001, lambda: self.die("exit", 0))
        elif load == "dies":
            self.die(*self._rng.choice([("exit", 3), ("signal", 11), ("exit", 0)]))
        else:
            name = f"service_{self.plugin_id}"
            self._state("service", Offer(service=name, methods=("call",), idempotent=()))
            self._state("state", Loaded())
            self.is_ready = True
            self._world.note(f"{self}: loaded")
            if load == "lies":
                self._later(self._rng.random(), self._lie)
            self._tempt()
            for order in self._after:
                order()

    def _tempt(self) -> None:
        """Be what it is: it crashes or hangs some day, unless faults are over by then."""
        code = self._code
        if code.life is not None:
            how = self._rng.choice([("exit", 1), ("signal", 11), ("exit", 0)])
            self._later(self._rng.expovariate(1 / code.life), lambda: self._err(*how))
        if code.hang is not None:
            self._later(self._rng.expovariate(1 / code.hang), self._hang)

    def _err(self, kind: str, code: int) -> None:
        if self._world.has_faults:
            self.die(kind, code)

    def _lie(self) -> None:
        if self._rng.random() < 0.5:
            self._say(b"no message")
        else:
            self._node.tell_daemon(Violated(self.incarnation, "a second greeting"))
            self.rule = "protocol violation: a second greeting"
            self.die("signal", 9)

    def _hang(self) -> None:
        if not self._world.has_faults or self.is_ending:
            return
        self.silence = "its loop does not answer"
        self._world.note(f"{self}: hangs")
        self._node.tell_daemon(Silent(self.incarnation, self.silence))
        if self._rng.random() < 0.5:
            self._later(self._rng.uniform(0.1, 15.0), self._go_on)

    def _go_on(self) -> None:
        self.silence = ""
        self._world.note(f"{self}: goes on")
        self._node.tell_daemon(Heard(self.incarnation))
        if self.is_ending:
            self._do(StopPlugin())

    # --- what it says, and its end ----------------------------------------------------------------

    def _say(self, message: FromWorker | bytes) -> None:
        body = message if isinstance(message, bytes) else FROM_WORKER.encode(message)
        self._node.tell_daemon(Relay(self.incarnation, body))

    def _state(self, name: str, message: FromWorker) -> None:
        self.facts[name] = FROM_WORKER.encode(message)
        self._say(message)

    def _signalled(self, order: EndWorker) -> None:
        self.is_ending = True
        self.rule = self.rule or order.rule
        self._world.note(f"{self}: to be ended, {'force, ' if order.force else ''}{order.rule}")
        if self.pid and order.force:
            self._later(0.001, lambda: self.die("signal", 9))
        elif self.pid and not self._code.stubborn:
            self._later(0.001, lambda: self.die("signal", 15))

    def die(self, kind: str, code: int) -> None:
        """End; the node reaps it and keeps its exit until the daemon has seen it."""
        rule = self.rule if kind == "signal" and code in {9, 15} else ""
        self.vanish()
        cause = Cause(kind=kind, code=code, rule=rule)
        self._world.note(f"{self}: died, {cause}")
        self._world.judge.died(self)
        self._node.ended(
            Exited(incarnation=self.incarnation, plugin_id=self.plugin_id, cause=cause)
        )

    def vanish(self) -> None:
        """End without a word."""
        self._life.is_over = True
        self.is_alive = False
        del self._node.workers[self.incarnation]

    def report(self) -> WorkerReport:
        """Tell a daemon that has not met it."""
        return WorkerReport(
            incarnation=self.incarnation,
            plugin_id=self.plugin_id,
            pid=self.pid,
            start_time=self.pid,
            confined=self.confined,
            layers=LAYERS if self.confined else (),
            silence=self.silence,
        )

    def __str__(self) -> str:
        epoch, number = divmod(self.incarnation, 1 << 32)
        return f"worker {self.plugin_id} {epoch}.{number}"


class Node:
    """One node process; what of the real one a daemon can see."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.pid = world.new_pid()
        self.workers: dict[int, Worker] = {}
        self.exits: dict[int, Exited] = {}
        self.is_alive = True
        self.has_begun = False
        self._life = Life(world.hours)
        self._stopping = False
        self._link: Connection | None = None

    def begin(self) -> None:
        """The daemon has written it down."""
        self.has_begun = True
        self._life.call_later(self.world.rng.uniform(0.05, 0.5), self.connect)

    def daemon_died(self) -> None:
        """Leave, if nobody will know that it is there."""
        if not self.has_begun:
            self.die()

    def connect(self) -> None:
        """Connect to the daemon that is there, and greet it."""
        if self.is_alive and self._link is None:
            self._link = self.world.connect(self._received, self._daemon_lost)
            if self._link is not None:
                self._greet(self._link)

    def reconnect(self) -> None:
        """Notice, a moment later, that there is a daemon again."""
        self._life.call_later(self.world.rng.uniform(0.02, 0.2), self.connect)

    def _greet(self, link: Connection) -> None:
        details = NodeDetails(
            name=self.name,
            pid=self.pid,
            socket="node.sock",
            sandbox="standard",
            missing={},
            workers=tuple(worker.report() for worker in self.workers.values()),
            exits=tuple(self.exits.values()),
        )
        link.say(greeting("node", FROM_NODE, details))
        for worker in self.workers.values():
            for fact in worker.facts.values():
                link.say(FROM_NODE.encode(Relay(worker.incarnation, fact)))
        link.say(FROM_NODE.encode(AllTold()))

    def _daemon_lost(self) -> None:
        self._link = None
        self.reconnect()

    def tell_daemon(self, message: FromNode) -> None:
        """Send to the daemon that it has greeted; what that misses stands in the greeting."""
        if self._link is not None:
            self._link.say(FROM_NODE.encode(message))

    def _received(self, body: bytes) -> None:
        if not self.is_alive:
            return
        message = TO_NODE.decode(body)
        if isinstance(message, SpawnWorker):
            self._spawn(message)
        elif isinstance(message, Relay | EndWorker):
            if message.incarnation in self.workers:
                self.workers[message.incarnation].obey(message)
        elif isinstance(message, ExitSeen):
            self.exits.pop(message.incarnation, None)
        elif isinstance(message, TakeSample):
            self.tell_daemon(Samples(message.request, ()))
        elif isinstance(message, StopNode | Refused):
            self._stop()

    def _spawn(self, order: SpawnWorker) -> None:
        if order.incarnation in self.workers:
            return
        worker = Worker(self, order)
        self.world.judge.spawned(self, worker)
        self.workers[order.incarnation] = worker

    def ended(self, exit_: Exited) -> None:
        """A worker is gone and reaped."""
        self.exits[exit_.incarnation] = exit_
        self.tell_daemon(exit_)
        if self._stopping and not self.workers:
            self.die()

    def _stop(self) -> None:
        self.world.note("node: stops")
        self._stopping = True
        for worker in tuple(self.workers.values()):
            worker.rule = worker.rule or "the node stops"
            worker.die("signal", 9)
        if self.is_alive:
            self.die()

    def die(self) -> None:
        """End, and every worker with it; the daemon sees it a moment later."""
        if not self.is_alive:
            return
        self.world.note("node: died")
        self.is_alive = False
        self._life.is_over = True
        for worker in tuple(self.workers.values()):
            worker.vanish()
            self.world.judge.died(worker)
        if self._link is not None:
            self._link.peer_died()
        self.world.node_died(self)
