"""Start this machine's node, find a living one again, notice its end.

The node is a process of its own, in a session of its own, so that the daemon's death is not its
death. It is known to the daemon only as a module's name.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

from protocol.process import start_time_of
from protocol.reactor import Reactor, Timer
from spiral_host.config import DaemonConfig
from spiral_host.launch import child_environment
from spiral_host.rundir import LOGS

_MODULE: Final = "plugin_worker.node"
_LOG: Final = "node.log"

ADOPTING_S: Final = 2.0
"""How long the bus of a new daemon waits for its peers, seconds."""

RETURN_S: Final = 10.0
"""How long a new daemon waits for the living node of the last one, seconds. It greets within 0.2 s
where a core is free; but to end it ends every worker on it, and a machine may be busy."""

START_S: Final = 15.0
"""How long a new node may take to greet; it compiles itself and probes the kernel, seconds."""

MAX_FAILURES: Final = 6
"""Nodes that end before they greet, one after the other, until it is given up."""


@dataclass(slots=True)
class NodeProcess:
    """A node's process, ours or an earlier daemon's; held by pidfd, so never confused.

    Attributes:
        gate: Write end of the pipe in which it waits for its word to begin, or -1.
    """

    pid: int
    pidfd: int
    gate: int = -1

    def begin(self) -> None:
        """Let it begin: it is written down, and whatever happens to us, the next daemon finds it.

        A node whose daemon dies before that finds the pipe closed and leaves.
        """
        if self.gate >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.gate, b"\n")
            os.close(self.gate)
            self.gate = -1

    def kill(self) -> None:
        """End it by force; its workers end with it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def watch(self, reactor: Reactor, gone: Callable[[], None]) -> None:
        """Call back when it has ended."""

        def ended() -> None:
            reactor.forget(self.pidfd)
            os.close(self.pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            gone()

        reactor.watch(self.pidfd, ended)


class NodeKeeper:
    """Keeps one node alive for its daemon; lives as long as the daemon.

    Args:
        remember: Writes down name, pid and start time, and calls back once they are on disk.
        gone: Called when the node has ended, before another is started.
        hopeless: Called when nodes end as soon as they start.
    """

    def __init__(
        self,
        config: DaemonConfig,
        reactor: Reactor,
        remember: Callable[[str, int, int, Callable[[], None]], None],
        gone: Callable[[str], None],
        hopeless: Callable[[], None],
    ) -> None:
        self.is_wanted = True
        self._config = config
        self._reactor = reactor
        self._remember = remember
        self._gone = gone
        self._hopeless = hopeless
        self._process: NodeProcess | None = None
        self._name = ""
        self._failures = 0
        self._late: Timer | None = None

    @property
    def is_alive(self) -> bool:
        """Whether there is a node process."""
        return self._process is not None

    def find_or_start(self, last: tuple[str, int, int] | None, *, is_lost: bool = False) -> None:
        """Take over the node of the last daemon, if it lives; else start one.

        Args:
            is_lost: Whether the last one was written down and cannot be read any more; if it
                lives it will greet, and two nodes would be in each other's way.
        """
        if is_lost:
            self._late = self._reactor.call_later(RETURN_S, self._start)
            return
        if last is not None:
            self._name, pid, start_time = last
            self._process = find(pid, start_time)
            if self._process is None:
                self._gone(self._name)
        if self._process is None:
            self._start()
        else:
            self._watch(self._process, RETURN_S)

    def arrived(self, name: str, pid: int) -> None:
        """It has greeted the daemon."""
        self._failures = 0
        if self._late is not None:
            self._late.cancel()
        if self._process is None:
            self._take_over(name, pid)

    def _take_over(self, name: str, pid: int) -> None:
        start_time = start_time_of(pid)
        self._process = find(pid, start_time)
        if self._process is None:
            self._start()
            return
        self._name = name
        self._remember(name, pid, start_time, self._process.begin)
        self._process.watch(self._reactor, self._ended)

    def kill(self) -> None:
        """End it by force; its workers end with it."""
        if self._process is not None:
            self._process.kill()

    def _start(self) -> None:
        if not self.is_wanted:
            return
        self._name = f"node:{token_hex(4)}"
        self._process = process = start(self._config, self._name)
        self._remember(self._name, process.pid, start_time_of(process.pid), process.begin)
        self._watch(process, START_S)

    def _watch(self, process: NodeProcess, patience_s: float) -> None:
        process.watch(self._reactor, self._ended)
        self._late = self._reactor.call_later(patience_s, self.kill)

    def _ended(self) -> None:
        self._process = None
        if self._late is not None:
            self._late.cancel()
        self._gone(self._name)
        if not self.is_wanted:
            return
        wait_s = min(10.0, 0.05 * (2**self._failures - 1))
        self._failures += 1
        if self._failures > MAX_FAILURES:
            self._hopeless()
        else:
            self._reactor.call_later(wait_s, self._start)


def start(config: DaemonConfig, name: str) -> NodeProcess:
    """Start a node for this run directory; it waits for `begin`. Its output goes to its own log."""
    logs = config.run_dir / LOGS
    logs.mkdir(mode=0o700, exist_ok=True)
    # -P: a file of the user's in the working directory must not stand in for one of ours.
    command = [sys.executable, "-P", "-m", _MODULE]
    mode = "best-effort" if config.best_effort else "enforce"
    command += [str(config.run_dir), name, config.sandbox, mode, str(config.alone_s)]
    inherited: tuple[int, ...] = ()
    if config.owner_fd is not None:
        command.append(str(config.owner_fd))
        inherited = (config.owner_fd,)
    theirs, gate = os.pipe()
    with (logs / _LOG).open("ab") as log, os.fdopen(theirs) as stdin:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=stdin,
            stdout=log,
            stderr=log,
            pass_fds=inherited,
            start_new_session=True,
            env=child_environment(),
        )
    # Reaped through the pidfd; Popen must not wait for it, nor warn that nobody did.
    process.returncode = 0
    return NodeProcess(process.pid, os.pidfd_open(process.pid), gate)


def last_words(run_dir: Path) -> str:
    """Give the last line that a node wrote, or nothing."""
    try:
        lines = (run_dir / LOGS / _LOG).read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def find(pid: int, start_time: int) -> NodeProcess | None:
    """Find a node that an earlier daemon started; None if it is gone or its pid is another's."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Checked after the pidfd is open: from here on the number cannot change hands.
    if start_time_of(pid) == start_time:
        return NodeProcess(pid, pidfd)
    os.close(pidfd)
    return None
