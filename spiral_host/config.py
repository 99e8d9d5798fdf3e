"""The operator's choices as frozen records, and where a daemon lives when nobody says."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.errors import UsageError

SANDBOXES: Final = ("standard", "strict", "off")
"""`standard`: what the kernel gives every process. `strict`: namespaces too, by bubblewrap. `off`:
no confinement, and every status says so."""

MAX_SOCKET_PATH: Final = 107
"""Bytes: the kernel's `sun_path` holds 108 with its terminator."""

ALONE_S: Final = 600.0
"""Seconds: long enough to start a daemon again by hand, and no night of work for nobody. (kubelet
never gives up; here an operator who has gone home wants the machine back.)"""

MIN_ALONE_S: Final = 1.0
"""Seconds: a node starts before its daemon can greet it, and waits for a new one to take over."""

CHOICES: Final = "spiral.toml"
"""What the operator has chosen for every plugin; lies beside the grants."""
GRANTS: Final = "grants.toml"
OPERATOR_FILES: Final = (CHOICES, GRANTS)

MAX_LINKS: Final = 40
"""The kernel follows no more."""

LONGEST_SOCKET: Final = "events-out.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """What one daemon is told when it starts.

    Attributes:
        run_dir: Its sockets, logs and store; one living daemon each.
        data_dir: Holds one folder for each plugin's data; `<run_dir>/data` when None.
        plugins: Places that are loaded once it serves.
        config_dir: Holds `spiral.toml` and the grants; the user's own when None.
        sandbox: One of `SANDBOXES`; empty is what `spiral.toml` says, else `standard`.
        best_effort: Whether to start where a layer is missing; None is what `spiral.toml` says.
        alone_s: How long its node goes on without any daemon, seconds; then plugins stop.
        owner_fd: Read end of the pipe of the application that embeds it; its end ends the daemon.

    Raises:
        UsageError: The sandbox is unknown, the run directory's path too long for a socket, or the
            node's patience no time.
    """

    run_dir: Path
    data_dir: Path | None = None
    config_dir: Path | None = None
    sandbox: str = ""
    best_effort: bool | None = None
    plugins: tuple[str, ...] = ()
    alone_s: float = ALONE_S
    owner_fd: int | None = None

    def __post_init__(self) -> None:
        if self.sandbox and self.sandbox not in SANDBOXES:
            raise UsageError(f"no sandbox {self.sandbox!r}; choose one of {', '.join(SANDBOXES)}")
        if not MIN_ALONE_S <= self.alone_s < math.inf:
            raise UsageError(
                f"no node can be alone for {self.alone_s:g} s; choose {MIN_ALONE_S:g} or more"
            )
        check_run_dir(self.run_dir)

    @property
    def data(self) -> Path:
        """Where plugins' data lies."""
        return self.data_dir if self.data_dir is not None else self.run_dir / "data"

    @property
    def operator_dir(self) -> Path:
        """Where the operator's own files lie."""
        return self.config_dir if self.config_dir is not None else default_config_dir()


def check_run_dir(run_dir: Path) -> None:
    """Make sure that sockets can lie in this directory.

    Raises:
        UsageError: Its path is too long; the text says by how much.
    """
    length = len(os.fsencode(run_dir / LONGEST_SOCKET))
    if length > MAX_SOCKET_PATH:
        excess = length - MAX_SOCKET_PATH
        raise UsageError(
            f"run directory {run_dir} is {excess} bytes too long for a unix socket; "
            "choose a shorter --run-dir"
        )


def ways(path: Path) -> list[Path]:
    """Name every file by which a path is reached: itself, and each that its links name.

    Whoever may change the folder of one of them decides where it leads.
    """
    names = []
    for _ in range(MAX_LINKS):
        path = Path(os.path.realpath(path.parent)) / path.name
        names.append(path)
        try:
            path = path.parent / path.readlink()
        except OSError:
            break  # no link
    return names


def default_config_dir() -> Path:
    """Give `$SPIRAL_HOST_CONFIG_DIR`, else a folder among the user's settings."""
    named = os.environ.get("SPIRAL_HOST_CONFIG_DIR")
    if named:
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "spiral-host"


def default_run_dir() -> Path:
    """Give `$SPIRAL_HOST_RUN_DIR`, else a folder of the user's run-time directory or of /tmp."""
    named = os.environ.get("SPIRAL_HOST_RUN_DIR")
    if named:
        return Path(named)
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session:
        return Path(session) / "spiral-host"
    return Path(f"/tmp/spiral-host-{os.getuid()}")  # noqa: S108 - 0700 and checked when opened
