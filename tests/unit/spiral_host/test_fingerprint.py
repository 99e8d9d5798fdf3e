"""Noticing that a plugin's files have changed, and what follows."""

import os
from pathlib import Path

import pytest

from protocol.messages import PluginSource
from spiral_host.fingerprint import fingerprint
from spiral_host.lifecycle import State
from spiral_host.manifest import read_folder
from spiral_host.supervisor import CODE_S
from tests.unit.spiral_host.fakes import House

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

    def test_nothing_is_looked_at_while_nothing_is_quarantined(
        self, house: House, folder: Path
    ) -> None:
        """
        A host whose plugins are well does not read their folders.
        """
        house.add_ready(read_folder(folder))

        assert house.reactor.due == []
