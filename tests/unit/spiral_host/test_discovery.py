import os
from pathlib import Path

import pytest

from protocol.messages import Place, PluginSource
from spiral_host.discovery import Refused, Undeclared, find
from spiral_host.manifest import Manifest


def declare(folder: Path, name: str = "a") -> Path:
    folder.mkdir()
    text = f'[plugin]\nid = "{name}"\nversion = "1"\nentry = "m:C"\n'
    (folder / "plugin.toml").write_text(text)
    return folder


class TestFind:
    def test_a_class_has_to_be_asked(self) -> None:
        """
        An import path names a class, and only a worker may import it.
        """
        assert find(Place("/root", "pkg.mod:Class")) == [
            Undeclared("pkg.mod:Class", PluginSource(root="/root", entry="pkg.mod:Class"))
        ]

    def test_a_plugins_folder_is_a_plugin(self, tmp_path: Path) -> None:
        """
        A folder with a manifest is one plugin.
        """
        (found,) = find(Place(str(declare(tmp_path / "a"))))

        assert isinstance(found, Manifest)

    def test_a_folder_of_plugins_is_all_of_them(self, tmp_path: Path) -> None:
        """
        Folders with a manifest and `.py` files count, in order of name; the rest does not.
        """
        declare(tmp_path / "b", "b")
        declare(tmp_path / ".hidden")
        declare(tmp_path / "_private")
        (tmp_path / "data").mkdir()
        (tmp_path / "notes.txt").touch()
        (tmp_path / "a.py").touch()
        (tmp_path / "c.py").write_text("# /// script\n# nonsense\n# ///\n")
        undeclared, manifest, refused = find(Place(str(tmp_path)))

        assert isinstance(undeclared, Undeclared)
        assert undeclared.source == PluginSource(root=str(tmp_path), entry="a.py")
        assert isinstance(manifest, Manifest)
        assert isinstance(refused, Refused)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("nowhere", "there is no such file or folder"),
            ("empty", "no plugin there"),
            ("notes.txt", "is no plugin"),
            ("loop.py", "there is no such file or folder"),
            ("pipe", "is no plugin"),
            ("pipe.py", "is no file"),
            ("n" * 300, "cannot be read: File name too long"),
        ],
        ids=lambda text: text[:20],
    )
    def test_what_is_no_plugin_is_refused_with_a_reason(
        self, tmp_path: Path, name: str, reason: str
    ) -> None:
        """
        Whatever lies at a path, the daemon answers and goes on.
        """
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.txt").touch()
        (tmp_path / "loop.py").symlink_to("loop.py")
        os.mkfifo(tmp_path / "pipe")
        os.mkfifo(tmp_path / "pipe.py")

        (found,) = find(Place(str(tmp_path / name)))

        assert isinstance(found, Refused)
        assert reason in found.reason

    def test_one_bad_file_spoils_no_other(self, tmp_path: Path) -> None:
        """
        Links that go round, pipes and names that cannot travel are refused beside the good ones.
        """
        (tmp_path / "loop.py").symlink_to("loop.py")
        os.mkfifo(tmp_path / "pipe.py")
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).touch()
        (tmp_path / "good.py").touch()

        found = find(Place(str(tmp_path)))

        assert len(found) == 4
        assert [one.path for one in found if isinstance(one, Undeclared)] == [
            str(tmp_path / "good.py")
        ]
        for one in found:
            one.path.encode()
