"""Say how much a worker's folders hold, whatever has been put into them. Runs beside the loop.

Counted are blocks, as the disk does, and entries: a million empty files fill a disk too. It goes
from folder to folder by descriptors and follows no link, so that nothing is counted which is not
there, and it ends as soon as there is more than is allowed.
"""

import os
import stat
from collections.abc import Sequence
from typing import Final

from plugin_worker.node.watch import MAX_DEPTH, MAX_FILES, Weight

_BLOCK: Final = 512
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OWN_ALONE: Final = 0o700


def weigh(folders: Sequence[str], most: int) -> Weight:
    """Count what is in them; more than `most` bytes, or than anybody may have, is not counted."""
    scale = _Scale(most)
    for folder in folders:
        scale.enter(folder, None, 1)
    return Weight(scale.size, scale.files, scale.depth)


class _Scale:
    """One weighing."""

    def __init__(self, most: int) -> None:
        self.size = self.files = self.depth = 0
        self._most = most

    @property
    def _is_enough(self) -> bool:
        return self.size > self._most or self.files > MAX_FILES or self.depth > MAX_DEPTH

    def enter(self, name: str, parent: int | None, depth: int) -> None:
        self.depth = max(self.depth, depth)
        if self._is_enough:
            return
        try:
            folder = _open(name, parent)
        except OSError:
            return  # it has just been removed
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._count(entry, folder, depth)
                    if self._is_enough:
                        return
        finally:
            os.close(folder)

    def _count(self, entry: "os.DirEntry[str]", folder: int, depth: int) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return
        self.files += 1
        # A file with two names is on the disk once.
        self.size += (
            found.st_blocks * _BLOCK // max(1, found.st_nlink * stat.S_ISREG(found.st_mode))
        )
        if stat.S_ISDIR(found.st_mode):
            self.enter(entry.name, folder, depth + 1)


def _open(name: str, parent: int | None) -> int:
    """Open a folder to list it, also one that its owner, who is ours, has made unreadable."""
    # An operator may have put a link in the place of a plugin's folder; the plugin cannot.
    how = _FOLDER if parent is None else _FOLDER | os.O_NOFOLLOW
    try:
        return os.open(name, how, dir_fd=parent)
    except PermissionError:
        held = os.open(name, os.O_PATH | how, dir_fd=parent)
    try:
        path = f"/proc/self/fd/{held}"
        os.chmod(path, _OWN_ALONE)  # noqa: PTH101 - a descriptor, not a path that may change
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(held)
