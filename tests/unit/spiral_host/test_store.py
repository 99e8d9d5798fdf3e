import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from protocol.errors import UsageError
from spiral_host import store
from spiral_host.policy import Memory
from spiral_host.store import KEPT, Statement, Store, Wanted
from tests.unit.spiral_host.fakes import manifest

DEADLINE = 10.0
"""Seconds for a thread to do what takes it a millisecond."""

BASE = manifest("base", {"other": ">=1"}, capabilities=("Operators", "Backend(cuda)"))
MEMORY = Memory(restarts=4, crashes=2.5, last_crash=17.0, quarantine="crashed", traceback="T")
GARBAGE = b"no store at all" * 1000


class Disk:
    """Stores on one file, and the loop that they call back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._open: list[Store] = []
        self._next: list[Disk] = []

    def open(self) -> Store:
        """Start as a daemon does."""
        opened = Store(self.path, self._calls.put)
        self._open.append(opened)
        return opened

    def write(self, opened: Store, *statements: Statement) -> None:
        """Write, and wait until the change is on disk."""
        opened.write(list(statements), lambda: None)
        self._calls.get(timeout=DEADLINE)()

    def killed(self, folder: Path, *, without: int = 0) -> "Disk":
        """Give the files as they are now, without the last bytes that were written."""
        folder.mkdir()
        for part in self.path.parent.glob("state.db*"):
            shutil.copy(part, folder)
        if without:
            log = folder / "state.db-wal"
            log.write_bytes(log.read_bytes()[:-without])
        self._next.append(Disk(folder / "state.db"))
        return self._next[-1]

    def close(self) -> None:
        for opened in self._open:
            opened.close()
        for disk in self._next:
            disk.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "state.db")
    yield disk
    disk.close()


def ids(opened: Store) -> list[str]:
    return [wanted.manifest.id for wanted in opened.plugins]


class TestMemory:
    def test_a_plugin_comes_back_as_it_was(self, disk: Disk) -> None:
        """
        Everything that its manifest said, without its files being read again.
        """
        disk.write(
            disk.open(),
            store.want(BASE),
            store.keep_memory("base", MEMORY),
            store.announce("base", 7),
        )

        assert disk.open().plugins == [Wanted(BASE, MEMORY, 7, leaving=False)]

    def test_plugins_keep_the_order_in_which_they_were_loaded(self, disk: Disk) -> None:
        """
        Also when one of them is written again with a newer manifest.
        """
        first = disk.open()
        disk.write(first, *(store.want(manifest(name)) for name in ("c", "a", "b")))
        disk.write(first, store.want(manifest("c", version="2.0.0")))

        again = disk.open()

        assert ids(again) == ["c", "a", "b"]
        assert again.plugins[0].manifest.metadata.version == "2.0.0"

    def test_a_newer_manifest_changes_nothing_else(self, disk: Disk) -> None:
        """
        A plugin that is leaving leaves, and its crashes are not forgiven.
        """
        first = disk.open()
        disk.write(first, store.want(BASE), store.keep_memory("base", MEMORY))
        disk.write(first, store.announce("base", 7), store.let_go("base"))
        disk.write(first, store.want(BASE))

        assert disk.open().plugins == [Wanted(BASE, MEMORY, 7, leaving=True)]

    def test_one_that_is_forgotten_is_gone(self, disk: Disk) -> None:
        """
        The next daemon does not start it.
        """
        first = disk.open()
        disk.write(first, store.want(BASE), store.want(manifest("b")), store.forget("base"))

        assert ids(disk.open()) == ["b"]

    def test_configuration_is_kept_and_taken_away(self, disk: Disk) -> None:
        """
        The last word on a key counts.
        """
        first = disk.open()
        disk.write(first, store.configure("a", "1"), store.configure("b", "2"))
        disk.write(first, store.configure("a", "3"), store.configure("b", None))

        assert disk.open().config == {"a": "3"}

    def test_the_last_node_is_known(self, disk: Disk) -> None:
        """
        One machine has one node; the newest is it.
        """
        first = disk.open()
        assert first.node is None
        disk.write(first, *store.keep_node("node:a", 1, 2), *store.keep_node("node:b", 3, 4))

        assert disk.open().node == ("node:b", 3, 4)

    def test_requests_are_remembered_up_to_a_number(self, disk: Disk) -> None:
        """
        The newest are kept, so the file does not grow with every order.
        """
        first = disk.open()
        for number in range(KEPT + 3):
            disk.write(first, *store.begin(f"r{number}", {"ids": [str(number)]}))

        requests = disk.open().requests
        assert len(requests) == KEPT
        assert "r2" not in requests
        assert requests[f"r{KEPT + 2}"] == {"ids": [str(KEPT + 2)]}

    def test_every_daemon_has_a_number_of_its_own(self, disk: Disk) -> None:
        """
        Each start counts one further, whether or not anything else was written.
        """
        first, *others = [disk.open().epoch for _ in range(3)]
        assert others == [first + 1, first + 2]

    def test_a_new_store_does_not_repeat_an_earlier_ones_numbers(
        self, disk: Disk, tmp_path: Path
    ) -> None:
        """
        Whoever still knows the last run of a directory is nobody in the next one.
        """
        first = disk.open().epoch
        for file in tmp_path.iterdir():
            file.unlink()
        assert abs(disk.open().epoch - first) > 1

    def test_numbers_built_on_an_epoch_are_exact_everywhere(
        self, disk: Disk, tmp_path: Path
    ) -> None:
        """
        An incarnation is below 2**53, also of a daemon whose store was lost.
        """
        first = disk.open().epoch
        disk.close()
        disk.path.write_bytes(GARBAGE)
        after = disk.open().epoch

        assert first < after
        assert (after << 32) < 1 << 53


class TestKilled:
    def test_what_was_called_back_for_is_there(self, disk: Disk, tmp_path: Path) -> None:
        """
        A daemon killed right after `then` has lost nothing of that change.
        """
        disk.write(disk.open(), store.want(BASE))

        next_disk = disk.killed(tmp_path / "after")

        assert ids(next_disk.open()) == ["base"]

    @pytest.mark.parametrize("without", [1, 100, 5000])
    def test_a_change_cut_short_never_happened(
        self, disk: Disk, tmp_path: Path, without: int
    ) -> None:
        """
        Killed in the middle of a change, what was before is whole and the change is not there.
        """
        first = disk.open()
        disk.write(first, store.want(BASE))
        disk.write(first, store.want(manifest("b")), *store.begin("r", {"ids": ["b"]}))

        next_disk = disk.killed(tmp_path / "after", without=without)
        opened = next_disk.open()

        assert (ids(opened), opened.requests, opened.loss) == (["base"], {}, "")

    def test_a_change_that_fails_is_not_there_in_part(self, disk: Disk) -> None:
        """
        The writer is called back all the same, the failure is said, and the next change counts.
        """
        first = disk.open()
        disk.write(first, store.want(BASE), ("INSERT INTO nowhere VALUES (1)", ()))
        assert "nowhere" in first.failure

        disk.write(first, store.want(manifest("b")))

        assert first.failure == ""
        assert ids(disk.open()) == ["b"]

    def test_a_change_that_is_being_written_is_no_failure(self, disk: Disk) -> None:
        """
        Whoever looks just then is not alarmed.
        """
        first = disk.open()
        writing, may_go_on = threading.Event(), threading.Event()

        def hold() -> None:
            writing.set()
            may_go_on.wait(DEADLINE)

        first._database.create_function("hold", 0, hold)
        first.write([("SELECT hold()", ())])
        assert writing.wait(DEADLINE)
        failure = first.failure
        may_go_on.set()

        assert failure == ""


class TestFull:
    def fill(self, opened: Store) -> int:
        """Let the file grow no further; give the limit that it had."""
        database = opened._database
        (limit,) = database.execute("PRAGMA max_page_count").fetchone()
        database.execute("VACUUM")
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        return int(limit)

    def make_room(self, opened: Store, limit: int) -> None:
        """Let it grow again."""
        opened._database.execute(f"PRAGMA max_page_count = {limit}")

    def test_a_full_disk_stops_nobody_and_is_said(self, disk: Disk) -> None:
        """
        The writer is called back, and the failure stands as long as changes wait for the disk.
        """
        first = disk.open()
        self.fill(first)

        disk.write(first, store.configure("large", "x" * 100_000))
        disk.write(first, store.configure("small", "1"))

        assert first.failure == "database or disk is full; 2 changes wait for it"

    def test_what_could_not_be_written_is_written_once_there_is_room(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        In its order and without another change that would carry it along.
        """
        monkeypatch.setattr(store, "RETRY_S", 0.01)
        first = disk.open()
        limit = self.fill(first)
        disk.write(first, store.configure("a", "x" * 100_000))
        disk.write(first, store.configure("a", "last"))
        assert first.failure
        self.make_room(first, limit)
        until = time.monotonic() + DEADLINE
        while first.failure:
            assert time.monotonic() < until
            time.sleep(0.005)

        assert disk.open().config == {"a": "last"}

    def test_what_waits_is_bounded(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Changes beyond that are lost and counted, also when there is room again.
        """
        monkeypatch.setattr(store, "MAX_OWED", 2)
        first = disk.open()
        limit = self.fill(first)
        for key in ("a", "b", "c"):
            disk.write(first, store.configure(key, "x" * 100_000))
        assert "2 changes wait for it; 1 changes are lost for good" in first.failure
        self.make_room(first, limit)
        disk.write(first, store.configure("d", "1"))

        assert first.failure == "1 changes are lost for good"

    def test_a_store_that_can_only_be_read_is_not_lost(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It stays where it is and the daemon does not start: it could keep no promise.
        """
        disk.write(disk.open(), store.want(BASE))
        disk.close()
        connect = sqlite3.connect
        with monkeypatch.context() as patch:
            patch.setattr(
                sqlite3,
                "connect",
                lambda path, **kw: connect(f"file:{path}?mode=ro", uri=True, **kw),
            )
            with pytest.raises(UsageError, match="readonly database; let its folder"):
                disk.open()

        assert ids(disk.open()) == ["base"]


class TestUnreadable:
    def spoil(self, disk: Disk, statement: str, *values: object) -> None:
        disk.write(disk.open(), store.want(BASE), *store.begin("r", {}))
        disk.close()
        with closing(sqlite3.connect(disk.path)) as database, database:
            database.execute(statement, values)

    def test_a_file_that_is_no_store_is_moved_aside(self, disk: Disk) -> None:
        """
        The daemon starts with nothing, says where the old file is and what to do.
        """
        disk.path.write_bytes(GARBAGE)

        opened = disk.open()

        assert opened.plugins == []
        assert opened.loss.startswith(f"{disk.path} cannot be read as a store: ")
        assert f"moved to {disk.path}.unreadable" in opened.loss
        assert "load the plugins again" in opened.loss
        assert "\n" not in opened.loss
        assert Path(f"{disk.path}.unreadable").read_bytes() == GARBAGE

    def test_the_new_one_is_a_store_like_any_other(self, disk: Disk) -> None:
        """
        What is written after the loss is found by the next daemon, which has no loss to tell.
        """
        disk.path.write_bytes(GARBAGE)
        disk.write(disk.open(), store.want(BASE))

        again = disk.open()

        assert (ids(again), again.loss) == (["base"], "")

    def test_no_number_is_given_again(self, disk: Disk) -> None:
        """
        Lives and events of the daemon before may still be about; the new number is above them.
        """
        before = disk.open().epoch
        disk.close()
        disk.path.write_bytes(GARBAGE)
        Path(f"{disk.path}-wal").write_bytes(GARBAGE)

        after = disk.open().epoch

        assert before <= store.FIRST_EPOCHS <= after < 2 * store.FIRST_EPOCHS
        assert disk.open().epoch == after + 1

    def test_the_old_log_is_not_read_into_the_new_file(self, disk: Disk, tmp_path: Path) -> None:
        """
        A write-ahead log goes with its file, or it would bring half of it back.
        """
        disk.write(disk.open(), store.want(BASE))
        next_disk = disk.killed(tmp_path / "after")
        next_disk.path.write_bytes(GARBAGE)
        Path(f"{next_disk.path}-wal").write_bytes(GARBAGE)

        assert next_disk.open().plugins == []

    @pytest.mark.parametrize(
        "text",
        [
            "nonsense",
            "[]",
            "{}",
            json.dumps({"metadata": {"id": "../up", "version": "1"}}),
            json.dumps({"metadata": 7}),
        ],
    )
    def test_a_manifest_in_it_that_is_none_is_a_loss_too(self, disk: Disk, text: str) -> None:
        """
        A whole file with a garbled plugin is no traceback either.
        """
        self.spoil(disk, "UPDATE plugin SET manifest = ?", text)

        opened = disk.open()

        assert opened.plugins == []
        assert opened.loss

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE request SET under_way = 'nonsense'",
            "UPDATE epoch SET number = 'many'",
            "ALTER TABLE plugin RENAME COLUMN manifest TO something",
        ],
    )
    def test_tables_of_another_shape_are_a_loss_too(self, disk: Disk, statement: str) -> None:
        """
        Whatever SQLite or JSON call the reason.
        """
        self.spoil(disk, statement)

        assert disk.open().loss

    def test_a_folder_in_its_place_is_moved_aside(self, disk: Disk) -> None:
        """
        What cannot even be opened is no reason not to serve.
        """
        disk.path.mkdir()

        assert "unable to open database file" in disk.open().loss

    def test_an_earlier_loss_makes_room(self, disk: Disk) -> None:
        """
        One file aside is kept, the newest.
        """
        for garbage in (GARBAGE, GARBAGE * 2):
            disk.path.write_bytes(garbage)
            disk.open()
            disk.close()
            Path(f"{disk.path}-wal").unlink(missing_ok=True)

        assert Path(f"{disk.path}.unreadable").read_bytes() == GARBAGE * 2

    def test_what_cannot_be_moved_is_an_error_that_says_so(self, disk: Disk) -> None:
        """
        One line for the operator, never a traceback.
        """
        disk.path.write_bytes(GARBAGE)
        (Path(f"{disk.path}.unreadable") / "full").mkdir(parents=True)

        with pytest.raises(UsageError, match="cannot be moved aside"):
            disk.open()

    def test_a_file_that_somebody_uses_is_not_lost(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A store that is whole and only locked stays where it is, and the daemon does not start.
        """
        disk.write(disk.open(), store.want(BASE))
        disk.close()
        impatient = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda path, **kw: impatient(path, timeout=0, **kw))
        with closing(impatient(disk.path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(UsageError, match="locked; is another program using it"):
                disk.open()

        assert ids(disk.open()) == ["base"]


class TestClose:
    def test_what_waits_is_written_first(self, disk: Disk) -> None:
        """
        Everything that was asked for before the end is on disk after it.
        """
        first = disk.open()
        for number in range(50):
            first.write([store.want(manifest(f"p{number}"))])
        first.close()

        assert len(disk.open().plugins) == 50

    def test_twice_is_harmless(self, disk: Disk) -> None:
        """
        Whoever cleans up need not know who did before.
        """
        first = disk.open()
        first.close()
        first.close()

    def test_from_two_threads_both_find_it_closed(self, disk: Disk) -> None:
        """
        Nobody returns before everything is written, and nobody waits for ever.
        """
        first = disk.open()
        first.write([store.want(BASE)])
        seen: SimpleQueue[bool] = SimpleQueue()

        def close() -> None:
            first.close()
            seen.put(first._thread.is_alive())

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()

        assert [seen.get(timeout=DEADLINE) for _ in threads] == [False] * 4
        for thread in threads:
            thread.join(DEADLINE)
        assert ids(disk.open()) == ["base"]

    def test_writers_in_other_threads_lose_nothing_whole(self, disk: Disk) -> None:
        """
        A change that races with the end is there whole or not at all.
        """
        first = disk.open()

        def write() -> None:
            for number in range(50):
                pair = (manifest(f"a{number}"), manifest(f"b{number}"))
                first.write([store.want(one) for one in pair])

        writer = threading.Thread(target=write)
        writer.start()
        first.close()
        writer.join(DEADLINE)

        found = ids(disk.open())
        assert sorted(name[1:] for name in found if name[0] == "a") == sorted(
            name[1:] for name in found if name[0] == "b"
        )
