"""Noticing that a plugin's files have changed, and what follows."""

import os
from pathlib import Path

import pytest

from protocol.messages import PluginSource
from spiral_host.code_watch import CODE_S, REST
from spiral_host.fingerprint import fingerprint
from spiral_host.lifecycle import State
from spiral_host.manifest import read_folder
from tests.clock import Clock
from tests.hosts import eventually
from tests.unit.spiral_host.fakes import House, manifest

DECLARED = '[plugin]\nid = "base"\nversion = "1.0.0"\nentry = "base:Base"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugin.toml").write_text(DECLARED)
    (tmp_path / "base.py").write_text("broken")
    (tmp_path / "__pycache__").mkdir()
    return tmp_path


class TestFingerprint:
    def test_it_is_the_same_while_nothing_changes(self, folder: Path) -> None:
        """
        Looking twice finds the same.
        """
        source = PluginSource(root=str(folder), entry="base:Base")
        assert fingerprint(source) == fingerprint(source)

    @pytest.mark.parametrize("name", ["base.py", "plugin.toml", "new.py"])
    def test_a_change_of_any_file_shows(self, folder: Path, name: str) -> None:
        """
        Code, manifest, and files that come.
        """
        source = PluginSource(root=str(folder), entry="base:Base")
        before = fingerprint(source)
        (folder / name).write_text("other words")

        assert fingerprint(source) != before

    def test_what_has_changed_since_is_not_known(self, folder: Path) -> None:
        """
        Before a change lay nobody knows what; behind it, what lies there now.
        """
        source = PluginSource(root=str(folder), entry="base:Base")
        now = fingerprint(source)

        assert fingerprint(source, 3600.0) != now
        assert eventually(lambda: fingerprint(source, 0.001) == now)

    def test_a_clock_that_is_ahead_is_no_change(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A disk elsewhere may have a clock of its own.
        """
        source = PluginSource(root=str(folder), entry="base:Base")
        monkeypatch.setattr("spiral_host.fingerprint.time", Clock())

        assert fingerprint(source, 900.0) == fingerprint(source)

    def test_what_python_leaves_behind_does_not_count(self, folder: Path) -> None:
        """
        Compiled files are no change of code.
        """
        source = PluginSource(root=str(folder), entry="base:Base")
        before = fingerprint(source)
        (folder / "__pycache__" / "base.pyc").write_text("x")

        assert fingerprint(source) == before

    def test_of_a_single_file_only_that_file_counts(self, folder: Path) -> None:
        """
        Its neighbours are somebody else's.
        """
        source = PluginSource(root=str(folder), entry="base.py")
        before = fingerprint(source)
        (folder / "plugin.toml").write_text("x")
        assert fingerprint(source) == before
        os.utime(folder / "base.py", ns=(1, 1))
        assert fingerprint(source) != before

    def test_a_name_that_is_no_text_is_a_name(self, folder: Path) -> None:
        """
        A file that another alphabet's program has left behind ends nobody.
        """
        source = PluginSource(root=str(folder), entry="base:Base")
        before = fingerprint(source)
        (folder / os.fsdecode(b"\xff.py")).write_text("")

        assert fingerprint(source) != before

    def test_a_huge_folder_is_not_looked_through(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Neither many files nor many folders without files make a look longer than its bound.
        """
        for number in range(20):
            (folder / f"folder{number}" / "deeper").mkdir(parents=True)
        monkeypatch.setattr("spiral_host.fingerprint.MAX_FILES", 10)
        looked: list[str] = []
        scandir = os.scandir

        def seen(path: str) -> object:
            looked.append(path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", seen)
        fingerprint(PluginSource(root=str(folder), entry="base:Base"))

        assert looked == [str(folder)]

    def test_a_plugin_that_is_gone_has_one_too(self, tmp_path: Path) -> None:
        """
        What cannot be read is a change, and no error.
        """
        assert fingerprint(PluginSource(root=str(tmp_path / "gone"), entry="a:A"))


class TestRelease:
    def test_changed_code_leaves_quarantine(self, house: House, folder: Path) -> None:
        """
        Within a second the plugin is tried again, with its manifest as it is now.
        """
        house.add(read_folder(folder))
        house.confine("base")
        house.break_("base")
        house.reactor.pass_time(3 * CODE_S)
        assert house.states() == {"base": State.QUARANTINED}

        (folder / "plugin.toml").write_text(DECLARED.replace("1.0.0", "1.0.1"))
        house.reactor.pass_time(CODE_S)

        assert house.states() == {"base": State.STARTING}
        assert house.plugin("base").manifest.metadata.version == "1.0.1"

    def test_code_that_is_saved_while_its_plugin_fails_is_tried(
        self, house: House, folder: Path
    ) -> None:
        """
        What was given up is what was started, not what lay there when it was given up.
        """
        house.add(read_folder(folder))
        house.confine("base")
        (folder / "base.py").write_text("other words")
        house.break_("base")
        house.reactor.pass_time(CODE_S)

        assert house.states() == {"base": State.STARTING}

    def test_code_that_is_saved_before_the_first_look_is_tried(
        self, house: House, folder: Path
    ) -> None:
        """
        However late somebody looks with what code a plugin was started.
        """
        started = house.clock.now = (folder / "base.py").stat().st_ctime
        house.outside.is_away = True
        house.add(read_folder(folder))
        house.confine("base")
        while (saved := (folder / "base.py").stat().st_ctime) == started:
            (folder / "base.py").write_text("other words")
        house.clock.now = saved
        house.break_("base")
        house.outside.begun.pop()()
        house.reactor.pass_time(CODE_S)

        house.outside.begun.pop()()
        assert house.states() == {"base": State.STARTING}

    def test_others_that_start_all_the_time_do_not_put_it_off(
        self, house: House, folder: Path
    ) -> None:
        """
        To look at them is no look at what is in quarantine.
        """
        house.add(read_folder(folder))
        house.confine("base")
        house.break_("base")
        (folder / "base.py").write_text("other words")
        for number in range(4):
            house.add(manifest(f"p{number}"))
            house.reactor.pass_time(0.3 * CODE_S)

        assert house.states()["base"] is State.STARTING

    def test_nobody_waits_for_a_disk_that_does_not_answer(self, house: House, folder: Path) -> None:
        """
        A look that takes long is the only one, and what it finds still counts.
        """
        house.outside.is_away = True
        house.add(read_folder(folder))
        house.confine("base")
        house.break_("base")
        house.reactor.pass_time(10 * CODE_S)
        assert len(house.outside.begun) == 1
        house.outside.begun.pop()()
        house.reactor.pass_time(CODE_S)
        (folder / "base.py").write_text("other words")

        house.outside.begun.pop()()
        assert house.states() == {"base": State.STARTING}

    def test_a_plugin_that_was_tried_meanwhile_is_judged_by_the_next_look(
        self, house: House, folder: Path
    ) -> None:
        """
        What a look finds says nothing of a quarantine that came behind it.
        """
        house.add(read_folder(folder))
        house.confine("base")
        house.break_("base")
        house.outside.is_away = True
        house.reactor.pass_time(CODE_S)
        (folder / "base.py").write_text("other words")
        (look,) = house.outside.begun
        house.outside.begun.clear()
        house.supervisor.restart("base")
        house.confine("base")
        house.break_("base")
        look()

        assert house.states() == {"base": State.QUARANTINED}

    def test_a_long_look_is_followed_by_a_long_rest(
        self, house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Whatever lies there, looking takes a fiftieth of the time.
        """
        took_s = 2.0

        def slow(source: PluginSource, age_s: float) -> str:
            house.clock.now += took_s
            return source.root

        monkeypatch.setattr("spiral_host.code_watch.fingerprint", slow)
        house.add(read_folder(folder))
        house.confine("base")
        house.break_("base")

        assert house.reactor.due == [house.clock.now + REST * took_s]

    def test_a_long_look_at_what_starts_puts_off_no_other(
        self, house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The first that is quarantined is looked at at once, however busy the machine was before.
        """

        def slow(source: PluginSource, age_s: float) -> str:
            house.clock.now += 2.0
            return fingerprint(source, age_s)

        monkeypatch.setattr("spiral_host.code_watch.fingerprint", slow)
        house.add(read_folder(folder))
        house.confine("base")
        (folder / "base.py").write_text("other words")
        house.break_("base")

        assert house.states() == {"base": State.STARTING}

    def test_nothing_is_looked_at_while_nothing_is_quarantined(
        self, house: House, folder: Path
    ) -> None:
        """
        A host whose plugins are well does not read their folders.
        """
        house.add_ready(read_folder(folder))

        assert house.reactor.due == []
