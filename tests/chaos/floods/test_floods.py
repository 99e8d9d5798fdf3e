"""Six plugins at once, each with a flood of its own: nobody else dies, waits or grows.

`pytest tests/chaos/floods --flood-s 20` lets them flood for so long and prints the figures.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from protocol.process import start_time_of
from spiral_host import Host
from tests.chaos.conftest import Scale, Tell
from tests.chaos.table import Row
from tests.hosts import DEADLINE, Run, all_ready, eventually

TORRENT: Final = Path(__file__).parent / "plugins" / "torrent"
FLOODS: Final = ("log", "event", "packet", "descriptor", "memory", "process")
NEIGHBOURS: Final = ("polite", "relay", "subscriber")

MIB: Final = 1 << 20
GROWS: Final = 32.0
"""What daemon and node may grow by, MiB."""

PROMISED_S: Final = 0.2
"""How long daemon and node take for an answer, of a hundred times all but one."""

BUSY: Final = 5.0
"""So much longer in a run of all tests: others want the processor too. And answers are few: the
longest of them says how long the machine stood still once, so that the half of them has to do."""

ANSWERS: Final = 30
"""The floods go on until everybody has answered so often."""

LOOK_S: Final = 0.03


class Clock:
    """Asks the same question all the time and keeps how long each answer took."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self.times: list[float] = []
        self.failures: list[str] = []
        self._ask = ask
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def took_s(self, share: float) -> float:
        """Say how long this share of the answers took at most, seconds."""
        return sorted(self.times)[int(len(self.times) * share)]

    def end(self) -> None:
        """Ask no more."""
        self._is_over.set()
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        while not self._is_over.wait(LOOK_S):
            began = time.monotonic()
            try:
                self._ask()
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.failures.append(repr(error))
            self.times.append(time.monotonic() - began)


def test_six_floods_at_once_harm_nobody(run: Run, tmp_path: Path, scale: Scale, tell: Tell) -> None:
    """Neighbours live on and answer; daemon and node answer soon, and stay small."""
    host = run.start(*NEIGHBOURS)
    torrents = load_torrents(host, tmp_path)
    host.get_service("subscriber").subscribe("Flood.*")
    before, alive = memory(host), identities(host)
    polite = host.get_service("polite")
    clocks = {
        "the daemon": Clock(host.status),
        "the node": Clock(host.health),
        "a neighbour": Clock(lambda: polite.echo(1)),
    }
    for what, torrent in torrents.items():
        torrent.start(what)
    began = time.monotonic()

    def flooded_s() -> float:
        """Say how long they have flooded once that is long enough."""
        took_s = time.monotonic() - began
        is_enough = all(len(clock.times) >= ANSWERS for clock in clocks.values())
        return took_s if is_enough and took_s >= scale.flood_s else 0.0

    took_s = eventually(flooded_s, scale.flood_s + DEADLINE)
    for clock in clocks.values():
        clock.end()
    for torrent in torrents.values():
        torrent.stop()
    eventually(lambda: all(torrent.is_over() for torrent in torrents.values()))
    grown = [now - then for now, then in zip(memory(host), before, strict=True)]
    done = {what: torrent.count() for what, torrent in torrents.items()}
    tell(f"six floods at once, {scale.flood_s} s", list(rows(done, took_s, clocks, grown)))
    assert all(done.values()), done
    assert identities(host) == alive
    assert not [failure for clock in clocks.values() for failure in clock.failures]
    share, promised_s = (0.99, PROMISED_S) if scale.flood_s > 5 else (0.5, PROMISED_S * BUSY)
    assert max(clock.took_s(share) for clock in clocks.values()) < promised_s
    assert max(grown) < GROWS


def rows(
    done: dict[str, int], seconds: float, clocks: dict[str, Clock], grown: list[float]
) -> Iterator[Row]:
    """Give what is printed."""
    for what, count in done.items():
        yield Row(what=f"flood of {what}", found=count / seconds, unit="/s")
    for who, clock in clocks.items():
        yield Row(
            what=f"{who} answers, p99",
            found=1000 * clock.took_s(0.99),
            unit="ms",
            of=len(clock.times),
            most=1000 * PROMISED_S,
        )
    for who, mib in zip(("daemon", "node"), grown, strict=True):
        yield Row(what=f"the {who} grew by", found=mib, unit="MiB", most=GROWS)


def load_torrents(host: Host, folder: Path) -> dict[str, Any]:
    """Load one plugin for each flood; give a stub of each."""
    text = (TORRENT / "torrent.py").read_text()
    manifest = (TORRENT / "plugin.toml").read_text()
    for what in FLOODS:
        (folder / what).mkdir()
        (folder / what / "torrent.py").write_text(text)
        (folder / what / "plugin.toml").write_text(manifest.replace('"torrent"', f'"{what}"', 1))
    assert all_ready(host.load(folder))
    return {what: host.get_service(what) for what in FLOODS}


def memory(host: Host) -> list[float]:
    """Give what daemon and node use, MiB."""
    status = host.status()
    pids = (int(status["pid"]), int(status["node_pid"]))
    return [psutil.Process(pid).memory_info().rss / MIB for pid in pids]


def identities(host: Host) -> dict[str, tuple[int, int]]:
    """Give each process by its number and the time when it began."""
    status = host.status()
    pids = {info.id: info.pid for info in host.list_plugins()}
    named = {**pids, "daemon": int(status["pid"]), "node": int(status["node_pid"])}
    return {name: (pid, start_time_of(pid)) for name, pid in named.items() if pid}
