import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import UsageError
from spiral_host import crash_files
from spiral_host.crash_files import KEPT, MAX_BYTES, CrashFiles, Unreadable, all_of, latest
from spiral_host.crashes import CrashReport
from tests.unit.spiral_host.deaths import remains, report


def keep(run_dir: Path, *, known: bool = False, **what: object) -> CrashReport:
    """Save a report; give it."""
    made = report(**what)
    CrashFiles(run_dir).save(made, may_be_known=known)
    return made


def files(run_dir: Path) -> list[str]:
    """Name all that is kept, by plugin and number."""
    folder = run_dir / "crashes"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def incarnations(run_dir: Path, plugin_id: str = "alpha") -> list[int]:
    found = [each for each in all_of(run_dir, plugin_id) if isinstance(each, CrashReport)]
    return [each.incarnation for each in found]


def instead(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in a report's place."""
    path.unlink()
    make(path)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def change(path: Path, **fields: object) -> None:
    """Write other things into a report."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "half": (lambda path: path.write_bytes(path.read_bytes()[:-20]), "line"),
    "empty": (lambda path: path.write_bytes(b""), "Expecting value"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\xfd"), "decode"),
    "a list": (lambda path: path.write_text("[]"), "CrashReport"),
    "deep": (lambda path: path.write_text("[" * 100_000), "nested too deep"),
    "infinite": (lambda path: path.write_text("1e999"), "no number"),
    "not a number": (lambda path: path.write_text("NaN"), "no number"),
    "endless digits": (lambda path: path.write_text("1" * 9999), "digits"),
    "too long": (lambda path: path.write_bytes(b" " * (MAX_BYTES + 1)), "longer than"),
    "a wrong field": (lambda path: change(path, pid="x"), "pid"),
    "an unknown kind": (lambda path: change(path, kind="nonsense"), "kind"),
    "a wrong call": (lambda path: change(path, in_flight=[{"service": 1}]), "in_flight[0]"),
    "one field more": (lambda path: change(path, more=1), "more"),
    "a folder": (lambda path: instead(path, Path.mkdir), "directory"),
    "a link": (lambda path: instead(path, lambda it: it.symlink_to("/etc/passwd")), "symbolic"),
    "a fifo": (lambda path: instead(path, os.mkfifo), "not a plain file"),
}


class TestReading:
    def test_a_report_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        """
        Hostile text and all.
        """
        text = "\ud800\x1b[2J\x00\x7f\u2028"
        made = keep(tmp_path, traceback=text, remains=remains(stacks=text))

        assert latest(tmp_path, "alpha") == made

    def test_the_newest_comes_first(self, tmp_path: Path) -> None:
        """
        Newest is what was written last, whatever its incarnation: each run gives them anew.
        """
        for incarnation in (9, 5, 7):
            keep(tmp_path, incarnation=incarnation)

        assert incarnations(tmp_path) == [7, 5, 9]

    def test_each_plugin_has_its_own(self, tmp_path: Path) -> None:
        """
        A plugin's reports are found under its id, and a plugin that never died has none.
        """
        keep(tmp_path, plugin_id="alpha", incarnation=1)
        keep(tmp_path, plugin_id="beta", incarnation=2)

        assert (incarnations(tmp_path, "alpha"), incarnations(tmp_path, "beta")) == ([1], [2])
        assert latest(tmp_path, "gamma") is None
        assert latest(tmp_path / "nowhere", "alpha") is None

    @pytest.mark.parametrize("plugin_id", ["../alpha", "/etc", "", ".", "a/b", "a\0b"])
    def test_an_id_is_no_path(self, tmp_path: Path, plugin_id: str) -> None:
        """
        What is no id is refused before anything is opened.
        """
        with pytest.raises(UsageError):
            all_of(tmp_path, plugin_id)

    @pytest.mark.parametrize("what", SPOILED)
    def test_what_is_no_report_is_named(self, tmp_path: Path, what: str) -> None:
        """
        A half, foreign or hostile file is told with its path and reason; the others are read.
        """
        keep(tmp_path, incarnation=1)
        keep(tmp_path, incarnation=2)
        path = tmp_path / "crashes" / "alpha" / "00000002-2.json"
        spoil, why = SPOILED[what]
        spoil(path)

        newest, older = all_of(tmp_path, "alpha")

        assert isinstance(newest, Unreadable)
        assert newest.path == str(path)
        assert why in newest.why
        assert newest.why
        assert isinstance(older, CrashReport)
        assert latest(tmp_path, "alpha") == older

    def test_a_file_that_goes_meanwhile(self, tmp_path: Path) -> None:
        """
        A report that is forgotten while others are read is not missed.
        """
        for incarnation in (1, 2):
            keep(tmp_path, incarnation=incarnation)
        found = all_of(tmp_path, "alpha")
        next(found)
        (tmp_path / "crashes" / "alpha" / "00000001-1.json").unlink()

        assert list(found) == []


class TestWriting:
    def test_they_are_for_us_alone(self, tmp_path: Path) -> None:
        """
        A traceback may hold secrets.
        """
        keep(tmp_path)

        (path,) = (tmp_path / "crashes").rglob("*.json")
        for each in (path.parent.parent, path.parent, path):
            assert each.stat().st_mode & 0o077 == 0

    def test_the_file_is_harmless_to_look_at(self, tmp_path: Path) -> None:
        """
        Whoever prints it to a terminal sees text: ASCII, without a control character.
        """
        keep(tmp_path, traceback="\x1b]0;x\x07\x7f\x9b31m\u202e")

        (path,) = (tmp_path / "crashes").rglob("*.json")
        assert path.read_text(encoding="ascii").replace("\n", "").isprintable()

    def test_one_death_is_told_once(self, tmp_path: Path) -> None:
        """
        A daemon that takes over writes again of a death that the last one may have written of;
        one of its own workers' deaths never takes the place of another run's.
        """
        keep(tmp_path, incarnation=1, reason="first")
        keep(tmp_path, incarnation=2)
        keep(tmp_path, incarnation=1, reason="again", known=True)
        keep(tmp_path, incarnation=1, plugin_id="beta", known=True)
        assert files(tmp_path) == [
            "alpha/00000001-1.json",
            "alpha/00000002-2.json",
            "beta/00000003-1.json",
        ]
        keep(tmp_path, incarnation=1, reason="another run")

        reports = [each for each in all_of(tmp_path, "alpha") if isinstance(each, CrashReport)]
        assert [each.reason for each in reports] == ["another run", "SIGSEGV", "again"]

    def test_the_oldest_of_a_plugin_go_first(self, tmp_path: Path) -> None:
        """
        Fifty of each plugin are kept, and those of another are not touched.
        """
        keep(tmp_path, plugin_id="beta", incarnation=1)
        for incarnation in range(KEPT + 3):
            keep(tmp_path, incarnation=incarnation)

        assert incarnations(tmp_path) == list(range(KEPT + 2, 2, -1))
        assert incarnations(tmp_path, "beta") == [1]

    def test_the_oldest_of_all_go_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        When all together are too large, whatever is oldest makes room, and empty folders go.
        """
        keep(tmp_path, plugin_id="beta", incarnation=1)
        (path,) = (tmp_path / "crashes").rglob("*.json")
        monkeypatch.setattr(crash_files, "ALL_BYTES", path.stat().st_size * 3 + 100)

        for incarnation in (2, 3, 4, 5):
            keep(tmp_path, plugin_id="alpha", incarnation=incarnation)

        assert incarnations(tmp_path) == [5, 4, 3]
        assert [path.name for path in (tmp_path / "crashes").iterdir()] == ["alpha"]

    def test_who_writes_many_does_not_look_each_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It looks at first, and when there may be too many: what a person has removed is none.
        """
        looks: list[Path] = []
        kept = crash_files._kept

        def look(where: Path) -> list[crash_files._File]:
            looks.append(where)
            return kept(where)

        monkeypatch.setattr(crash_files, "_kept", look)
        keep(tmp_path, incarnation=1)
        writer, looks[:] = CrashFiles(tmp_path), []
        for incarnation in range(2, KEPT + 1):
            writer.save(report(incarnation=incarnation), may_be_known=False)
        assert len(looks) == 1
        assert incarnations(tmp_path) == list(range(KEPT, 0, -1))

        (tmp_path / "crashes" / "alpha" / f"{KEPT:08}-{KEPT}.json").unlink()
        writer.save(report(incarnation=100), may_be_known=False)
        writer.save(report(incarnation=101), may_be_known=False)
        assert len(looks) == 4
        assert incarnations(tmp_path) == [101, 100, *range(KEPT - 1, 1, -1)]

    def test_what_is_known_is_forgotten_with_a_failed_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        What was removed with all the rest meanwhile is written anew.
        """
        writer = CrashFiles(tmp_path)
        writer.save(report(incarnation=1), may_be_known=False)
        with monkeypatch.context() as patch:
            patch.setattr(crash_files, "_replace", full)
            with pytest.raises(OSError, match="No space"):
                writer.save(report(incarnation=2), may_be_known=False)
        (tmp_path / "crashes" / "alpha" / "00000001-1.json").unlink()
        writer.save(report(incarnation=3), may_be_known=False)

        assert files(tmp_path) == ["alpha/00000001-3.json"]

    def test_the_longest_report_fits(self, tmp_path: Path) -> None:
        """
        Whatever a worker says, its report can be read again and leaves room for others.
        """
        worst = "\U0001f600" * 100_000
        left = remains(
            stacks=worst, log=worst, events=(worst,) * 200, flights=remains().flights * 200
        )
        made = keep(tmp_path, traceback=worst, reason=worst, remains=left, path=worst)

        assert latest(tmp_path, "alpha") == made
        (path,) = (tmp_path / "crashes").rglob("*.json")
        assert path.stat().st_size < MAX_BYTES / 2

    def test_what_is_not_ours_stays(self, tmp_path: Path) -> None:
        """
        Only reports are counted and forgotten; half ones of a killed daemon are cleared away.
        """
        keep(tmp_path)
        folder = tmp_path / "crashes" / "alpha"
        (folder / "notes.txt").touch()
        (folder / ".00000009-9.json.new").touch()
        (tmp_path / "crashes" / "README").touch()
        (tmp_path / "crashes" / "elsewhere").symlink_to(tmp_path)

        keep(tmp_path, incarnation=8)

        assert files(tmp_path) == [
            "README",
            "alpha/00000001-7.json",
            "alpha/00000002-8.json",
            "alpha/notes.txt",
        ]

    def test_a_failed_write_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A report is there whole or not at all, and the last one stays.
        """
        keep(tmp_path, incarnation=1)

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            keep(tmp_path, incarnation=2)

        assert files(tmp_path) == ["alpha/00000001-1.json"]

    def test_a_run_directory_that_is_gone_is_not_made_anew(self, tmp_path: Path) -> None:
        """
        Nobody would find a report there, and its rights would be wrong.
        """
        with pytest.raises(FileNotFoundError):
            keep(tmp_path / "gone")

        assert not (tmp_path / "gone").exists()
