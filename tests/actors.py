"""The plugin of tests/plugins/actor under as many ids as a test of the bus needs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, Final

from spiral_host import Host
from tests.hosts import DEADLINE, all_ready, eventually, plugin

Row = dict[str, Any]

PAGE: Final = 1000


def load_actors(host: Host, folder: Path, *names: str) -> list[Any]:
    """Load it under these ids; give a stub of each one's service."""
    for name in names:
        where = folder / name
        shutil.copytree(plugin("actor"), where, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = where / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('id = "actor"', f'id = "{name}"'))
        assert all_ready(host.load(where))
    return [host.get_service(name) for name in names]


def rows_of(actor: Any) -> list[Row]:  # noqa: ANN401 - a stub
    """Give all events that an actor has seen, in order; they come in pages."""
    rows: list[Row] = []
    while page := actor.seen(len(rows), len(rows) + PAGE):
        rows += page
    return rows


def newest(actor: Any) -> Row:  # noqa: ANN401 - a stub
    """Give the last event that an actor has seen, and no others with it: they may be large."""
    count = actor.count()
    return actor.seen(count - 1, count)[0] if count else {}


def collect(host: Host, pattern: str, **past: Any) -> list[Row]:  # noqa: ANN401 - replay, since
    """Subscribe an application; give the list that fills."""
    seen: list[Row] = []
    host.subscribe(pattern, lambda event: seen.append(event.to_dict()), **past)
    return seen


def wait_sent(host: Host) -> None:
    """Wait until what an application has published has reached every peer of the bus."""
    eventually(lambda: not host._connection.bus.has_unsent)


def of_actors(rows: list[Row]) -> list[Row]:
    """Give the events that are not the daemon's own: those of restarts may still be under way."""
    return [row for row in rows if row["source"] != "spiral-host"]


def numbers(rows: list[Row]) -> list[Any]:
    """Give what custom events carry."""
    return [row["data"] for row in rows]


def covered(rows: list[Row], first: int = 1) -> tuple[int, int]:
    """Check that events and gaps of one line follow each other without a hole or a repeat.

    Returns:
        The last number, and how many are missing.
    """
    expected, missing = first, 0
    for row in rows:
        if row["type"] == "EventGap":
            assert row["first"] == expected, row
            assert row["last"] >= row["first"], row
            missing += row["last"] - row["first"] + 1
            expected = row["last"] + 1
        else:
            assert row["seq"] == expected, row
            expected += 1
    return expected - 1, missing


class Aside:
    """Something done in a thread while the test goes on."""

    def __init__(self, job: Callable[[], object]) -> None:
        self._outcome: list[object] = []
        self._thread = Thread(target=self._run, args=(job,), daemon=True)
        self._thread.start()

    def _run(self, job: Callable[[], object]) -> None:
        try:
            self._outcome.append(job())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self._outcome.append(error)

    @property
    def is_done(self) -> bool:
        """Whether it has come to an end."""
        return bool(self._outcome)

    def outcome(self) -> Any:  # noqa: ANN401 - whatever it gave or raised
        """Wait for its value or error."""
        self._thread.join(DEADLINE)
        (outcome,) = self._outcome
        return outcome
