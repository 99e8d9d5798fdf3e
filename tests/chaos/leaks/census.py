"""Count everything that a run has of the machine, and say what has become more.

Of every process the part that it plays: the daemon, the node, a child of the node. Of descriptors,
threads and memory those of the daemon and the node: workers come and go, and take theirs along.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Final

import psutil

_NUMBER: Final = re.compile(r"\d+")
_OF_A_NODE: Final = re.compile(r"/spiral-host/(\d+)\.")
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Census:
    """What there is at one moment.

    Attributes:
        counts: Of each kind of thing how many.
        memory: Bytes that each of the lasting processes has in memory.
    """

    counts: Counter[str]
    memory: dict[str, int]

    def grown(self, before: "Census") -> dict[str, int]:
        """Say what there is more of than there was before, and how many."""
        return dict(self.counts - before.counts)


def take(lasting: dict[str, int], folder: Path, *kept: str) -> Census:
    """Count.

    Args:
        lasting: The processes that go on, by the part they play; everything that descends from
            them is counted too.
        folder: The run directory.
        kept: What in it is kept on purpose, and has bounds of its own.
    """
    counts: Counter[str] = Counter()
    memory = {}
    for part, pid in lasting.items():
        process = psutil.Process(pid)
        memory[part] = process.memory_info().rss
        counts[f"{part}: threads"] = process.num_threads()
        for kind in _descriptors(pid):
            counts[f"{part}: {kind}"] += 1
        for child in process.children():
            if child.pid not in lasting.values():
                counts[f"{part}: {_state(child)}"] += 1
        for group in _cgroups(pid, lasting.values()):
            counts[f"cgroup {group}"] += 1
    for path in (it.relative_to(folder) for it in _below(folder)):
        if path.parts[0] not in kept:
            counts[f"file {_NUMBER.sub('#', str(path))}"] += 1
    return Census(counts, memory)


def slope(values: list[float]) -> float:
    """Give how much is added from one value to the next: the median of all pairs (Theil-Sen)."""
    pairs = combinations(enumerate(values), 2)
    return median((after - before) / (j - i) for (i, before), (j, after) in pairs)


def marked(mark: str) -> list[int]:
    """Find every process whose command line or environment has a mark, but this one."""
    wanted, found = mark.encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            if wanted in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def _descriptors(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield _NUMBER.sub("#", str(link.readlink()))


def _state(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return "zombies" if process.status() == psutil.STATUS_ZOMBIE else "children"
    return "zombies"


def _cgroups(pid: int, ours: Collection[int]) -> Iterator[str]:
    """Name the groups below a process's own, but for those that another host's node has made."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own = _CGROUPS / controllers / path.lstrip("/")
        if path != "/":  # those below the root are everybody's
            for below in _below(own):
                node = _OF_A_NODE.search(str(below))
                if below.is_dir() and (node is None or int(node[1]) in ours):
                    yield _NUMBER.sub("#", str(below))


def _below(folder: Path) -> Iterator[Path]:
    """Give what lies in a folder; what is removed just then is passed over."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(where, name)
