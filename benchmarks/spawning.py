"""From a node's order to a worker that is confined and told, and on to a plugin that is ready.

The node's own parts are driven here in this process, without ZeroMQ: what is measured is the
fork, the confinement, the umbilical and the plugin's import, not the daemon.
"""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import zmq

from benchmarks import bare
from benchmarks.figures import Figure
from benchmarks.hosts import PLUGINS
from benchmarks.rounds import medians
from plugin_worker.node.bubblewrap import Bubblewrap
from plugin_worker.node.cgroups import Cgroups
from plugin_worker.node.feeds import Feeds
from plugin_worker.node.litter import Litter
from plugin_worker.node.notices import Notices
from plugin_worker.node.profiles import Profiles
from plugin_worker.node.remains import Gathered
from plugin_worker.node.segments import Request
from plugin_worker.node.workers import Workers
from plugin_worker.node.zygote_link import CALM_S, ZygoteLink
from plugin_worker.sandbox.policy import PROFILES
from plugin_worker.sandbox.probe import probe
from protocol.messages import (
    FROM_WORKER,
    TO_WORKER,
    Confined,
    EndWorker,
    Exited,
    Explain,
    FromNode,
    Held,
    Loaded,
    LoadPlugin,
    PluginSource,
    Relay,
    SpawnWorker,
    WaitOver,
)
from protocol.peer import BusPeer
from protocol.plugin import PluginMetadata
from protocol.reactor import Reactor

ROUNDS: Final = 15
REST_S: Final = 3 * CALM_S
_PLUGIN: Final = "victim"
_SOURCE: Final = PluginSource(root=str(PLUGINS / _PLUGIN), entry="victim:Victim")


class _Nursery:
    """A node without a daemon: starts one worker after the other and takes the time."""

    def __init__(self, folder: Path, missing: dict[str, str], profile: str) -> None:
        self._folder = folder
        self._incarnation = 0
        self._confined_at = self._ready_at = self._gone_at = 0.0
        self._reactor = Reactor()
        groups = Cgroups.of_this_machine()
        self._profile = profile
        profiles = Profiles(missing, best_effort=True)
        for name in ("tmp", "logs"):
            (folder / name).mkdir()
        self._zygote = ZygoteLink(self._reactor, folder / "lib", folder / "tmp" / "zygote")
        feeds = Feeds(self._reactor, lambda _, __: None, lambda *_: None)
        address = f"ipc://{folder}/nobody.sock"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        feeds.peer = BusPeer(self._reactor, self._context, (address, address), feeds)
        self._bubblewrap = Bubblewrap(self._reactor, folder / "lib")
        ways = self._zygote, self._bubblewrap, profiles
        notices = Notices(self._reactor, self.tell_daemon)
        self._workers = Workers(
            self._reactor, folder, *ways, feeds, Litter(), groups, notices, self
        )

    def tell_daemon(self, message: FromNode) -> None:
        """Keep when what was waited for came."""
        now = time.perf_counter()
        if isinstance(message, Confined):
            self._confined_at = now
        elif isinstance(message, Relay) and isinstance(FROM_WORKER.decode(message.body), Loaded):
            self._ready_at = now

    def ended(self, _: Exited, __: Gathered) -> None:
        """Keep when it ended."""
        self._gone_at = time.perf_counter()

    def lane_closed(self, lane: int, callee: int) -> None:
        """Take no notice."""

    def death_asked(self, incarnation: int, question: Explain) -> None:
        """Take no notice."""

    def wait_told(self, incarnation: int, message: Held | WaitOver) -> None:
        """Take no notice."""

    def segment_asked(self, incarnation: int, message: Request) -> None:
        """Take no notice."""

    def confined_ms(self) -> float:
        """Give the time from the order to a worker that is confined and listens."""
        self._rest()
        return self._life()[0]

    def ready_ms(self) -> float:
        """Give the time from the order to the word that the plugin is ready."""
        self._rest()
        return self._life()[1]

    def in_a_row_ms(self) -> float:
        """Give the same as `confined_ms` where the node has just started another."""
        return self._life()[0]

    def _rest(self) -> None:
        """Wait as long as nobody wants a worker, until there is a spare."""
        deadline = time.monotonic() + REST_S
        while (left := deadline - time.monotonic()) > 0:
            self._reactor.turn(left)

    def _life(self) -> tuple[float, float]:
        self._incarnation += 1
        self._confined_at = self._ready_at = self._gone_at = 0.0
        data = str(self._folder / "data")
        began = time.perf_counter()
        self._workers.spawn(
            SpawnWorker(
                incarnation=self._incarnation,
                plugin_id=_PLUGIN,
                source=_SOURCE,
                data_dir=data,
                profile=self._profile,
            )
        )
        self._turn_until("_confined_at")
        metadata = PluginMetadata(_PLUGIN, "1.0.0").to_wire()
        load = LoadPlugin(
            source=_SOURCE,
            metadata=metadata,
            data_dir=data,
            events=(),
            concurrency=1,
            reentrant=True,
        )
        self._workers.relay(self._incarnation, TO_WORKER.encode(load))
        self._turn_until("_ready_at")
        self._workers.end(EndWorker(self._incarnation, "measured", True))
        self._turn_until("_gone_at")
        return (self._confined_at - began) * 1e3, (self._ready_at - began) * 1e3

    def _turn_until(self, moment: str) -> None:
        deadline = time.monotonic() + 20.0
        while not getattr(self, moment):
            self._reactor.turn(1.0)
            if time.monotonic() > deadline:
                raise SystemExit(f"the worker did not get so far: {moment}")

    def close(self) -> None:
        """End the zygote and everything else."""
        self._zygote.close()
        self._bubblewrap.close()
        self._workers.close(1.0)
        self._reactor.close()
        self._context.destroy(linger=0)


@contextlib.contextmanager
def _nursery(profile: str = "standard") -> Iterator[_Nursery]:
    missing = {layer: why for layer, why in probe(PROFILES[profile]).items() if why}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        nursery = _Nursery(Path(folder), missing, profile)
        try:
            yield nursery
        finally:
            nursery.close()


def _fresh_interpreter_ms() -> float:
    began = time.perf_counter()
    with subprocess.Popen(bare.IMPORTS, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        took = time.perf_counter() - began
    if not said:
        raise SystemExit("a fresh interpreter could not import zmq and msgpack")
    return took * 1e3


def measure() -> list[Figure]:
    """Compare with a fresh interpreter that imports ZeroMQ and msgpack."""
    with _nursery() as nursery:
        seen = medians(
            {
                "confined": nursery.confined_ms,
                "ready": nursery.ready_ms,
                "in a row": nursery.in_a_row_ms,
                "fresh": _fresh_interpreter_ms,
            },
            ROUNDS,
        )
    told, ready = "spawn to confined and told", "spawn to plugin ready"
    first = Figure(
        what=told,
        value=seen["confined"],
        unit="ms",
        baseline="fresh interpreter, zmq + msgpack",
        baseline_value=seen["fresh"],
        goal=0.15,
        goal_is_ratio=True,
    )
    others = {f"{told}, one right after another": seen["in a row"], ready: seen["ready"]}
    return [
        first,
        *(replace(first, what=what, value=value, goal=None) for what, value in others.items()),
    ]
