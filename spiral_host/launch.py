"""Start a daemon process: detached for an operator, tied to a pipe for an application."""

import json
import os
import subprocess
import sys
from pathlib import Path

from spiral_host.config import DaemonConfig
from spiral_host.rundir import LOGS


def start_daemon(config: DaemonConfig) -> "subprocess.Popen[bytes]":
    """Start a daemon; its output goes to `logs/daemon.log` of its run directory.

    The process is the daemon itself. It ends with the pipe `config.owner_fd`, or else lives on
    when whoever started it has gone.
    """
    logs = config.run_dir / LOGS
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.run_dir.chmod(0o700)
    with (logs / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "spiral_host.daemon"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=() if config.owner_fd is None else (config.owner_fd,),
            start_new_session=True,
            env=_environment(),
        )
    said = {
        "run_dir": str(config.run_dir),
        "data_dir": None if config.data_dir is None else str(config.data_dir),
        "sandbox": config.sandbox,
        "plugins": list(config.plugins),
        "owner_fd": config.owner_fd,
    }
    if daemon.stdin is not None:
        with daemon.stdin:
            daemon.stdin.write(json.dumps(said).encode())
    return daemon


def last_words(run_dir: Path) -> str:
    """Give the last line that a daemon wrote before it ended, or nothing."""
    try:
        lines = (run_dir / LOGS / "daemon.log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
