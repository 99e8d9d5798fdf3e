"""Keep crash reports on disk, one file for each death, and read them; reading needs no daemon.

    <run_dir>/crashes/<plugin_id>/<number>-<incarnation>.json

Numbers go on through all plugins and all runs, so that the oldest are known without a clock. An
incarnation alone would not do: a run that begins afresh gives the same ones again.
"""

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from protocol.annotations import Reader
from protocol.checks import Check, Misfit
from protocol.names import parse_plugin_id
from spiral_host.crashes import CrashReport
from spiral_host.rundir import CRASHES

KEPT: Final = 50
"""Reports of one plugin: ten crash budgets, so what led to a quarantine is there to be read."""

ALL_BYTES: Final = 20 << 20
"""Bytes of all reports together; a plugin that fills its own takes from the oldest of all."""

MAX_BYTES: Final = 4 << 20
"""Bytes of a file that is read as a report; the longest that is written has half of that."""

_NAME: Final = re.compile(r"(\d{1,12})-(\d{1,20})\.json\Z", re.ASCII)
_NEW: Final = ".new"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file among the reports that is none, or is only half of one."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class _File:
    """One report on disk."""

    number: int
    incarnation: int
    path: Path
    size: int


# --- writing --------------------------------------------------------------------------------------


class CrashFiles:
    """The reports of one run directory, as the one who writes them knows them.

    What is there is looked for at first, and again when there may be too many; in between it is
    reckoned, because a plugin has died and its next process wants the processor.
    """

    def __init__(self, run_dir: Path) -> None:
        self._crashes = run_dir / CRASHES
        self._is_known = False
        self._last = 0
        """The highest number."""
        self._size = 0
        """Bytes of all; some may have been removed by a person, and are counted all the same."""
        self._counts: Counter[Path] = Counter()
        """How many there are, by folder."""

    def save(self, report: CrashReport, *, may_be_known: bool) -> None:
        """Write a report, whole or not at all, and forget the oldest of those that are too many.

        Args:
            may_be_known: Whether an earlier daemon may have written of this death, before it was
                killed itself; then this report takes the place of that one.

        Raises:
            OSError: It cannot be written; what was there before is as it was.
        """
        folder = self._crashes / parse_plugin_id(report.plugin_id)
        for each in (self._crashes, folder):
            each.mkdir(mode=0o700, exist_ok=True)
        files = () if self._is_known and not may_be_known else self._look()
        self._is_known = False  # if it fails, nobody knows what is there
        path = folder / f"{self._last + 1:08}-{report.incarnation}.json"
        for file in files:
            if may_be_known and (file.path.parent, file.incarnation) == (
                folder,
                report.incarnation,
            ):
                path = file.path
        text = _text(report)
        _replace(path, text)
        self._last += 1
        self._size += len(text)
        self._counts[folder] += 1
        if self._counts[folder] > KEPT or self._size > ALL_BYTES:
            _forget_oldest(_kept(self._crashes))
        else:
            self._is_known = True

    def _look(self) -> Sequence[_File]:
        files = _kept(self._crashes)
        self._last = max((file.number for file in files), default=0)
        self._size = sum(file.size for file in files)
        self._counts = Counter(file.path.parent for file in files)
        return files


def _text(report: CrashReport) -> bytes:
    # In ASCII, control characters escaped: a terminal that shows the file is not misled by it.
    return json.dumps(report.to_dict(), indent=1, allow_nan=False).encode()


def _replace(path: Path, text: bytes) -> None:
    new = path.with_name(f".{path.name}{_NEW}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(new, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _kept(crashes: Path) -> list[_File]:
    """Find every report; remove what a daemon that was killed left half written."""
    files = []
    for folder in crashes.iterdir():
        if folder.is_symlink() or not folder.is_dir():
            continue
        for path in folder.iterdir():
            if found := _NAME.match(path.name):
                number, incarnation = map(int, found.groups())
                files.append(_File(number, incarnation, path, _size(path)))
            elif path.name.endswith(_NEW):
                path.unlink(missing_ok=True)
    return files


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0  # a person has removed it


def _forget_oldest(files: Iterable[_File]) -> None:
    """Keep the newest of each plugin, and of these the newest of all."""
    counts: dict[Path, int] = {}
    size = 0
    for file in sorted(files, key=lambda file: _age(file.path.name), reverse=True):
        folder = file.path.parent
        counts[folder] = counts.get(folder, 0) + 1
        size += file.size
        if counts[folder] > KEPT or size > ALL_BYTES:
            file.path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                folder.rmdir()


# --- reading --------------------------------------------------------------------------------------


def latest(run_dir: Path, plugin_id: str) -> CrashReport | None:
    """Give the newest report of a plugin that can be read; None where there is none.

    Raises:
        UsageError: The id is none.
    """
    found = (each for each in all_of(run_dir, plugin_id) if isinstance(each, CrashReport))
    return next(found, None)


def all_of(run_dir: Path, plugin_id: str) -> Iterator[CrashReport | Unreadable]:
    """Give the reports of a plugin, newest first, each read when it is asked for.

    Raises:
        UsageError: The id is none.
    """
    folder = run_dir / CRASHES / parse_plugin_id(plugin_id)
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return iter(())
    names.sort(key=_age, reverse=True)
    return filter(None, (_read(folder / name) for name in names))


def _age(name: str) -> tuple[int, str]:
    found = _NAME.match(name)
    return (int(found[1]) if found else -1, name)


def _read(path: Path) -> CrashReport | Unreadable | None:
    try:
        said = json.loads(_bytes(path), parse_constant=_number, parse_float=_number)
        report: CrashReport = _check().convert(said)
    except FileNotFoundError:
        return None  # it was forgotten meanwhile
    except OSError as error:
        return Unreadable(str(path), error.strerror or str(error))
    except RecursionError:
        return Unreadable(str(path), "nested too deep")
    except Misfit as misfit:
        return Unreadable(str(path), f"{misfit.path.lstrip('.')} {misfit.text}".strip())
    except ValueError as error:
        return Unreadable(str(path), str(error))
    return report


def _bytes(path: Path) -> bytes:
    # NONBLOCK: a fifo must not make us wait for somebody to write to it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a plain file")
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    return text


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


@cache
def _check() -> Check:
    return Reader().check(CrashReport)
