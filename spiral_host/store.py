"""What the operator wants, in SQLite: plugins, configuration, requests under way, epochs.

Written before the action it stands for, on a thread of its own: `write` calls back once the
change is on disk, so that a daemon which is killed at any moment knows what was promised.
Reads happen once, at start.

A disk that is full or can only be read stops nobody: `write` calls back all the same, what could
not be written is kept in memory and tried again, and `failure` says so for as long as it lasts.
"""

import json
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import randbelow
from types import MappingProxyType
from typing import Any, Final

from protocol import failpoints
from protocol.errors import UsageError
from protocol.limits import parse_limits
from protocol.messages import PluginSource
from protocol.permissions import parse_permissions
from protocol.plugin import PluginMetadata
from spiral_host.manifest import Manifest
from spiral_host.policy import Memory
from spiral_host.rundir import ASIDE
from spiral_host.supervision import Supervision

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS epoch (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS node (name TEXT PRIMARY KEY, pid INTEGER, start_time INTEGER);
CREATE TABLE IF NOT EXISTS plugin (
    id TEXT PRIMARY KEY, manifest TEXT NOT NULL, memory TEXT NOT NULL DEFAULT '{}',
    announced INTEGER NOT NULL DEFAULT 0, leaving INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS config (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS request (id TEXT PRIMARY KEY, under_way TEXT NOT NULL);
"""

KEPT: Final = 256
"""Requests that are remembered; a client asks again within seconds or never."""

FIRST_EPOCHS: Final = 1 << 20
"""A new store draws its first epoch among so many, one that follows a lost one among as many above:
with 32 bits behind it, an incarnation is a number that JSON and flight pages hold exactly."""

_UNREADABLE: Final = (sqlite3.Error, UsageError, ValueError, TypeError, LookupError, AttributeError)
"""What reading raises when SQLite, JSON or a manifest inside cannot make sense of the file."""

_CURES: Final = MappingProxyType(
    {
        sqlite3.SQLITE_BUSY: "is another program using it?",
        sqlite3.SQLITE_LOCKED: "is another program using it?",
        sqlite3.SQLITE_FULL: "make room on its disk",
        sqlite3.SQLITE_READONLY: "let its folder and file be written again",
        sqlite3.SQLITE_IOERR: "is its disk full, or broken?",
    }
)
"""SQLite's words for a file that is whole and only cannot be had or written now: it is not moved
aside, and what could not be written is tried again."""

_PASSING: Final = frozenset({*_CURES, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM})
"""What keeps a change from being written, but may pass."""

RETRY_S: Final = 1.0
"""How soon what could not be written is tried again, seconds."""

MAX_OWED: Final = 10_000
"""Changes that wait in memory for the disk; those beyond are lost, and counted."""

Statement = tuple[str, tuple[object, ...]]
Write = tuple[list[Statement], Callable[[], None] | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plugin that an earlier daemon was told to want.

    Attributes:
        announced: The incarnation that was last announced as loaded, or 0.
        leaving: Whether it was being unloaded.
    """

    manifest: Manifest
    memory: Memory
    announced: int
    leaving: bool


class Store:
    """The daemon's memory; lives as long as the daemon, its file as long as the run.

    Args:
        path: The database file; made when it is not there.
        call_in_loop: Has a function called by the daemon's own thread, soon; safe from any thread.

    Raises:
        UsageError: The file is in use, or cannot be opened even as a new one.
    """

    def __init__(self, path: Path, call_in_loop: Callable[[Callable[[], None]], None]) -> None:
        self._call_in_loop = call_in_loop
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store")
        self._owed: deque[list[Statement]] = deque()
        self._lost = 0
        self._reason = ""
        self.loss = ""
        """What was moved aside, and why, in one line; empty when the file could be read."""
        self._database = self._read(path)
        self._thread.start()

    def _read(self, path: Path) -> sqlite3.Connection:
        try:
            # Clients and files of an earlier run must not meet their numbers again in this one.
            return self._open(path, epoch=1 + randbelow(FIRST_EPOCHS))
        except _UNREADABLE as error:
            cure = _CURES.get(_code(error))
            if cure:
                raise UsageError(f"{path}: {error}; {cure}") from None
            aside = _move_aside(path)
            self.loss = (
                f"{path} cannot be read as a store: {error}; moved to {aside}, "
                "and what it held is forgotten: load the plugins again"
            )
        try:
            # No number that the lost store gave may be given again: workers and events live on.
            return self._open(path, epoch=FIRST_EPOCHS + randbelow(FIRST_EPOCHS))
        except sqlite3.Error as error:
            raise UsageError(f"{path}: {error}; choose another --run-dir") from None

    def _open(self, path: Path, epoch: int) -> sqlite3.Connection:
        # Read here, then written by the thread alone.
        database = sqlite3.connect(path, check_same_thread=False)
        try:
            # WAL keeps a killed daemon's last change whole; the power cord is not our enemy here.
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            with database:
                self._load(database, epoch)
        except BaseException:
            database.close()
            raise
        return database

    def _load(self, database: sqlite3.Connection, epoch: int) -> None:
        database.executescript(_SCHEMA)
        row = database.execute("SELECT number FROM epoch").fetchone()
        self.epoch: int = row[0] + 1 if row else epoch
        database.execute("DELETE FROM epoch")
        database.execute("INSERT INTO epoch VALUES (?)", (self.epoch,))
        self.node = database.execute("SELECT name, pid, start_time FROM node").fetchone()
        query = "SELECT manifest, memory, announced, leaving FROM plugin ORDER BY rowid"
        self.plugins = [
            Wanted(_manifest(text), Memory(**json.loads(memory)), announced, bool(leaving))
            for text, memory, announced, leaving in database.execute(query)
        ]
        self.config = dict(database.execute("SELECT key, value FROM config"))
        self.requests = {
            name: json.loads(text)
            for name, text in database.execute("SELECT id, under_way FROM request")
        }

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Make one change, whole or not at all; `then` is called once it is on disk."""
        self._writes.put((statements, then))

    @property
    def failure(self) -> str:
        """What keeps changes from the disk, in one line; empty when all is well."""
        lost = f"{self._lost} changes are lost for good" if self._lost else ""
        # A change that is just being written waits for nothing.
        has_failed = self._reason and self._owed
        waiting = f"{len(self._owed)} changes wait for it" if has_failed else ""
        return "; ".join(filter(None, (self._reason, waiting, lost)))

    def close(self) -> None:
        """Finish what is waiting and stop the thread."""
        self._writes.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            statements, then = item
            self._pay()
            if len(self._owed) < MAX_OWED:
                self._owed.append(statements)
            else:
                self._lost += 1
            self._pay()
            if failpoints.ARMED:
                failpoints.hit("store.after")
            if then is not None:
                self._call_in_loop(then)
        self._database.close()

    def _next(self) -> Write | None:
        """Wait for the next change; meanwhile try again what is owed."""
        while self._owed:
            try:
                return self._writes.get(timeout=RETRY_S)
            except queue.Empty:
                self._pay()
        return self._writes.get()

    def _pay(self) -> None:
        """Write what is owed, in its order, as far as the disk takes it."""
        while self._owed:
            try:
                self._execute(self._owed[0])
                self._reason = ""
            except (sqlite3.Error, failpoints.FailpointError) as error:
                self._reason = str(error)
                if _code(error) in _PASSING or isinstance(error, failpoints.FailpointError):
                    return
            self._owed.popleft()

    def _execute(self, statements: list[Statement]) -> None:
        if failpoints.ARMED:
            failpoints.hit("store.before")
        with self._database:
            for statement, values in statements:
                self._database.execute(statement, values)


def _code(error: Exception) -> int:
    # Extended codes carry the plain one in their lowest byte; an error of ours has none.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _move_aside(path: Path) -> Path:
    """Make room for a new store. The log goes with its file, or it would be read into the next."""
    aside = path.with_name(path.name + ASIDE)
    try:
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise UsageError(f"{path}: cannot be moved aside: {error.strerror}") from None
    return aside


def want(manifest: Manifest) -> Statement:
    """Want a plugin."""
    # Known already, it keeps its place in the order, its restarts and whether it is leaving.
    text = (
        "INSERT INTO plugin (id, manifest) VALUES (?, ?) "
        "ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest"
    )
    return text, (manifest.id, _text(manifest))


def let_go(plugin_id: str) -> Statement:
    """Begin to want a plugin no more."""
    return "UPDATE plugin SET leaving = 1 WHERE id = ?", (plugin_id,)


def forget(plugin_id: str) -> Statement:
    """Want a plugin no more."""
    return "DELETE FROM plugin WHERE id = ?", (plugin_id,)


def keep_memory(plugin_id: str, memory: Memory) -> Statement:
    """Keep a plugin's crash budget and quarantine."""
    return "UPDATE plugin SET memory = ? WHERE id = ?", (json.dumps(asdict(memory)), plugin_id)


def announce(plugin_id: str, incarnation: int) -> Statement:
    """Keep that a life of a plugin's has been announced as loaded."""
    return "UPDATE plugin SET announced = ? WHERE id = ?", (incarnation, plugin_id)


def configure(key: str, value: str | None) -> Statement:
    """Keep a configured value; None takes it away."""
    if value is None:
        return "DELETE FROM config WHERE key = ?", (key,)
    return "INSERT OR REPLACE INTO config VALUES (?, ?)", (key, value)


def keep_node(name: str, pid: int, start_time: int) -> list[Statement]:
    """Keep which node runs this machine's workers."""
    row = (name, pid, start_time)
    return [("DELETE FROM node", ()), ("INSERT INTO node VALUES (?, ?, ?)", row)]


def begin(request: str, under_way: Mapping[str, object]) -> list[Statement]:
    """Keep what a request set going, so that it is carried out once however often it is asked."""
    return [
        ("INSERT OR REPLACE INTO request VALUES (?, ?)", (request, json.dumps(under_way))),
        ("DELETE FROM request WHERE rowid <= (SELECT max(rowid) FROM request) - ?", (KEPT,)),
    ]


def _text(manifest: Manifest) -> str:
    asked = manifest.permissions
    return json.dumps(
        {
            "metadata": manifest.metadata.to_wire(),
            "source": asdict(manifest.source),
            "path": manifest.path,
            "events": None if manifest.events is None else list(manifest.events),
            "concurrency": manifest.concurrency,
            "reentrant": manifest.reentrant,
            "supervision": manifest.supervision.to_wire(),
            "permissions": None if asked is None else asked.to_wire(),
            "limits": manifest.limits.to_wire(),
            "sandbox": manifest.sandbox,
        }
    )


def _manifest(text: str) -> Manifest:
    fields: dict[str, Any] = json.loads(text)
    asked = fields["permissions"]
    return Manifest(
        metadata=PluginMetadata.from_wire(fields["metadata"]),
        source=PluginSource(**fields["source"]),
        path=fields["path"],
        events=None if fields["events"] is None else tuple(fields["events"]),
        concurrency=fields["concurrency"],
        reentrant=fields["reentrant"],
        supervision=Supervision.from_wire(fields["supervision"]),
        permissions=None if asked is None else parse_permissions(asked),
        limits=parse_limits(fields["limits"]),
        sandbox=fields["sandbox"],
    )
