"""Keep events: in a file, one JSON line each, or the last ones in memory. Subscribes to nothing.

    host.subscribe("*", JsonLines("events.jsonl"))

A recorder is called with an event, in the callback thread, and never raises there: what cannot be
kept is counted. A full file `events.jsonl` becomes `events.jsonl.1`, that one `.2`, and so on.
"""

import contextlib
import fcntl
import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from protocol.errors import SpiralHostError, UsageError
from protocol.events import PluginEvent
from spiral_host.tagged import LINE_START, MAX_LINE, from_line, to_line

MAX_BYTES: Final = 16 << 20
"""Bytes of one file: some 100,000 events, and small enough for any editor."""

KEEP: Final = 3
"""Older files kept beside the one that is written, as the logs of plugins have them."""

_NEW: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class BrokenRecording(SpiralHostError):
    """A line of a recording holds no whole event; everything before it could be read."""

    def __init__(self, path: str, line: int | str, why: str) -> None:
        super().__init__(path, line, why)
        self.path = path
        self.line = int(line)
        self.why = why

    def __str__(self) -> str:
        cure = "what stands before it is whole, so cut the file there or record again"
        return f"{self.path}: line {self.line}: {self.why}; {cure}"


class JsonLines:
    """Writes each event into a file at once. A recording that is there already is continued.

    On disk is the whole line of an event or nothing of it. Where there is no room, events are
    dropped until there is. Safe to use from any thread.

    Args:
        path: The file; when it would become longer than `max_bytes`, it is put aside.
        keep: How many older files stay; the oldest is deleted, its events are `deleted`.

    Attributes:
        recorded: Events written.
        dropped: Events not written, because the file could not be or they hold what it cannot.
        deleted: Events written, and deleted again with the oldest file.
        error: Why the first one was dropped; None as long as none was.

    Raises:
        UsageError: A number cannot be meant, another recorder writes there, or the file is no
            recording.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str | Path, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        if max_bytes < 1 or keep < 0:
            raise UsageError(f"no recording has {max_bytes} bytes and {keep} older files")
        self.recorded = self.dropped = self.deleted = 0
        self.error: Exception | None = None
        self._path = os.fspath(path)
        self._max_bytes = max_bytes
        self._keep = keep
        self._lock = threading.Lock()
        self._counts = deque([0])
        self._fd = -1
        self._fd, self._size = _open(self._path)
        self._is_torn = False

    def __call__(self, event: PluginEvent) -> None:
        """Write an event; after `close`, do nothing."""
        with self._lock:
            if self._fd < 0:
                return
            try:
                self._write(to_line(event))
            except Exception as error:  # noqa: BLE001 - the bus goes on, whatever a disk or a value does
                self.dropped += 1
                self.error = self.error or error
                return
            self.recorded += 1
            self._counts[0] += 1

    def _write(self, line: bytes) -> None:
        if self._is_torn:
            self._mend()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        left = line
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            if len(left) < len(line):
                self._is_torn = True
                with contextlib.suppress(OSError):
                    self._mend()
            raise
        self._size += len(line)

    def _mend(self) -> None:
        """Take away the half line that a full disk has left; there is always room for that."""
        os.ftruncate(self._fd, self._size)
        self._is_torn = False

    def _rotate(self) -> None:
        """Begin a new file. What fails half-way is taken up again with the next event."""
        if os.path.lexists(self._path):
            self._put_aside()
        fd, size = _open(self._path)
        os.close(self._fd)
        self._fd, self._size = fd, size
        self._counts.appendleft(0)
        while len(self._counts) > self._keep + 1:
            self.deleted += self._counts.pop()

    def _put_aside(self) -> None:
        if not self._keep:
            Path(self._path).unlink()
            return
        # Up to the first number that is free: an earlier attempt may have moved some of them.
        last = 1
        while last < self._keep and os.path.lexists(_older(self._path, last)):
            last += 1
        for number in range(last, 0, -1):
            Path(_older(self._path, number - 1)).replace(_older(self._path, number))

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self.close()


class Ring:
    """Keeps the last `maxlen` events. Safe to use from any thread.

    Raises:
        UsageError: `maxlen` is no positive number.
    """

    def __init__(self, maxlen: int) -> None:
        if type(maxlen) is not int or maxlen < 1:
            raise UsageError(f"a ring keeps at least one event; got maxlen={maxlen!r}")
        self._lock = threading.Lock()
        self._events: deque[PluginEvent] = deque(maxlen=maxlen)

    def __call__(self, event: PluginEvent) -> None:
        """Keep an event, and forget the oldest if there is no room."""
        with self._lock:
            self._events.append(event)

    def __len__(self) -> int:
        return len(self._events)

    def snapshot(self) -> list[PluginEvent]:
        """Give what is kept now, oldest first."""
        with self._lock:
            return list(self._events)


def read_recording(path: str | Path) -> Iterator[PluginEvent]:
    """Give the events of a recording in their order, those of its older files first.

    The fields of built-in types are as the file has them; publishing checks them.

    Raises:
        BrokenRecording: A line is cut or broken; every event before it has been given.
        OSError: A file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        for name, file in _files(os.fspath(path), stack):
            yield from _events(name, file)


def _events(name: str, file: IO[bytes]) -> Iterator[PluginEvent]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if not line.endswith(b"\n"):
            why = "it is too long" if len(line) > MAX_LINE else "it is cut in the middle"
            raise BrokenRecording(name, number, why)
        try:
            yield from_line(line)
        except UsageError as error:
            raise BrokenRecording(name, number, str(error)) from None


def _files(path: str, stack: contextlib.ExitStack) -> list[tuple[str, IO[bytes]]]:
    """Open all files, oldest first; a recorder that puts them aside meanwhile does no harm."""
    opened: dict[tuple[int, int], tuple[str, IO[bytes]]] = {}
    for number in count():
        name = _older(path, number)
        if number and not os.path.lexists(name):
            break
        file = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115 - the stack closes it
        status = os.fstat(file.fileno())
        opened.setdefault((status.st_dev, status.st_ino), (name, file))
    return list(reversed(opened.values()))


def _older(path: str, number: int) -> str:
    return f"{path}.{number}" if number else path


def _open(path: str) -> tuple[int, int]:
    """Open a recording to go on with it; give the descriptor, and its size in bytes.

    Raises:
        UsageError: Another recorder writes there, or it is no recording.
        OSError: It cannot be opened.
    """
    fd = os.open(path, _NEW, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return fd, 0
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd, _whole(fd, path)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(f"{path}: somebody records there already; name another file") from None
    except BaseException:
        os.close(fd)
        raise


def _whole(fd: int, path: str) -> int:
    """Cut the half line that a recorder which was killed has left; give the size in bytes."""
    size = os.fstat(fd).st_size
    head = os.pread(fd, len(LINE_START), 0)
    if not LINE_START.startswith(head):
        raise UsageError(f"{path}: it is no recording; name another file")
    tail = os.pread(fd, MAX_LINE, max(0, size - MAX_LINE))
    half = len(tail) - (tail.rfind(b"\n") + 1)
    if half == len(tail) < size:
        raise UsageError(f"{path}: it is no recording; name another file")
    if half:
        os.ftruncate(fd, size - half)
    return size - half
