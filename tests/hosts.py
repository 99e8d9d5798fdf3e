"""Real hosts for tests, each on a run directory of its own, of which nothing may be left.

Tests wait for an event under a deadline; where none exists, `eventually` looks now and then.
"""

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

import psutil

from spiral_host import Host, LoadResult, NoDaemon
from spiral_host.config import ALONE_S, DaemonConfig
from spiral_host.launch import DaemonProcess, start_daemon
from spiral_host.rundir import AUDIT, CRASHES, REFUSALS

DEADLINE: Final = 20.0
"""Seconds for anything that a free machine does in one or two."""

STOP_S: Final = 45.0
"""Seconds for the end of a daemon: 30 are its own to stop everything, and 5 its node's to leave."""

HANGS: Final = "hang_s = 6"
"""Of a table `[supervision]`: soon, but longer than a busy machine lets who is well stand still."""

PLUGINS: Final = Path(__file__).parent / "plugins"
SANDBOX: Final = "standard"

T = TypeVar("T")


def eventually(predicate: Callable[[], T], deadline_s: float = DEADLINE) -> T:
    """Give the first true answer. Only for what no event announces."""
    until = time.monotonic() + deadline_s
    while not (answer := predicate()):
        assert time.monotonic() < until, f"not within {deadline_s:g} s"
        time.sleep(0.005)
    return answer


def run_out(
    call: Callable[[float], object], has_begun: Callable[[], object], at_first_s: float
) -> None:
    """Have a call run out of its time, which is given to `call`, after it has begun.

    On a busy machine a call may be read when its time is up: then it never begins, nothing is seen
    of what was to be seen, and it is given more time.
    """
    for times in (1, 5, 25):
        call(times * at_first_s)
        if has_begun():
            return
    raise AssertionError(f"it has not begun within {25 * at_first_s:g} s")


def plugin(name: str) -> str:
    """Give the path of one of the tests' own plugins."""
    return str(PLUGINS / name)


def all_ready(results: list[LoadResult]) -> bool:
    """Say whether every plugin is usable; complain with the reasons if not."""
    failed = {result.path: result.reason for result in results if not result.ok}
    assert not failed, failed
    return True


class Watch:
    """Holds on to a process, whoever its parent is, so that no other is mistaken for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it."""
        signal.pidfd_send_signal(self._pidfd, number)

    def has_ended(self, deadline_s: float = DEADLINE) -> bool:
        """Wait for its end; False at the deadline."""
        return bool(select.select([self._pidfd], [], [], deadline_s)[0])

    def __del__(self) -> None:
        with suppress(AttributeError):
            os.close(self._pidfd)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process and wait until it has ended."""
    watch = Watch(pid)
    watch.kill(number)
    assert watch.has_ended()


def zygote_of(host: Host) -> int:
    """Find what forks the node's workers: the eldest of its children that are none.

    There may be a spare as well, which the zygote has forked.
    """
    workers = {plugin.pid for plugin in host.list_plugins()}
    children = psutil.Process(host.status()["node_pid"]).children()
    others = [child for child in children if child.pid not in workers]
    return min(others, key=lambda child: (child.create_time(), child.pid)).pid


class Run:
    """One run directory and whatever runs on it."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="sh-", dir="/tmp"))
        self.run_dir = self._base / "run"
        self.data_dir = self._base / "data"
        self.config_dir = self._base / "config"
        self._hosts: list[Host] = []
        self._daemons: list[DaemonProcess] = []

    def embed(self, *plugins: str, sandbox: str = SANDBOX, best_effort: bool = True) -> Host:
        """Start a host as an application does, with these of the tests' plugins."""
        host = Host(
            [plugin(name) for name in plugins],
            run_dir=self.run_dir,
            data_dir=self.data_dir,
            config_dir=self.config_dir,
            sandbox=sandbox,
            best_effort=best_effort,
        )
        self._hosts.append(host)
        return host

    def start(self, *plugins: str) -> Host:
        """Start a detached daemon, as an operator does, and connect to it."""
        self.start_daemon()
        host = self.connect()
        self.load(host, *plugins)
        return host

    def load(self, host: Host, *plugins: str) -> None:
        """Load these of the tests' plugins."""
        assert all_ready(host.load([plugin(name) for name in plugins]))

    def start_daemon(self, *, alone_s: float = ALONE_S, sandbox: str = SANDBOX) -> DaemonProcess:
        """Start a detached daemon; connect when it answers."""
        daemon = start_daemon(
            DaemonConfig(
                run_dir=self.run_dir,
                data_dir=self.data_dir,
                config_dir=self.config_dir,
                sandbox=sandbox,
                best_effort=True,
                alone_s=alone_s,
            )
        )
        self._daemons.append(daemon)
        return daemon

    def connect(self) -> Host:
        """Connect to the daemon as soon as it answers."""
        host = eventually(self._try_to_connect)
        assert host is not None
        self._hosts.append(host)
        return host

    def _try_to_connect(self) -> Host | None:
        try:
            return Host.connect(self.run_dir, DEADLINE)
        except NoDaemon:
            assert self.daemon.poll() is None, self.daemon.last_words()
            return None

    def kill_daemon(self) -> None:
        """Kill the last daemon that was started; nodes and workers live on."""
        self._daemons[-1].kill()
        self._daemons[-1].wait(DEADLINE)

    @property
    def daemon(self) -> DaemonProcess:
        """The last daemon that was started."""
        return self._daemons[-1]

    def processes(self) -> list[int]:
        """Find every node, zygote and worker of this run: their command lines name it."""
        return [process.pid for process in self._processes()]

    def _processes(self) -> list[psutil.Process]:
        mark = str(self._base)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and mark in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def finish(self) -> None:
        """End everything in order; complain about whatever is left."""
        try:
            for daemon in self._daemons:
                daemon.terminate()
                daemon.wait(STOP_S)
            for host in self._hosts:
                host.shutdown() if host._daemon is not None else host.close()
            left = [*self.files(), *self._processes()]
            log = self.run_dir / "logs" / "daemon.log"
            said = log.read_text(errors="replace") if log.exists() else ""
        finally:
            self._clear_away()
        assert not left, f"{left} is left; the daemon said: {said}"

    def files(self) -> list[str]:
        """Name what lies in the run directory, and itself, but for what outlives a run."""
        stays = tuple(str(self.run_dir / name) for name in (CRASHES, AUDIT, REFUSALS))
        # Unlike `rglob`, this does not mind a folder that goes while it looks.
        walk = os.walk(self.run_dir)
        there = [str(Path(folder, name)) for folder, *names in walk for name in chain(*names)]
        found = [Path(path) for path in there if not path.startswith(stays)]
        if there and not found:
            return []
        return [str(path) for path in (self.run_dir, *found) if path.exists()]

    def _clear_away(self) -> None:
        for process in self._processes():
            with suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self._base, ignore_errors=True)


@contextmanager
def new_run() -> Iterator[Run]:
    """Make a run and finish it, whatever happens between."""
    run = Run()
    try:
        yield run
    except BaseException:
        with suppress(Exception):
            run.finish()
        raise
    run.finish()
