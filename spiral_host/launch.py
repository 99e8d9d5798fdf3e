"""Start a daemon process: detached for an operator, tied to a pipe for an application."""

import contextlib
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Final

from spiral_host.config import DaemonConfig
from spiral_host.rundir import DAEMON_LOG, LOGS, prepare

_MODULE: Final = "spiral_host.daemon"


class DaemonProcess(subprocess.Popen[bytes]):
    """The daemon itself, as its parent sees it.

    It writes to `logs/daemon.log`. A daemon that ends removes that file with all others, but not
    from under us: it is open here, so that the reason for its end can still be read.
    """

    def __init__(self, config: DaemonConfig) -> None:
        logs = config.run_dir / LOGS
        logs.mkdir(mode=0o700, exist_ok=True)
        self._log = (logs / DAEMON_LOG).open("a+b")  # an earlier daemon's words stay readable
        self._since = self._log.seek(0, os.SEEK_END)
        weakref.finalize(self, self._log.close)
        super().__init__(
            # -P: a file of the user's in the working directory must not stand in for one of ours.
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=() if config.owner_fd is None else (config.owner_fd,),
            start_new_session=True,
            env=child_environment(),
        )

    def wait_ended(self, timeout: float) -> int | None:
        """Wait up to so many seconds for its end; give its exit status, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(timeout)
        return None

    def words(self) -> list[str]:
        """Give the lines that it has written."""
        self._log.seek(self._since)
        lines = self._log.read().decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()]

    def last_words(self) -> str:
        """Give why it ended: its last line, or nothing."""
        return next(iter(self.words()[-1:]), "")


def start_daemon(config: DaemonConfig) -> DaemonProcess:
    """Start a daemon; its output goes to `logs/daemon.log` of its run directory.

    It ends with the pipe `config.owner_fd`, or else lives on when whoever started it has gone.

    Raises:
        UsageError: The run directory is none, is not ours, or is open to others.
    """
    prepare(config.run_dir)
    daemon = DaemonProcess(config)
    said = {
        "run_dir": str(config.run_dir),
        "data_dir": None if config.data_dir is None else str(config.data_dir),
        "config_dir": None if config.config_dir is None else str(config.config_dir),
        "sandbox": config.sandbox,
        "best_effort": config.best_effort,
        "plugins": list(config.plugins),
        "alone_s": config.alone_s,
        "owner_fd": config.owner_fd,
    }
    if daemon.stdin is not None:
        with contextlib.suppress(BrokenPipeError), daemon.stdin:  # it says itself why it ended
            daemon.stdin.write(json.dumps(said).encode())
    return daemon


def child_environment() -> dict[str, str]:
    """Give what our own processes are started with: the user's environment, and a way to us."""
    # Our own modules are compiled once and for all, whatever the user prefers for theirs.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    root = str(Path(__file__).resolve().parent.parent)
    path = kept.get("PYTHONPATH")
    return {**kept, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
