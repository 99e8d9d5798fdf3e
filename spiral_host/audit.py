"""Keep a log of what was granted and refused, one JSON object a line, for operators to read later.

    {"at": "2026-01-31T12:00:00.000+00:00", "kind": "granted", "plugin_id": "greeter",
     "version": "1.0.0", "permissions": ["network 443"]}

It lies in the run directory beside the crash reports and, like them, outlives the daemon. Refusals
have a file of their own, and in it every plugin a share: one that makes them up pushes out nothing
that was granted, and nothing that was refused to another. A thread of its own writes it, so that no
disk ever stops the daemon: what cannot be written is counted.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from spiral_host.rundir import AUDIT, REFUSALS
from spiral_host.shares import last_of_each

MAX_BYTES: Final = 4 << 20
"""Of a file. Then that of grants becomes the last one, in the place of the one before; of refusals
one half is kept, the same of every plugin."""

LAST: Final = ".1"

_NEW: Final = ".new"

WAITING: Final = 1024
"""Lines that wait to be written, 8 KiB each at most; more are lost, and counted. Half of them may
be refusals: the others are for what no plugin can make up."""

MAX_LINE: Final = 8 << 10
"""Bytes of one line; of a longer one its kind, its plugin and its time are kept."""

CLOSE_S: Final = 2.0
"""How long a daemon that ends waits for the last of them, seconds; a disk may never answer."""


class Audit:
    """The log of one run directory; lives as long as the daemon, its file longer."""

    def __init__(self, run_dir: Path) -> None:
        self.failure = ""
        """Why the last line could not be written, or empty."""
        self.lost = 0
        """Lines that could not be written."""
        self.path = run_dir / AUDIT
        self._refusals = run_dir / REFUSALS
        self._lock = threading.Lock()
        self._lines: queue.SimpleQueue[tuple[Path, bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, kind: str, plugin_id: str, **fields: object) -> None:
        """Have a line written soon; never waits.

        Args:
            kind: What happened: `granted`, `revoked`, `blocked`, `changed`, `refused`.
            fields: What JSON can hold.
        """
        is_refusal = kind == "refused"
        if self._lines.qsize() >= (WAITING // 2 if is_refusal else WAITING):
            self._lose("the disk is too slow")
            return
        path = self._refusals if is_refusal else self.path
        self._lines.put((path, _line(kind, plugin_id, fields, time.time())))
        if self._thread is None:
            # A daemon: a disk that never answers must not keep our process.
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what waits, as far as the disk lets us, and stop the thread."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (waiting := self._lines.get()) is not None:
            path, line = waiting
            try:
                append(path, line, set_aside if path == self.path else thin_out)
                self.failure = ""
            except OSError as error:
                self._lose(f"{error.filename or path}: {error.strerror or error}")
            except Exception as error:  # noqa: BLE001 - an alarm says so; the next may be written
                self._lose(f"a bug of ours: {error!r}; please report it")

    def _lose(self, why: str) -> None:
        with self._lock:  # the loop loses lines too
            self.failure = why
            self.lost += 1


def _line(kind: str, plugin_id: str, fields: dict[str, object], now: float) -> bytes:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    head: dict[str, object] = {"at": at, "kind": kind, "plugin_id": plugin_id}
    # In ASCII, control characters escaped: a terminal that shows the file is not misled by it.
    line = json.dumps(head | fields).encode()
    return line if len(line) < MAX_LINE else json.dumps(head | {"cut": len(line)}).encode()


def append(path: Path, line: bytes, make_room: Callable[[Path], None]) -> None:
    """Write a line, whole or not at all.

    Args:
        make_room: Called when the file is full.

    Raises:
        OSError: It cannot be written.
    """
    with suppress(FileNotFoundError):
        if path.lstat().st_size + len(line) >= MAX_BYTES:
            make_room(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        size = os.fstat(fd).st_size
        try:
            _write_all(fd, line + b"\n")
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, size)  # half a line would spoil the next one
            raise
    finally:
        os.close(fd)


def set_aside(path: Path) -> None:
    """Make a full file the last one."""
    path.replace(path.with_name(path.name + LAST))


def thin_out(path: Path) -> None:
    """Keep one half of a full file: the last lines of every plugin, as much of each."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123 - a descriptor
        lines = file.read(2 * MAX_BYTES).splitlines(keepends=True)
    new = path.with_name(path.name + _NEW)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(new, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.writelines(last_of_each(lines, MAX_BYTES // 2))
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _write_all(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]
