"""A world of one seed: daemons, nodes, workers, people and faults, all in simulated time.

    faults: things are ordered, edited, killed -> rest: everything that can be ready is
        -> stop: nothing is left

The daemon is the real one; what it talks to is simulated. One `Random` decides everything, so a
seed that fails does so again, step by step.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from protocol.messages import PluginSource
from protocol.plugin import PluginMetadata
from spiral_host.config import DaemonConfig
from spiral_host.registry import Registry
from tests.clock import Clock
from tests.simulation.daemons import (
    Disk,
    SimulatedDaemon,
    SimulatedProcess,
    new_connection,
    run_config,
    simulated,
)
from tests.simulation.hours import Connection, Hours
from tests.simulation.judge import Judge, Violation
from tests.simulation.operators import Operator
from tests.simulation.workers import Code, Node, write_code

START: Final = 1000.0

FAULTS_S: Final = 10.0
"""How long everything goes wrong, in simulated seconds."""

REST_S: Final = 1500.0
"""After the faults everything has settled: six starts that hang for a minute, and their waits."""

RESTED_S: Final = 5.0
"""What has been at rest for so long stays so."""

STOP_S: Final = 35.0
"""After SIGTERM nothing is left: 30 s for the plugins, 5 for the node."""

MAX_TURNS: Final = 1000
"""What happens at one moment is a handful of things."""

KEPT: Final = 40
"""Steps that are printed with a failure."""

_OWN: Final = "abcdef"


class World:
    """Everything there is; lives for one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = Random(seed)
        self.hours = Hours(Clock(START))
        self.folder = folder
        self.disk = Disk()
        self.has_faults = True
        self.is_stopping = False
        self.code: dict[str, Code] = {}
        self.needs: dict[str, list[str]] = {}
        self.nodes: list[Node] = []
        self.watchers: list[tuple[Node, Callable[[], None]]] = []
        self.connections: dict[bytes, Connection] = {}
        self.daemon: SimulatedDaemon | None = None
        self.steps: list[str] = []
        self.judge = Judge(self)
        self._config: DaemonConfig = run_config(folder)
        self._connected = 0
        self._pid = 100
        self._writes = 0
        self.operators = [Operator(self, "ann"), Operator(self, "bob")]
        for number, name in enumerate(_OWN[: self.rng.randint(2, len(_OWN))]):
            earlier = _OWN[:number]
            self.needs[name] = sorted(self.rng.sample(earlier, min(number, self.rng.randint(0, 2))))
            self.edit(name)

    def note(self, what: str) -> None:
        """Write down a step."""
        at = f"{self.hours.now - START:10.4f}"
        self.steps.append(f"{at}  {what}".replace(str(self.folder), ""))

    def new_pid(self) -> int:
        """Give a number that no process has had."""
        self._pid += 1
        return self._pid

    @property
    def registry(self) -> Registry | None:
        """What the daemon knows, while there is one."""
        return self.daemon._registry if self.daemon is not None else None

    # --- plugins ----------------------------------------------------------------------------------

    def edit(self, name: str, code: Code | None = None) -> None:
        """Have somebody write a plugin's code anew."""
        self.code[name] = code = code or write_code(self.rng, self.needs[name])
        self.note(f"code of {name}: {code}")
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        needs = "".join(f'{other} = "*"\n' for other in self.needs[name])
        manifest = f'[plugin]\nid = "{name}"\nversion = "1.0.0"\nentry = "{name}:Plugin"\n'
        declared = f"{manifest}[plugin.dependencies]\n{needs}[supervision]\n{code.supervision}\n"
        self._write(folder / "plugin.toml", declared)
        self._write(folder / f"{name}.py", f"# {code}\n")
        self.judge.edited(name)

    def _write(self, path: Path, text: str) -> None:
        """Write a file, at a simulated time that is its own."""
        path.write_text(text)
        self._writes += 1
        at = int(self.hours.now * 1e9) + self._writes
        os.utime(path, ns=(at, at))

    def plugin_at(self, source: PluginSource) -> str:
        """Say which plugin lies at a place."""
        return Path(source.root).name

    def metadata(self, name: str) -> PluginMetadata:
        """Give what a plugin says of itself."""
        return PluginMetadata(name, "1.0.0", dependencies=dict.fromkeys(self.needs[name], "*"))

    # --- processes --------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """Start a daemon on the run directory, unless one lives."""
        if self.daemon is not None:
            return
        self.daemon = SimulatedDaemon(self, self._config)
        self.note(f"daemon: started, epoch {self.daemon.epoch}")
        self.daemon.start()
        for node in self.nodes:
            node.reconnect()
        for operator in self.operators:
            operator.reconnect()

    def kill_daemon(self) -> None:
        """Kill the daemon; everything else lives on."""
        if self.daemon is not None:
            self.note("daemon: killed")
            self._daemon_ended(self.daemon)

    def _daemon_ended(self, daemon: SimulatedDaemon) -> None:
        daemon.life.is_over = True
        self.daemon = None
        for node in tuple(self.nodes):
            node.daemon_died()
        gone, self.connections = self.connections, {}
        for connection in gone.values():
            connection.daemon_died()

    def connect(
        self, to_peer: Callable[[bytes], None], lost: Callable[[], None]
    ) -> Connection | None:
        """Connect a peer to the daemon, if there is one."""
        if self.daemon is None:
            return None
        self._connected += 1
        connection = new_connection(
            self.hours, self.rng, self.daemon, self._connected, to_peer, lost
        )
        self.connections[connection.key] = connection
        return connection

    def start_node(self, _: DaemonConfig, name: str) -> SimulatedProcess:
        """Stand in for the function that starts a node."""
        node = Node(self, name)
        self.note(f"node: started, pid {node.pid}")
        self.nodes.append(node)
        return SimulatedProcess(node, node.pid)

    def find_node(self, pid: int, _: int) -> SimulatedProcess | None:
        """Stand in for the function that finds a node again."""
        found = [node for node in self.nodes if node.pid == pid and node.is_alive]
        return SimulatedProcess(found[0], pid) if found else None

    def node_died(self, node: Node) -> None:
        """Tell whoever watches it."""
        self.nodes.remove(node)
        watching = [tell for watched, tell in self.watchers if watched is node]
        self.watchers = [one for one in self.watchers if one[0] is not node]
        for tell in watching:
            tell()

    # --- what goes wrong --------------------------------------------------------------------------

    def _again(self, mean_s: float, what: Callable[[], None]) -> None:
        def happen() -> None:
            if self.has_faults:
                what()
                self._again(mean_s, what)

        self.hours.call_later(self.rng.expovariate(1 / mean_s), happen)

    def _begin_faults(self) -> None:
        mean = self.rng.choice([3.0, 8.0, 1000.0])
        self._again(mean, self._replace_daemon)
        self._again(self.rng.choice([15.0, 1000.0]), self._kill_node)
        self._again(self.rng.choice([2.0, 1000.0]), self._kill_worker)
        for operator in self.operators:
            self._again(self.rng.choice([0.5, 2.0, 5.0]), operator.act)

    def _replace_daemon(self) -> None:
        self.kill_daemon()
        self.hours.call_later(self.rng.choice([0.0, 0.1, 1.0, 3.0]), self.start_daemon)

    def _kill_node(self) -> None:
        if self.nodes:
            self.rng.choice(self.nodes).die()

    def _kill_worker(self) -> None:
        workers = [one for node in self.nodes for one in node.workers.values() if one.pid]
        if workers:
            self.rng.choice(workers).die("signal", 9)

    # --- its course -------------------------------------------------------------------------------

    def _pass(self, until: float, is_over: Callable[[], bool]) -> bool:
        moment, turns = 0.0, 0
        while not is_over():
            turns = turns + 1 if self.hours.now == moment else 0
            moment = self.hours.now
            if turns > MAX_TURNS:
                raise Violation("the daemon turns and turns, and no time passes")
            if not self.hours.step(until):
                return is_over()
            if self.daemon is not None and self.daemon.is_over:
                self.note(f"daemon: leaves, status {self.daemon.status}")
                self.daemon._store.close()
                self._daemon_ended(self.daemon)
            self.judge.look()
        return True

    def live(self) -> None:
        """Let everything happen.

        Raises:
            Violation: Something happened that must not.
        """
        with simulated(self):
            self.start_daemon()
            self._load_everything()
            self._begin_faults()
            self._pass(self.hours.now + FAULTS_S, lambda: False)
            self.has_faults = False
            self.note("no more faults")
            self.start_daemon()
            self._rest()
            self._stop()

    def _load_everything(self) -> None:
        names = self.rng.sample(list(self.code), len(self.code))
        if self.rng.random() < 0.5:
            self.operators[0].load(*names)
        else:
            for name in names:
                self.operators[0].load(name)

    def loop_and_die(self) -> None:
        """Load a plugin that dies whenever it loads, and replace the daemon again and again.

        Raises:
            Violation: Its crashes were counted wrongly.
        """
        self.has_faults = False
        self.needs, self.code = {"a": []}, {}
        self.edit("a", Code(load="dies"))
        with simulated(self):
            self.start_daemon()
            self.operators[0].load("a")
            for _ in range(self.rng.randint(0, 10)):
                moment = self.hours.now + self.rng.expovariate(1 / 0.5)
                self.hours.call_at(moment, self._replace_daemon)
            self._pass(self.hours.now + 5.0, lambda: False)
            self._rest()
            self.judge.look_at_loop("a")
            self._stop()

    def stop_the_stubborn(self) -> None:
        """Load plugins that never leave, each needing the one before, and stop the daemon.

        Raises:
            Violation: It took too long, or something is left.
        """
        self.has_faults = False
        self.needs, self.code = {}, {}
        for before, name in zip(["", *_OWN], _OWN, strict=False):
            self.needs[name] = [before] if before else []
            stop_s = self.rng.choice([5, 10, 20])
            self.edit(name, Code(stubborn=True, supervision=f"stop_s = {stop_s}"))
        with simulated(self):
            self.start_daemon()
            self.operators[0].load(*self.code)
            self._rest()
            self._stop()

    def _rest(self) -> None:
        until = self.hours.now + REST_S
        while self._pass(until, lambda: not self.judge.unrest()):
            # What looks at rest may be a crash loop between two crashes.
            self._pass(self.hours.now + RESTED_S, lambda: False)
            if not self.judge.unrest():
                return
        raise Violation(f"no rest in {REST_S:g} s: {self.judge.unrest()}")

    def _stop(self) -> None:
        assert self.daemon is not None
        self.note("the daemon is told to stop")
        self.is_stopping = True
        self.daemon.ask_to_stop()
        if not self._pass(self.hours.now + STOP_S, lambda: self.daemon is None):
            raise Violation(f"not stopped in {STOP_S:g} s")
        if left := self.judge.left():
            raise Violation(left)


def live(seed: int, course: Callable[[World], None] = World.live) -> list[str]:
    """Let a world take its course; give its steps.

    Raises:
        Violation: It came to something that must not happen; the text ends with the last steps.
    """
    with tempfile.TemporaryDirectory(prefix="sim-", dir="/tmp") as folder:
        world = World(seed, Path(folder))
        try:
            course(world)
        except Exception as error:
            last = "\n".join(deque(world.steps, KEPT))
            what = f"{type(error).__name__}: {error}"
            raise Violation(f"seed {seed}: {what}\n{last}") from error
    return world.steps
