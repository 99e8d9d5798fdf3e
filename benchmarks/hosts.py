"""Real hosts with the benchmarks' own plugins, and as many copies of one as are wanted."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from spiral_host import Host, LoadResult

PLUGINS: Final = Path(__file__).parent / "plugins"


@contextlib.contextmanager
def host_with(*plugins: Path | str) -> Iterator[Host]:
    """Have a host of one's own with these plugins ready."""
    with Host(best_effort=True) as host:
        load(host, *plugins)
        yield host


def load(host: Host, *plugins: Path | str) -> None:
    """Load plugins of ours by name, or folders; all of them must become ready."""
    paths = [PLUGINS / plugin if isinstance(plugin, str) else plugin for plugin in plugins]
    check(host.load(paths))


def check(results: list[LoadResult]) -> None:
    """Refuse to measure what does not run."""
    failed = [f"{result.path}: {result.reason}" for result in results if not result.ok]
    if failed:
        raise SystemExit("\n".join(failed))


@contextlib.contextmanager
def copies_of(plugin: str, count: int) -> Iterator[Path]:
    """Have a folder with copies of a plugin, each under an id of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number in range(count):
            name = f"{plugin}{number:03}"
            copy = Path(shutil.copytree(PLUGINS / plugin, Path(folder) / name))
            manifest = copy / "plugin.toml"
            text = manifest.read_text().replace(f'id = "{plugin}"', f'id = "{name}"')
            manifest.write_text(text)
        yield Path(folder)


def spent_s(*pids: int) -> float:
    """Give the CPU time of whole processes, seconds; the scheduler counts in nanoseconds."""
    tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def own_memory_mb(pid: int) -> tuple[float, bool]:
    """Give a process's memory, and whether that is PSS; else what it shares with nobody."""
    if os.geteuid() == 0:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        pss = next(line for line in lines if line.startswith("Pss:"))
        return int(pss.split()[1]) / 1024, True
    memory = psutil.Process(pid).memory_info()
    return (memory.rss - memory.shared) / 2**20, False
