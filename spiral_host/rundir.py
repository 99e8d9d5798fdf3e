"""The run directory: taken by one living daemon, emptied at its end but for what is read later.

A second `bind` on a unix socket's path silently steals it, so the directory is the lock: 0700,
ours, and flock'ed for as long as the daemon lives.
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from protocol.errors import UsageError
from protocol.folders import remove_folder

CONTROL: Final = "control.sock"
EVENTS_IN: Final = "events-in.sock"
EVENTS_OUT: Final = "events-out.sock"
NODE: Final = "node.sock"
STORE: Final = "state.db"
ASIDE: Final = ".unreadable"
"""What the name of a store that was moved aside ends with; a later one takes its place."""
SHUT: Final = ".shut"
"""What the name of a socket ends with while nobody new is let in."""
LOCK: Final = "lock"
LOGS: Final = "logs"
CRASHES: Final = "crashes"
"""Outlives the run, for whoever asks afterwards why a plugin died."""
AUDIT: Final = "audit.jsonl"
"""Outlives the run, too: what was granted, revoked, blocked and changed."""
REFUSALS: Final = "refusals.jsonl"
"""Outlives the run, too: what plugins were refused. They choose how much that is."""
DAEMON_LOG: Final = "daemon.log"

_DOORS: Final = (CONTROL, EVENTS_IN, EVENTS_OUT)

_OF_THE_RUN: Final = (
    *_DOORS,
    *(door + SHUT for door in _DOORS),
    NODE,
    *(f"{STORE}{aside}{part}" for aside in ("", ASIDE) for part in ("", "-wal", "-shm")),
)


_OF_THE_NODE: Final = ("lib", "tmp")
"""Folders that a node removes itself, unless it was ended by force."""


class RunDirTaken(UsageError):
    """A living daemon serves this run directory."""


class RunDir:
    """One daemon's hold on its run directory; lives as long as the daemon.

    Raises:
        UsageError: The directory belongs to somebody else, or is open to others.
        RunDirTaken: It has a daemon.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        prepare(path)
        self._lock = self._take_lock()

    def socket(self, name: str) -> str:
        """Give the ZeroMQ address of one of its sockets."""
        return f"ipc://{self.path / name}"

    def clear_sockets(self) -> None:
        """Remove what a daemon that was killed left behind; the node's socket is the node's."""
        for name in _DOORS:
            (self.path / name).unlink(missing_ok=True)
            (self.path / (name + SHUT)).unlink(missing_ok=True)

    @property
    def is_ours(self) -> bool:
        """Whether it is still there, and nobody has made another one in its place."""
        try:
            there, held = (self.path / LOCK).stat(), os.fstat(self._lock)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def shut_doors(self) -> None:
        """Let nobody new connect: a socket that has another name is the same socket still."""
        for name in _DOORS:
            self._rename(name, name + SHUT)

    def open_doors(self) -> None:
        """Let everybody connect again."""
        for name in _DOORS:
            self._rename(name + SHUT, name)

    def _rename(self, name: str, other: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it: it is shut
            (self.path / name).rename(self.path / other)

    def let_go(self) -> None:
        """Leave everything as it is, for another daemon."""
        self.clear_sockets()
        os.close(self._lock)

    def remove(self) -> None:
        """Remove every file of the run, and the directory if nothing else is in it."""
        for name in _OF_THE_RUN:
            (self.path / name).unlink(missing_ok=True)
        for name in _OF_THE_NODE:
            remove_folder(self.path / name)
        _remove_logs(self.path / LOGS)
        _remove_empty(self.path / "data")
        _remove_empty(self.path / CRASHES)
        (self.path / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        try:
            self.path.rmdir()
        except OSError:
            return  # the operator, a plugin's data, a crash report or the audit log keeps it

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self.path / LOCK
        while True:
            fd = os.open(path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                message = (
                    f"a daemon already serves {self.path}; stop it, or choose another --run-dir"
                )
                raise RunDirTaken(message) from None
            # A daemon that was just leaving may have removed the file that we have locked.
            if path.exists() and path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
            os.close(fd)


def prepare(path: Path) -> None:
    """Make a run directory, or make sure that the one which is there will do.

    Raises:
        UsageError: It cannot be made, is no directory, is not ours, or is open to others.
    """
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        _check(path)
    except OSError as error:
        raise UsageError(
            f"run directory {path} cannot be made: {error.strerror}; choose another --run-dir"
        ) from None


def remove_unserved(path: Path) -> None:
    """Remove a run directory in which nothing lies but why its daemon has refused to start.

    Every daemon that has served has left more in it, at least its lock.
    """
    logs = path / LOGS
    with contextlib.suppress(OSError):  # it is not there, say, or another one is just coming
        if [*path.iterdir(), *logs.iterdir()] == [logs, logs / DAEMON_LOG]:
            (logs / DAEMON_LOG).unlink()
            logs.rmdir()
            path.rmdir()


def _check(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"run directory {path} is no directory; choose another --run-dir")
    if found.st_uid != os.getuid():
        raise UsageError(
            f"run directory {path} belongs to user {found.st_uid}, not to us ({os.getuid()}); "
            "choose another --run-dir"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(f"run directory {path} is open to others; say: chmod 700 {path}")


def _remove_logs(logs: Path) -> None:
    if logs.is_dir():
        for file in logs.iterdir():
            file.unlink(missing_ok=True)
        logs.rmdir()


def _remove_empty(parent: Path) -> None:
    """Remove the folders of plugins that kept nothing, or of which nothing is kept."""
    if not parent.is_dir():
        return
    for folder in (*parent.iterdir(), parent):
        try:
            folder.rmdir()
        except OSError:
            continue
