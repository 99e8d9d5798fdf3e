"""The real daemon, as it is built, around simulated sockets, a simulated disk and clock."""

import collections
import itertools
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest.mock import patch

from protocol.events import PluginEvent
from protocol.messages import ToNode
from protocol.reactor import Reactor
from spiral_host import nodes
from spiral_host.config import DaemonConfig
from spiral_host.crashes import Death
from spiral_host.daemon import Daemon
from spiral_host.endpoint import Endpoint, Sent
from spiral_host.operator import Operator
from spiral_host.store import Statement, Store
from tests.simulation.hours import Connection, Hours, Life

if TYPE_CHECKING:
    from spiral_host.crash_writer import CrashWriter
    from spiral_host.rundir import RunDir
    from tests.simulation.workers import Node
    from tests.simulation.world import World

T = TypeVar("T")


class Disk:
    """What outlives every daemon. A change is there whole or not at all."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:")

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """Read a table."""
        return self.database.execute(f"SELECT * FROM {table}").fetchall()


class SimulatedStore(Store):
    """The real store without its thread: a change reaches the disk some time after it is made."""

    def __init__(
        self, disk: Disk, life: Life, rng: random.Random, call_soon: Callable[..., None]
    ) -> None:
        self.loss = self._reason = ""
        self._owed, self._lost = collections.deque(), 0
        self._database = disk.database
        self._life = life
        self._rng = rng
        self._call_soon = call_soon
        self._last = 0.0
        self._waiting: list[list[Statement]] = []
        with self._database:
            self._load(self._database, 1)

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        delay = self._rng.choice([0.0, 0.001, 0.01])
        self._last = max(self._last, self._life._hours.now + delay)
        self._waiting.append(statements)
        self._life.call_at(self._last, lambda: self._apply(then))

    def _apply(self, then: Callable[[], None] | None) -> None:
        with self._database:
            for statement, values in self._waiting.pop(0):
                self._database.execute(statement, values)
        if then is not None:
            self._call_soon(then)

    def close(self) -> None:
        while self._waiting:
            self._apply(None)


class SimulatedEndpoint:
    """Sockets whose other ends are the world's."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.is_open = True
        self.on_control: Callable[[bytes, list[bytes]], None] | None = None

    def watch(
        self,
        _: Reactor,
        on_control: Callable[[bytes, list[bytes]], None],
        *events: Callable[..., None],
    ) -> None:
        self.on_control = on_control

    def send_control(self, peer: bytes, body: bytes) -> Sent:
        connection = self._world.connections.get(peer)
        if connection is None or not connection.is_open:
            return Sent.GONE
        connection.tell(body)
        return Sent.YES

    def send_event_peer(self, peer: bytes, body: bytes) -> Sent:
        return Sent.GONE

    def fan_out(self, frame: bytes) -> None:
        pass


class Reports:
    """A writer of crash reports that has no thread and writes none."""

    failure = ""

    def keep(self, death: Death) -> None:
        pass

    def close(self) -> None:
        pass


class SimulatedDaemon(Daemon):
    """One daemon process, from its start until it is killed or leaves."""

    def __init__(self, world: "World", config: DaemonConfig) -> None:
        self.life = Life(world.hours)
        self._world = world
        super().__init__(config, Operator())

    def _take_over(self) -> None:
        self._reactor = self.life
        where = SimpleNamespace(path=self._config.run_dir, is_ours=True)
        self._run_dir = cast("RunDir", where)
        self._store = SimulatedStore(self._world.disk, self.life, self._world.rng, self.call_soon)
        self.epoch = self._store.epoch
        self._crashes = cast("CrashWriter", Reports())
        self._endpoint = cast("Endpoint", SimulatedEndpoint(self._world))

    def start(self) -> None:
        """Begin to serve."""
        self._watch()
        self._node.find_or_start(self._store.node)

    def _look_around(self) -> None:
        """Look at nothing: folder and descriptors are the real machine's."""

    def in_background(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        result = work()
        self.call_soon(lambda: then(result))

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.life.call_later(0.0, callback)

    def tell_node(self, message: ToNode) -> None:
        self._world.judge.told(message)
        super().tell_node(message)

    def publish(self, event: PluginEvent) -> None:
        self._world.note(f"daemon: publishes {event.type} {getattr(event, 'plugin_id', '')}")
        super().publish(event)

    def received(self, peer: bytes, frames: list[bytes]) -> None:
        """Take in a message of a node or client."""
        self._sessions.received(peer, frames)

    def ask_to_stop(self) -> None:
        """Send it SIGTERM."""
        self._asked_to_stop()

    @property
    def is_over(self) -> bool:
        """Whether it leaves of its own accord."""
        return self._over

    @property
    def status(self) -> int:
        """Its exit status."""
        return self._status


class SimulatedProcess:
    """A node's process, as one daemon holds it."""

    def __init__(self, node: "Node", pid: int) -> None:
        self.pid = pid
        self.node = node

    def begin(self) -> None:
        self.node.begin()

    def kill(self) -> None:
        self.node.world.hours.call_later(0.001, self.node.die)

    def watch(self, reactor: Life, gone: Callable[[], None]) -> None:
        world = self.node.world
        late = world.rng.expovariate(1 / 0.002)

        def ended() -> None:
            reactor.call_later(late, gone)

        if self.node.is_alive:
            world.watchers.append((self.node, ended))
        else:
            ended()


@contextmanager
def simulated(world: "World") -> Iterator[None]:
    """Have the host's modules read the world's clock, draw its numbers and start its nodes."""
    numbers = itertools.count(1)
    with ExitStack() as stack:
        for name, module in tuple(sys.modules.items()):
            if not name.startswith("spiral_host."):
                continue
            for attribute, value in (("time", time), ("random", random)):
                if getattr(module, attribute, None) is value:
                    put = world.hours.clock if attribute == "time" else world.rng
                    stack.enter_context(patch.object(module, attribute, put))
            if getattr(module, "Random", None) is random.Random:
                seeded = lambda: random.Random(world.rng.random())  # noqa: E731
                stack.enter_context(patch.object(module, "Random", seeded))
            if hasattr(module, "token_hex"):
                put_hex: Any = lambda size: f"{next(numbers):0{2 * size}x}"  # noqa: E731
                stack.enter_context(patch.object(module, "token_hex", put_hex))
        stack.enter_context(patch.object(nodes, "start", world.start_node))
        stack.enter_context(patch.object(nodes, "find", world.find_node))
        stack.enter_context(patch.object(nodes, "start_time_of", lambda pid: pid))
        yield


def new_connection(
    hours: Hours,
    rng: random.Random,
    daemon: SimulatedDaemon,
    number: int,
    to_peer: Callable[[bytes], None],
    lost: Callable[[], None],
) -> Connection:
    """Connect to a daemon that listens."""
    key = f"peer {number}".encode()
    return Connection(hours, rng, key, daemon.received, to_peer, lost)


def run_config(folder: Path) -> DaemonConfig:
    """Say how every daemon of a world is started."""
    return DaemonConfig(
        run_dir=folder / "run",
        config_dir=folder / "config",
        sandbox="standard",
        best_effort=True,
    )
