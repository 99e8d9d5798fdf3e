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
from typing import Final

import psutil

from protocol.reactor import Reactor
from spiral_host.config import DaemonConfig
from spiral_host.rundir import LOGS

_MODULE: Final = "plugin_worker.node"


@dataclass(slots=True)
class NodeProcess:
    """A node's process, ours or an earlier daemon's; held by pidfd, so never confused."""

    pid: int
    pidfd: int

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


def start(config: DaemonConfig, name: str) -> NodeProcess:
    """Start a node for this run directory. Its own output goes to a log of its own."""
    logs = config.run_dir / LOGS
    logs.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", _MODULE, str(config.run_dir), name, config.sandbox]
    inherited: tuple[int, ...] = ()
    if config.owner_fd is not None:
        command.append(str(config.owner_fd))
        inherited = (config.owner_fd,)
    with (logs / "node.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=inherited,
            start_new_session=True,
            env=_environment(),
        )
    # Reaped through the pidfd; Popen must not wait for it, nor warn that nobody did.
    process.returncode = 0
    return NodeProcess(process.pid, os.pidfd_open(process.pid))


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


def start_time_of(pid: int) -> int:
    """Give a process's start, in clock ticks since boot; 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def memory_of(pid: int) -> int:
    """Give a process's resident memory, bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def _environment() -> dict[str, str]:
    # Our own modules are compiled once and for all, whatever the user prefers for theirs.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    root = str(Path(__file__).resolve().parent.parent)
    path = kept.get("PYTHONPATH")
    return {**kept, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
