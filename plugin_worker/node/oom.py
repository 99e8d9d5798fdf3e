"""Say whether the kernel has killed somebody because memory ran out, lately.

It tells nobody whom: it counts. So a worker that died by SIGKILL, of no rule of ours, while the
count grew, died of that. The machine's count has everybody's kills in it, that of the node's own
group only ours; both are asked, because a process may die of either limit.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

LATELY_S: Final = 5.0
"""The count grows before the victim is gone; then the kernel may take a second to free it."""

_VMSTAT: Final = Path("/proc/vmstat")
_GROUPS: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")
_COUNT: Final = "oom_kill "


class MemoryKills:
    """The kernel's counts as last seen; lives as long as the node. Looked at every few seconds."""

    def __init__(self, files: tuple[Path, ...], now: float) -> None:
        self._counts = dict.fromkeys(files, 0)
        self._seen = [(now, self._count())]

    def look(self, now: float) -> bool:
        """Look; say whether more were killed than some seconds ago."""
        count = self._count()
        has_grown = count > self._seen[0][1]
        # The older of two looks is what the next is compared with, so that one which falls between
        # a kill and the victim's end hides nothing.
        if now - self._seen[-1][0] >= LATELY_S:
            self._seen = [self._seen[-1], (now, count)]
        return has_grown

    def _count(self) -> int:
        for file in self._counts:
            # A group may be taken away under us, or there is no descriptor left to read it with.
            with suppress(OSError):
                self._counts[file] = _read(file)
        return sum(self._counts.values())


def counting_files() -> tuple[Path, ...]:
    """Find where the kernel counts for this machine and for our own group."""
    return tuple(file for file in (_VMSTAT, *_of_groups(_GROUPS, _MOUNT)) if file.is_file())


def _of_groups(groups: Path, mount: Path) -> Iterator[Path]:
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield mount / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield mount / "memory" / path.lstrip("/") / "memory.oom_control"


def _read(file: Path) -> int:
    lines = file.read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(_COUNT))
