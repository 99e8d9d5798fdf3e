"""Kill workers at random, and forgive them in the operator's name, so that none is given up."""

import random
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from spiral_host import Host, PluginInfo
from tests.hosts import Watch, eventually

PAUSE_S: Final = 0.03
"""Between two kills, on average; less than a worker needs to start."""

FORGIVEN: Final = 3
"""After so many kills the operator says `restart`: the budget is for five, and the waits double."""

BACK_S: Final = 60.0


class Reaper:
    """Picks a worker, in whatever state it is, and kills it."""

    def __init__(self, host: Host, run_dir: Path, seed: int) -> None:
        self.killed: set[int] = set()
        self._host = host
        self._mark = str(run_dir).encode()
        self._random = random.Random(seed)
        self._since: Counter[str] = Counter()
        self._operator = ThreadPoolExecutor(max_workers=2)
        self._orders: dict[str, Future[object]] = {}

    def reap(self, count: int) -> None:
        """Kill so many, then wait until all have come back."""
        with self._operator:
            while len(self.killed) < count:
                time.sleep(self._random.uniform(0.0, 2.0 * PAUSE_S))
                plugins = self._host.list_plugins()
                if alive := [plugin for plugin in plugins if plugin.pid]:
                    self._kill(self._random.choice(alive))
                for plugin in plugins:
                    self._forgive(plugin)
            eventually(self._all_are_back, BACK_S)

    def _kill(self, plugin: PluginInfo) -> None:
        pid = plugin.pid or 0
        with suppress(ProcessLookupError, FileNotFoundError):
            watch = Watch(pid)
            if self._mark not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return  # it ended before it could be held on to, and the number is a stranger's
            self.killed.add(pid)
            watch.kill()
            self._since[plugin.id] += 1

    def _forgive(self, plugin: PluginInfo) -> None:
        order = self._orders.get(plugin.id)
        is_due = self._since[plugin.id] >= FORGIVEN or plugin.state == "quarantined"
        if is_due and (order is None or order.done()):
            self._since[plugin.id] = 0
            self._orders[plugin.id] = self._operator.submit(self._host.restart, plugin.id)

    def _all_are_back(self) -> bool:
        if not all(order.done() for order in self._orders.values()):
            return False
        for order in self._orders.values():
            order.result()
        waiting = [it for it in self._host.list_plugins() if it.state in {"backoff", "quarantined"}]
        for plugin in waiting:
            self._host.restart(plugin.id)
        return all(plugin.state == "ready" for plugin in self._host.list_plugins())
