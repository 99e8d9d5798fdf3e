"""Callers, callees and an application that all call each other, and what they have written."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from spiral_host import Host, WorkerLost
from tests.chaos.calls.ledger import Account, Life, balance
from tests.chaos.calls.load import Load, Plan
from tests.chaos.calls.records import Log
from tests.chaos.copies import copies_of
from tests.hosts import Run, all_ready, eventually

HERE: Final = Path(__file__).parent
PROVIDERS: Final = 6
CALLERS: Final = 3
SERVICES: Final = [f"work.provider{number}" for number in range(PROVIDERS)]
WARM: Final = 2 * PROVIDERS
"""Calls after which a thread has called everybody."""

PATIENCE_S: Final = 60.0
SAID: Final = 3000
"""Characters of what a process has said that broke."""


@contextmanager
def crowd(run: Run, folder: Path, plan: Plan, faults: str = "") -> Iterator["Crowd"]:
    """Have a crowd that calls; what its members said when they broke is told with any failure.

    Args:
        faults: What the first of the providers is to do wrong, each once, the last one first.
    """
    try:
        yield Crowd(run, folder, plan, faults)
    except BaseException as error:
        for log in sorted((run.run_dir / "logs").glob("*.log")):
            said = log.read_text(errors="replace")
            if "Traceback" in said:
                error.add_note(f"{log.name}: {said[said.index('Traceback') :][:SAID]}")
        raise


class Crowd:
    """Those who call and are called, on one run."""

    def __init__(self, run: Run, folder: Path, plan: Plan, faults: str) -> None:
        self._run = run
        self.host = run.start()
        beside = [HERE / "records.py", HERE / "load.py"]
        kinds = HERE / "plugins"
        providers = list(copies_of(kinds / "provider", PROVIDERS, folder, beside[0]))
        callers = list(copies_of(kinds / "caller", CALLERS, folder, *beside, said=asdict(plan)))
        if faults:
            (providers[0] / "faults").write_text(faults)
        assert all_ready(self.host.load(providers))
        assert all_ready(self.host.load(callers))
        self._loads = [self.host.get_service(f"load.{caller.name}") for caller in callers]
        (run.data_dir / "application").mkdir()
        self._log = Log(run.data_dir / "application", "application")
        self._load = Load(run.connect(), self._log, plan)
        eventually(lambda: self.least_made() > WARM, PATIENCE_S)

    def least_made(self) -> int:
        """Say how many calls each thread has made at least in its process's present life."""
        try:
            return min(int(load.made()) for load in (self._load, *self._loads))
        except WorkerLost:  # killed just now
            return 0

    def stop(self, killed: Collection[int]) -> Account:
        """End everything in order, and balance what was written.

        Args:
            killed: The processes that were killed on purpose.
        """
        self._load.stop()
        self._log.left()
        for load in self._loads:
            load.stop()
        self._run.daemon.terminate()
        assert self._run.daemon.wait(PATIENCE_S) == 0
        return balance(_read(self._run.data_dir, killed))


def _read(folder: Path, killed: Collection[int]) -> list[Life]:
    return [
        Life(
            file.stem,
            file.read_text().splitlines(keepends=True),
            was_killed=int(file.name.split(".")[1]) in killed,
        )
        for file in folder.rglob("*.log")
    ]


def pids(host: Host) -> dict[str, int | None]:
    """Give the process of each plugin."""
    return {plugin.id: plugin.pid for plugin in host.list_plugins()}
