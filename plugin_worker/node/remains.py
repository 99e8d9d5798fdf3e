"""Gather what a dead worker left behind, within bounds, and keep it until a daemon has seen it.

Everything here is the worker's own word, or what it was given: text, to be read by people.
"""

import re
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from plugin_worker.node.worker import WorkerProcess
from protocol.flight import FlightPage, Running, read_flight, read_stacks
from protocol.messages import FROM_NODE, Cause, Flight, Remains

MAX_KEPT: Final = 32
MAX_KEPT_BYTES: Final = 2 << 20
"""What is kept while there is no daemon; of older deaths only the exits are."""

_FILE: Final = re.compile(r'^( +File )"([^"\n]*)"', re.MULTILINE)
_STANDARD: Final = f"{sysconfig.get_path('stdlib')}/"
_INSTALLED: Final = re.compile(r"^.*/(?:site|dist)-packages/")

Gathered = Callable[[Mapping[int, str]], Remains | None]
"""Gives what a worker left behind; takes the names of those that had lanes to it."""


def leaves_remains(worker: WorkerProcess, cause: Cause) -> bool:
    """Say whether a death is one to be explained: any but an exit with 0 that no rule asked for."""
    return bool(cause.code or cause.kind != "exit" or worker.rule)


def gather(
    worker: WorkerProcess, events: Sequence[str], names: Mapping[int, str], lib: Path, now: float
) -> Remains:
    """Read what is left of a dead worker, before its descriptors are closed.

    Args:
        events: What it was given last, newest last.
        names: Its callers, by incarnation.
        lib: Where zygotes import our own code from.
        now: `time.monotonic()` seconds.
    """
    page = read_flight(worker.flight_fd)
    return Remains(
        incarnation=worker.incarnation,
        plugin_id=worker.plugin_id,
        lived_s=round(now - worker.born, 3),
        stacks=without_paths(read_stacks(worker.flight_fd), (worker.root, str(lib))),
        log=worker.log.last_lines(),
        calls=page.calls,
        errors=page.errors,
        flights=_flights(page, names, now),
        events=tuple(events),
        vitals=worker.vitals.since(now) if worker.vitals is not None else (),
    )


def _flights(page: FlightPage, names: Mapping[int, str], now: float) -> tuple[Flight, ...]:
    return tuple(_flight(one, names, now) for one in page.running)


def _flight(one: Running, names: Mapping[int, str], now: float) -> Flight:
    return Flight(
        service=one.label,
        number=one.number,
        caller=one.caller,
        caller_name=names.get(one.caller, ""),
        left_s=round(one.deadline - now, 3),
    )


def without_paths(stacks: str, folders: tuple[str, ...]) -> str:
    """Name the files of stacks as their author knows them: relative, or by name only."""
    own = tuple(f"{folder.rstrip('/')}/" for folder in folders if folder)
    return _FILE.sub(lambda found: f'{found[1]}"{_shown(found[2], own)}"', stacks)


def _shown(path: str, folders: tuple[str, ...]) -> str:
    installed = _INSTALLED.sub("", path)
    if installed != path or not path.startswith("/"):
        return installed
    for folder in (*folders, _STANDARD):
        if path.startswith(folder):
            return path[len(folder) :]
    return Path(path).name


class KeptRemains:
    """What dead workers left that no daemon has seen; lives as long as the node."""

    def __init__(self) -> None:
        self._frames: dict[int, bytes] = {}

    def keep(self, remains: Remains) -> None:
        """Keep it; the oldest go when there are many."""
        self._frames[remains.incarnation] = FROM_NODE.encode(remains)
        while len(self._frames) > MAX_KEPT or self._size > MAX_KEPT_BYTES:
            del self._frames[next(iter(self._frames))]

    def seen(self, incarnation: int) -> None:
        """Forget it; harmless if it is not kept."""
        self._frames.pop(incarnation, None)

    @property
    def frames(self) -> tuple[bytes, ...]:
        """What a daemon that comes is told, oldest first."""
        return tuple(self._frames.values())

    @property
    def _size(self) -> int:
        return sum(map(len, self._frames.values()))
