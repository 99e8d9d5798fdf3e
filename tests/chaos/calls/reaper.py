"""Kill workers at random moments, and now and then have one restarted as an operator does."""

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from spiral_host import Host, LoadResult, PluginInfo
from tests.hosts import Watch, eventually

PAUSE_S: Final = 0.1
"""Between two kills, on average: as many are started again, in the long run."""

RESTARTED: Final = 0.05
"""How often a person's restart falls among the kills."""

BACK_S: Final = 60.0


class Reaper:
    """Picks a worker, in whatever state it is, and kills it."""

    def __init__(self, host: Host, run_dir: Path, seed: int) -> None:
        self.killed: set[int] = set()
        self._host = host
        self._mark = str(run_dir).encode()
        self._random = random.Random(seed)
        self._orders: list[Future[LoadResult]] = []

    def reap(self, count: int) -> None:
        """Kill so many, then wait until all have come back."""
        with ThreadPoolExecutor(max_workers=2) as operator:
            while len(self.killed) < count:
                time.sleep(self._random.uniform(0.0, 2.0 * PAUSE_S))
                plugins = self._host.list_plugins()
                if alive := [plugin for plugin in plugins if plugin.pid]:
                    self._kill(self._random.choice(alive))
                if self._random.random() < RESTARTED:
                    plugin = self._random.choice(plugins)
                    self._orders.append(operator.submit(self._host.restart, plugin.id))
        for order in self._orders:
            order.result()  # it may have been killed again, but the order was answered
        eventually(self._all_are_back, BACK_S)

    def _kill(self, plugin: PluginInfo) -> None:
        pid = plugin.pid or 0
        with suppress(ProcessLookupError, FileNotFoundError):
            watch = Watch(pid)
            if self._mark not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return  # it ended before it could be held on to, and the number is a stranger's
            self.killed.add(pid)
            watch.kill()

    def _all_are_back(self) -> bool:
        return all(plugin.state == "ready" for plugin in self._host.list_plugins())
