"""Find where this node may make groups of its own (cgroups), and hold one folder for them there.

    <the group that the node is in>/spiral-host/<this node>/<a worker's incarnation>

Version 2 has one tree of groups, version 1 one for each controller. Nothing is made, changed or
removed outside `spiral-host`, and what holds the node holds its workers too. A node has its folder
locked for as long as it lives, so the next one can tell what a killed one has left.
"""

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

CONTROLLERS: Final = ("memory", "pids", "cpu")
"""Those that hold limits of ours."""

_BASE: Final = "spiral-host"
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of groups.

    Attributes:
        controllers: Those of ours that it has; of version 2 all that there may be.
        own: The group that this process is in.
    """

    version: int
    controllers: tuple[str, ...]
    own: Path


def find_trees(mounts: str, groups: str) -> Iterator[Tree]:
    """Read /proc/self/mountinfo and /proc/self/cgroup."""
    own: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found: set[str] = set()
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        match before.split(" ")[3:5], after.split(" ")[:3]:  # what is mounted may have no name
            case [root, mount], [kind, _, options]:
                pass
            case _:
                continue
        names = {"cgroup": options.split(","), "cgroup2": [""]}.get(kind, [])
        mine = tuple(name for name in (*CONTROLLERS, "") if name in names and name not in found)
        if mine and (rest := _below(root, own.get(mine[0], ".."))) is not None:
            found.update(mine)
            version = 1 if kind == "cgroup" else 2
            yield Tree(version, CONTROLLERS if version == 2 else mine, Path(mount, rest))


def _below(root: str, path: str) -> str | None:
    """Give a group's path below what is mounted; None when it is not there."""
    if ".." in path.split("/"):
        return None  # it is outside of this namespace
    rest = path.removeprefix(root.rstrip("/"))
    return rest.lstrip("/") if path.startswith(root) else None


class Nest:
    """This node's folder in one tree; lives as long as the node.

    Raises:
        OSError: It may make no groups there.
    """

    def __init__(self, tree: Tree) -> None:
        self.version = tree.version
        self.controllers = tree.controllers
        self._base = tree.own / _BASE
        if tree.version != 1:
            self.controllers = self._delegated(tree)
        self._folder, self._lock = self._settle()
        with suppress(OSError):
            self._sweep()

    def _delegated(self, tree: Tree) -> tuple[str, ...]:
        """Have the controllers handed down to our base, in the group itself or the one above."""
        for group in (tree.own, tree.own.parent):
            if group != tree.own and not _is_delegated(group):
                break
            there = (group / "cgroup.controllers").read_text().split()
            mine = tuple(name for name in tree.controllers if name in there)
            if not mine:
                raise OSError(
                    errno.ENOSYS, f"the group {group} has none of {', '.join(CONTROLLERS)}"
                )
            with suppress(OSError):
                _hand_down(group, mine)
                self._base = group / _BASE
                return mine
        message = (
            f"the group {tree.own} has processes and hands nothing down; start the host by "
            "systemd-run --user -p Delegate=yes -p DelegateSubgroup=host"
        )
        raise OSError(errno.EBUSY, message)

    def _settle(self) -> tuple[Path, int]:
        for _ in range(_TRIES):
            folder = self._base / f"{os.getpid()}.{token_hex(4)}"
            with suppress(FileNotFoundError, BlockingIOError), ExitStack() as undone:
                self._base.mkdir(exist_ok=True)
                if self.version != 1:
                    _hand_down(self._base, self.controllers)
                folder.mkdir()
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                undone.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another node may have taken it for a dead one's before it was locked.
                if folder.is_dir():
                    if self.version != 1:
                        _hand_down(folder, self.controllers)
                    undone.pop_all()
                    return folder, lock
        raise OSError(errno.EAGAIN, f"no group stays in {self._base}")

    def group(self, name: str) -> Path:
        """Name one of its groups; it need not be there."""
        return self._folder / name

    def _sweep(self) -> None:
        """Remove what nodes have left that are dead."""
        for folder in self._base.iterdir():
            if folder.is_dir() and folder != self._folder:
                with suppress(OSError):  # its node lives, or another sweeps it
                    _remove_if_dead(folder)

    def close(self) -> None:
        """Remove the folder; what cannot be is left to the next node."""
        os.close(self._lock)
        for folder in (self._folder, self._base):
            with suppress(OSError):
                folder.rmdir()


def _remove_if_dead(folder: Path) -> None:
    """Remove a dead node's folder; locked until it is gone, so nobody begins to live in it.

    Raises:
        OSError: Its node lives, or another one removes it.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for group in (*filter(Path.is_dir, folder.iterdir()), folder):
            end_members(group)
            with suppress(OSError):
                group.rmdir()
    finally:
        os.close(lock)


def write(file: Path, text: str) -> None:
    """Write to one of the kernel's files, which takes it whole or not at all."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def members(group: Path) -> set[int]:
    """Give the pids of the processes in a group; none when it is gone."""
    try:
        return set(map(int, (group / "cgroup.procs").read_text().split()))
    except OSError:
        return set()


def end_members(group: Path) -> None:
    """End every process that is in a group; nobody joins it by forking meanwhile."""
    for file, text in (("cgroup.kill", "1"), ("pids.max", "0")):
        with suppress(OSError):  # not there in each version
            write(group / file, text)
    held = {}
    for pid in members(group):
        with suppress(OSError):
            held[pid] = os.pidfd_open(pid)
    still = members(group)  # a number that was given anew meanwhile is not in it
    for pid, pidfd in held.items():
        with suppress(OSError):
            if pid in still and pid:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _hand_down(group: Path, controllers: tuple[str, ...]) -> None:
    if controllers:
        write(group / "cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))


def _is_delegated(group: Path) -> bool:
    """Say whether systemd has given a group to those in it; it marks what it has given."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False
