"""What the operator wants, in SQLite: plugins, configuration, requests under way, epochs.

Written before the action it stands for, on a thread of its own: `write` calls back once the
change is on disk, so that a daemon which is killed at any moment knows what was promised.
Reads happen once, at start.
"""

import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from protocol.errors import UsageError
from protocol.messages import PluginSource
from protocol.plugin import PluginMetadata
from spiral_host.manifest import Manifest

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS epoch (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS node (name TEXT PRIMARY KEY, pid INTEGER, start_time INTEGER);
CREATE TABLE IF NOT EXISTS plugin (
    id TEXT PRIMARY KEY, manifest TEXT NOT NULL, restarts INTEGER NOT NULL DEFAULT 0,
    leaving INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS config (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS request (id TEXT PRIMARY KEY, under_way TEXT NOT NULL);
"""

KEPT: Final = 256
"""Requests that are remembered; a client asks again within seconds or never."""

Statement = tuple[str, tuple[object, ...]]
Write = tuple[list[Statement], Callable[[], None] | None]


class Store:
    """The daemon's memory; lives as long as the daemon, its file as long as the run.

    Args:
        path: The database file; made when it is not there.
        call_in_loop: Has a function called by the daemon's own thread, soon; safe from any thread.

    Raises:
        UsageError: The file is no store, or cannot be opened.
    """

    def __init__(self, path: Path, call_in_loop: Callable[[Callable[[], None]], None]) -> None:
        self._path = path
        self._call_in_loop = call_in_loop
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store")
        self.failure = ""
        """Why the last write failed, or empty; supervision goes on without the store."""
        try:
            with closing(self._open()) as database, database:
                self._load(database)
        except sqlite3.Error as error:
            cure = "move it away to start with no plugins"
            raise UsageError(f"{path}: cannot be read as a store: {error}; {cure}") from None
        self._thread.start()

    def _load(self, database: sqlite3.Connection) -> None:
        database.executescript(_SCHEMA)
        row = database.execute("SELECT number FROM epoch").fetchone()
        self.epoch: int = row[0] + 1 if row else 1
        database.execute("DELETE FROM epoch")
        database.execute("INSERT INTO epoch VALUES (?)", (self.epoch,))
        self.node = database.execute("SELECT name, pid, start_time FROM node").fetchone()
        query = "SELECT manifest, restarts, leaving FROM plugin ORDER BY rowid"
        self.plugins = [
            (_manifest(text), restarts, bool(leaving))
            for text, restarts, leaving in database.execute(query)
        ]
        self.config = dict(database.execute("SELECT key, value FROM config"))
        self.requests = {
            name: json.loads(text)
            for name, text in database.execute("SELECT id, under_way FROM request")
        }

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Make one change, whole or not at all; `then` is called once it is on disk."""
        self._writes.put((statements, then))

    def close(self) -> None:
        """Finish what is waiting and stop the thread."""
        self._writes.put(None)
        self._thread.join()

    def _open(self) -> sqlite3.Connection:
        # WAL keeps a killed daemon's last change whole; the power cord is not our enemy here.
        database = sqlite3.connect(self._path)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        return database

    def _run(self) -> None:
        database = self._open()
        while (item := self._writes.get()) is not None:
            statements, then = item
            try:
                with database:
                    for statement, values in statements:
                        database.execute(statement, values)
                self.failure = ""
            except sqlite3.Error as error:
                self.failure = str(error)
            if then is not None:
                self._call_in_loop(then)
        database.close()


def want(manifest: Manifest) -> Statement:
    """Want a plugin."""
    return "INSERT OR REPLACE INTO plugin (id, manifest) VALUES (?, ?)", (
        manifest.id,
        _text(manifest),
    )


def let_go(plugin_id: str) -> Statement:
    """Begin to want a plugin no more."""
    return "UPDATE plugin SET leaving = 1 WHERE id = ?", (plugin_id,)


def forget(plugin_id: str) -> Statement:
    """Want a plugin no more."""
    return "DELETE FROM plugin WHERE id = ?", (plugin_id,)


def count_restarts(plugin_id: str, restarts: int) -> Statement:
    """Keep how often a plugin was started again."""
    return "UPDATE plugin SET restarts = ? WHERE id = ?", (restarts, plugin_id)


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
    return json.dumps(
        {
            "metadata": manifest.metadata.to_wire(),
            "source": asdict(manifest.source),
            "path": manifest.path,
            "events": list(manifest.events),
            "concurrency": manifest.concurrency,
        }
    )


def _manifest(text: str) -> Manifest:
    fields: dict[str, Any] = json.loads(text)
    return Manifest(
        metadata=PluginMetadata.from_wire(fields["metadata"]),
        source=PluginSource(**fields["source"]),
        path=fields["path"],
        events=tuple(fields["events"]),
        concurrency=fields["concurrency"],
    )
