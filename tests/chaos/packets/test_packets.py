"""Mutated and random packets, at every socket: they cost their sender its connection at most.

All are sent for real, to a real daemon, node and plugins, but for those that only decoders see. The
seed that is printed says the same once more: `pytest tests/chaos/packets --seed N --packets N`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Final, Protocol

import psutil
import pytest

from protocol.process import start_time_of
from spiral_host import Host
from tests.chaos.conftest import Scale, Tell
from tests.chaos.packets.bare import BareRun, new_bare_run
from tests.chaos.packets.callees import Callee
from tests.chaos.packets.decoders import Decoders
from tests.chaos.packets.doors import Control, Events, Greetings, Lane, NodeDoor, Subscriptions
from tests.chaos.packets.mutations import Mutator
from tests.chaos.packets.recording import Conversations, recorded
from tests.chaos.packets.umbilicals import PATIENCE_S, Tally, Umbilicals
from tests.chaos.table import Row

MIB: Final = 1 << 20
GROWS: Final = 32.0
"""What daemon and node may grow by, MiB, whatever they are sent."""

BARE: Final = 12
NEIGHBOURS: Final = ("polite", "relay")
LOOK_S: Final = 0.05


class Attack(Protocol):
    """One way in."""

    tally: Tally

    def attack(self, frames: int) -> None:
        """Send so many."""


SHARES: Final = {
    "decoders": 0.5,
    "event socket": 0.25,
    "control socket": 0.1,
    "subscription socket": 0.06,
    "ZeroMQ's own greeting": 0.03,
    "umbilicals": 0.03,
    "node's client socket": 0.015,
    "lanes, to a callee": 0.013,
    "lanes, to a caller": 0.002,
}
"""How many of the packets go where: what they cost differs by a thousand."""


class Watch:
    """Looks on all the time: whether daemon, node and neighbours answer, and stay the same."""

    def __init__(self, host: Host) -> None:
        self.longest_s = 0.0
        self.looks = 0
        self.failures: list[str] = []
        self._host = host
        self._polite = host.get_service("polite")
        self._is_over = threading.Event()
        status = host.status()
        self._host_pids = [int(status["pid"]), int(status["node_pid"])]
        self._before = self.memory()
        self._alive = self._identities()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def grown(self) -> list[float]:
        """By how much daemon and node have grown, MiB."""
        return [now - before for now, before in zip(self.memory(), self._before, strict=True)]

    def memory(self) -> list[float]:
        """What they use, MiB."""
        return [psutil.Process(pid).memory_info().rss / MIB for pid in self._host_pids]

    def end(self) -> None:
        """Look no more, and say what has changed."""
        self._is_over.set()
        self._thread.join(PATIENCE_S)
        if (now := self._identities()) != self._alive:
            self.failures.append(f"other processes: {self._alive} before, now {now}")

    def _identities(self) -> dict[str, tuple[int, int]]:
        """Give each process that must live on, by number and the time when it began."""
        pids = {info.id: info.pid for info in self._host.list_plugins() if info.id in NEIGHBOURS}
        named = {**pids, "daemon": self._host_pids[0], "node": self._host_pids[1]}
        return {name: (pid, start_time_of(pid)) for name, pid in named.items() if pid}

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_S):
            began = time.monotonic()
            try:
                self._host.status()
                self._host.health()
                total = self._polite.add(1, self.looks, timeout=PATIENCE_S)
                assert total == 1 + self.looks
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.failures.append(repr(error))
            self.looks += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)


@pytest.fixture
def bare() -> Iterator[BareRun]:
    """A host with neighbours, and plugins whose every word is the test's."""
    with new_bare_run(BARE, *NEIGHBOURS) as run:
        yield run


def test_no_packet_harms_anybody_but_its_sender(bare: BareRun, scale: Scale, tell: Tell) -> None:
    """No crash, no hang, no growth; neighbours answer all the time and are never started anew."""
    frames = recorded(bare.run, bare.host)
    watch, rows = Watch(bare.host), []
    hung: list[str] = []
    wrong: list[str] = []
    for name, begin in ways(bare, frames, scale.seed).items():
        with ExitStack() as opened:
            attack = begin(opened)
            attack.attack(max(1, int(scale.packets * SHARES[name])))
        tally = attack.tally
        rows.append(Row(what=f"hangs: {name}", found=len(tally.hung), of=tally.sent, most=0))
        hung += [f"{name}: {packet[:300]!r}" for packet in tally.hung]
        wrong += getattr(attack, "wrong", [])
    watch.end()
    node_log = (bare.run.run_dir / "logs" / "node.log").read_text()
    said = [*bare.run.daemon.words(), *node_log.splitlines()]
    bugs = [line for line in said if "Traceback" in line]
    sent = sum(row.of or 0 for row in rows)
    daemon_mib, node_mib = watch.grown
    tell(
        f"mutated packets, seed {scale.seed}",
        [
            *rows,
            Row(what="wrong exceptions, bugs, crashes", found=len(wrong + bugs), of=sent, most=0),
            Row(what="neighbours without an answer", found=len(watch.failures), of=watch.looks),
            Row(what="longest look at all of them", found=watch.longest_s, unit="s"),
            Row(what="the daemon grew by", found=daemon_mib, unit="MiB", most=GROWS),
            Row(what="the node grew by", found=node_mib, unit="MiB", most=GROWS),
        ],
    )
    assert (hung, wrong, watch.failures) == ([], [], [])
    assert not bugs, said
    assert watch.longest_s < PATIENCE_S
    assert max(daemon_mib, node_mib) < GROWS


def ways(
    bare: BareRun, frames: Conversations, seed: int
) -> dict[str, Callable[[ExitStack], Attack]]:
    """Give every way in; what it opens is closed with the stack."""
    run_dir = str(bare.run.run_dir)

    def of(kind: str) -> Mutator:
        return Mutator(seed, frames[kind])

    def control(opened: ExitStack) -> Control:
        return opened.enter_context(closing(Control(run_dir, of("control"))))

    def events(opened: ExitStack) -> Events:
        return opened.enter_context(closing(Events(run_dir, of("events"), control(opened))))

    def subscriptions(opened: ExitStack) -> Subscriptions:
        return opened.enter_context(closing(Subscriptions(run_dir, of("subscriptions"))))

    def door(opened: ExitStack) -> NodeDoor:
        return opened.enter_context(closing(NodeDoor(control(opened), of("umbilical"))))

    def lane(opened: ExitStack) -> Lane:
        return opened.enter_context(closing(Lane(door(opened), of("lane"), "recorder")))

    def umbilicals(opened: ExitStack) -> Umbilicals:
        bare.load()
        return opened.enter_context(closing(Umbilicals(bare, of("umbilical"))))

    def callee(opened: ExitStack) -> Callee:
        relay = bare.host.get_service("relay")
        return opened.enter_context(closing(Callee(bare, of("lane"), relay)))

    return {
        "decoders": lambda _: Decoders(frames, seed),
        "control socket": control,
        "event socket": events,
        "subscription socket": subscriptions,
        "ZeroMQ's own greeting": lambda _: Greetings(run_dir, of("control")),
        "node's client socket": door,
        "lanes, to a callee": lane,
        "umbilicals": umbilicals,
        "lanes, to a caller": callee,
    }
