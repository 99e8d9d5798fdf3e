"""Open the way from a command to a daemon; the client is imported only when it is needed.

`--help` and wrong usage must not pay for ZeroMQ, so each function here imports late. Tests hand
in a `Door` of their own.
"""

import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from protocol.errors import NoDaemon
from spiral_host.config import DaemonConfig, default_run_dir
from spiral_host.rundir import STORE

if TYPE_CHECKING:
    from spiral_host import Host

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to find a daemon; one that takes over answers as soon as its node has greeted it."""


class DaemonProcess(Protocol):
    """What `start` needs of the process it started."""

    @property
    def pid(self) -> int: ...

    def wait_ended(self, timeout: float) -> int | None:
        """Wait up to so many seconds for its end; give its exit status, None while it runs."""

    def words(self) -> list[str]:
        """Give the lines that it has written."""

    def terminate(self) -> None:
        """Ask it to end; harmless when it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The ways out of the command line.

    Attributes:
        connect: Run directory and seconds to a host; raises `NoDaemon`.
        start: Starts a detached daemon.
        run: Is the daemon, in the foreground; returns its exit status.
        watch: A pid to a function that waits up to so many seconds for that process to end
            and says whether it did.
    """

    connect: "Callable[[Path, float], Host]"
    start: Callable[[DaemonConfig], DaemonProcess]
    run: Callable[[DaemonConfig], int]
    watch: Callable[[int], Callable[[float], bool]]


class Target:
    """Which daemon the command is about, and the door to it."""

    def __init__(self, door: Door, given: str | None) -> None:
        self.door = door
        self.given = given

    @property
    def run_dir(self) -> Path:
        """Give the daemon's run directory, absolute."""
        return (Path(self.given) if self.given else default_run_dir()).absolute()

    def connect(self, timeout: float = CONNECT_TIMEOUT) -> "Host":
        """Connect to the running daemon.

        Raises:
            NoDaemon: Nobody answered within `timeout` seconds.
        """
        try:
            return self.door.connect(self.run_dir, timeout)
        except NoDaemon as error:
            if error.why or not (self.run_dir / STORE).exists():
                raise
            why = "the last one was killed; the next one takes over its plugins"
            raise NoDaemon(error.run_dir, why) from None


def _connect(run_dir: Path, timeout: float) -> "Host":
    from spiral_host import Host  # noqa: PLC0415 - brings ZeroMQ

    return Host.connect(run_dir, timeout)


def _start(config: DaemonConfig) -> DaemonProcess:
    from spiral_host.launch import start_daemon  # noqa: PLC0415 - only start needs it

    return start_daemon(config)


def _run(config: DaemonConfig) -> int:
    from spiral_host.daemon import run  # noqa: PLC0415 - brings ZeroMQ

    return run(config)


def _watch(pid: int) -> Callable[[float], bool]:
    """Hold a pidfd, so that a later process with the same pid is not mistaken for it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return lambda _timeout: True

    def wait_ended(timeout: float) -> bool:
        try:
            return bool(select.select([pidfd], [], [], timeout)[0])
        finally:
            os.close(pidfd)

    return wait_ended


REAL: Final = Door(connect=_connect, start=_start, run=_run, watch=_watch)
