import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from spiral_host import audit as module
from spiral_host.audit import (
    LAST,
    MAX_BYTES,
    MAX_LINE,
    WAITING,
    Audit,
    append,
    set_aside,
)
from spiral_host.rundir import AUDIT, REFUSALS

DEADLINE = 10.0


@pytest.fixture(autouse=True)
def closing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a test that closes looks at what has been written."""
    monkeypatch.setattr(module, "CLOSE_S", DEADLINE)


@contextmanager
def writing(run_dir: Path) -> Iterator[Audit]:
    """Write as a daemon does, to the end."""
    audit = Audit(run_dir)
    try:
        yield audit
    finally:
        audit.close()


def lines(run_dir: Path, name: str = AUDIT) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]


class TestLog:
    def test_each_line_is_an_object_with_its_time(self, tmp_path: Path) -> None:
        """
        Closing waits for the last; nobody else can read it.
        """
        with writing(tmp_path) as audit:
            audit.write("granted", "a", version="1.0.0", permissions=["network 443"])
            audit.write("revoked", "b")

        first, second = lines(tmp_path)
        at = datetime.fromisoformat(str(first.pop("at")))
        assert at.utcoffset() == timedelta(0)
        assert first == {
            "kind": "granted",
            "plugin_id": "a",
            "version": "1.0.0",
            "permissions": ["network 443"],
        }
        assert second["kind"] == "revoked"
        assert (tmp_path / AUDIT).stat().st_mode & 0o777 == 0o600
        assert (audit.failure, audit.lost) == ("", 0)

    def test_nothing_to_say_leaves_no_file_and_no_thread(self, tmp_path: Path) -> None:
        with writing(tmp_path):
            assert "audit" not in {thread.name for thread in threading.enumerate()}
        assert not (tmp_path / AUDIT).exists()

    def test_a_line_misleads_no_terminal_and_is_one(self, tmp_path: Path) -> None:
        with writing(tmp_path) as audit:
            audit.write("refused", "a", what="\x1b[2J\n\u202e")
        text = (tmp_path / REFUSALS).read_bytes()
        assert text.isascii()
        assert text.count(b"\n") == 1
        assert b"\x1b" not in text

    def test_one_that_is_too_long_keeps_its_head(self, tmp_path: Path) -> None:
        with writing(tmp_path) as audit:
            audit.write("refused", "a", what="x" * MAX_LINE)
        (line,) = lines(tmp_path, REFUSALS)
        assert (line["kind"], line["plugin_id"], "what" in line) == ("refused", "a", False)


class TestBounds:
    def test_refusals_push_out_no_grant(self, tmp_path: Path) -> None:
        """
        A plugin chooses how often it is refused, and what.
        """
        with writing(tmp_path) as audit:
            audit.write("granted", "a")
            (tmp_path / REFUSALS).write_bytes(b"x" * (MAX_BYTES - 10))
            audit.write("refused", "evil", what="made up")
        assert [line["kind"] for line in lines(tmp_path)] == ["granted"]
        assert [line["plugin_id"] for line in lines(tmp_path, REFUSALS)] == ["evil"]

    def test_no_plugin_pushes_out_what_was_refused_to_another(self, tmp_path: Path) -> None:
        """
        Of a full file one half is kept: whoever has much in it loses its oldest lines.
        """
        path = tmp_path / REFUSALS
        with writing(tmp_path) as audit:
            audit.write("refused", "quiet", what="/etc/passwd")
        evil = (json.dumps({"kind": "refused", "plugin_id": "evil", "n": 0}) + "\n").encode()
        with path.open("ab") as file:
            file.write(evil * ((MAX_BYTES - path.stat().st_size) // len(evil)))
        with writing(tmp_path) as audit:
            audit.write("refused", "evil", what="the last straw")
        found = lines(tmp_path, REFUSALS)
        assert [line["what"] for line in found if "what" in line] == [
            "/etc/passwd",
            "the last straw",
        ]
        assert MAX_BYTES // 2 - 1000 < path.stat().st_size < MAX_BYTES // 2 + 1000
        assert path.stat().st_mode & 0o777 == 0o600
        assert [found.name for found in tmp_path.iterdir()] == [REFUSALS]

    def test_a_file_that_cannot_be_thinned_out_stays_as_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        And nothing is left beside it.
        """
        path = tmp_path / REFUSALS
        path.write_bytes(b"x" * MAX_BYTES)

        def full(_: Path, __: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with writing(tmp_path) as audit:
            audit.write("refused", "evil", what="made up")
        assert audit.lost == 1
        assert path.stat().st_size == MAX_BYTES
        assert [found.name for found in tmp_path.iterdir()] == [REFUSALS]

    def test_a_long_log_becomes_the_last_one(self, tmp_path: Path) -> None:
        """
        Two files of at most 4 MiB; what is older than both is gone.
        """
        path = tmp_path / AUDIT
        for letter in b"abc":
            append(path, bytes([letter]) * (MAX_BYTES - 100), set_aside)
        append(path, b"d" * 10, set_aside)
        append(path, b"e" * 10, set_aside)
        last = path.with_name(AUDIT + LAST)
        assert (path.stat().st_size, last.stat().st_size) == (MAX_BYTES - 99 + 22, MAX_BYTES - 99)
        assert (path.read_bytes()[:1], last.read_bytes()[:1]) == (b"c", b"b")
        append(path, b"f" * 100, set_aside)
        assert (path.read_bytes()[:1], last.read_bytes()[:1]) == (b"f", b"c")
        assert sorted(found.name for found in tmp_path.iterdir()) == [AUDIT, AUDIT + LAST]

    def test_half_a_line_is_taken_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The next one is not spoilt by it.
        """
        path, real = tmp_path / AUDIT, os.write
        append(path, b"one", set_aside)

        def full(fd: int, text: bytes) -> int:
            if len(text) > 3:
                return real(fd, text[:3])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            append(path, b"three", set_aside)
        monkeypatch.undo()
        append(path, b"four", set_aside)
        assert path.read_bytes() == b"one\nfour\n"

    def test_a_log_that_is_a_link_is_not_written(self, tmp_path: Path) -> None:
        (tmp_path / AUDIT).symlink_to(tmp_path / "victim")
        with writing(tmp_path) as audit:
            audit.write("granted", "a")
        assert audit.lost == 1
        assert not (tmp_path / "victim").exists()

    def test_a_disk_that_takes_nothing_is_counted(self, tmp_path: Path) -> None:
        """
        And named, until a line could be written again.
        """
        with writing(tmp_path / "nowhere") as audit:
            audit.write("granted", "a")
            audit.write("granted", "b")
        assert audit.lost == 2
        assert "No such file" in audit.failure

    def test_a_slow_disk_stops_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        So many lines wait for it, and no more; half of them may be refusals.
        """
        reached, let = threading.Event(), threading.Event()

        def slow(path: Path, line: bytes, make_room: Callable[[Path], None]) -> None:
            reached.set()
            assert let.wait(DEADLINE)
            append(path, line, make_room)

        monkeypatch.setattr(module, "append", slow)
        with writing(tmp_path) as audit:
            audit.write("granted", "first")
            assert reached.wait(DEADLINE)
            for _ in range(WAITING):
                audit.write("refused", "evil")
            assert (audit.lost, audit.failure) == (WAITING // 2, "the disk is too slow")
            for _ in range(WAITING // 2 + 3):
                audit.write("granted", "a")
            assert audit.lost == WAITING // 2 + 3
            let.set()
        assert len(lines(tmp_path)) == WAITING // 2 + 1
        assert audit.failure == ""
