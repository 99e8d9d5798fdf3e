import os
from pathlib import Path

import pytest

from protocol.errors import ManifestError
from protocol.messages import PluginSource
from spiral_host.manifest import MAX_MANIFEST, read_file, read_folder

GOOD = 'id = "a"\nversion = "1.0.0"\n'


def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "plugin.toml").write_text(text)
    return tmp_path


def script(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "single.py"
    path.write_text("\n".join(["# /// script", *lines, "# ///", "import os", ""]))
    return path


class TestFolder:
    def test_a_declaration_is_read(self, tmp_path: Path) -> None:
        """
        Everything that an author may declare arrives, and nothing is imported.
        """
        text = (
            f'[plugin]\n{GOOD}entry = "pkg.mod:Class"\ncapabilities = ["Operators"]\n'
            'events = ["EpochEnd", "Trainer.*", "*"]\nconcurrency = 4\n'
            '[plugin.dependencies]\nb = ">=1"\n'
        )
        manifest = read_folder(folder(tmp_path, text))

        assert manifest.id == "a"
        assert manifest.path == str(tmp_path)
        assert manifest.source == PluginSource(root=str(tmp_path), entry="pkg.mod:Class")
        assert (manifest.events, manifest.concurrency) == (("EpochEnd", "Trainer.*", "*"), 4)
        assert manifest.metadata.dependencies == {"b": ">=1"}

    def test_what_is_not_said_has_a_meaning(self, tmp_path: Path) -> None:
        """
        Without a word, a plugin is told of all that it may be, and runs one handler at a time.
        """
        manifest = read_folder(folder(tmp_path, f'[plugin]\n{GOOD}entry = "m:C"'))

        assert (manifest.events, manifest.concurrency) == (None, 1)

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            ("nonsense", "plugin.toml"),
            ("a = " + "[" * 5000, "plugin.toml"),
            ("#" * (MAX_MANIFEST + 1), "plugin.toml"),
            ("", "[plugin]"),
            ("plugin = 5", "[plugin]"),
            (f"[plugin]\n{GOOD}", "entry"),
            (f'[plugin]\n{GOOD}entry = "m"', "entry"),
            (f'[plugin]\n{GOOD}entry = "../m:C"', "entry"),
            ('[plugin]\nid = "../a"\nversion = "1"\nentry = "m:C"', "plugin id"),
            ('[plugin]\nid = "a"\nentry = "m:C"', "version"),
            (f'[plugin]\n{GOOD}entry = "m:C"\ncolour = "red"', "metadata"),
            (f'[plugin]\n{GOOD}entry = "m:C"\nevents = "EpochEnd"', "event type"),
            (f'[plugin]\n{GOOD}entry = "m:C"\nevents = [5]', "event type"),
            (f'[plugin]\n{GOOD}entry = "m:C"\nevents = [".*"]', "event type"),
            (f'[plugin]\n{GOOD}entry = "m:C"\nconcurrency = 0', "concurrency"),
            (f'[plugin]\n{GOOD}entry = "m:C"\nconcurrency = true', "concurrency"),
            (f'[plugin]\n{GOOD}entry = "m:C"\ncapabilities = [""]', "capability"),
            (f'[plugin]\n{GOOD}entry = "m:C"\ndependencies = ["b"]', "dependencies"),
        ],
        ids=lambda text: repr(text)[-40:],
    )
    def test_what_cannot_be_meant_names_its_field(
        self, tmp_path: Path, text: str, field: str
    ) -> None:
        """
        A declaration that is wrong says where, so that its author can correct it.
        """
        with pytest.raises(ManifestError) as caught:
            read_folder(folder(tmp_path, text))
        assert caught.value.field == field

    def test_what_cannot_be_read_says_so(self, tmp_path: Path) -> None:
        """
        A missing or binary file, and one that would block its reader, are no manifests.
        """
        with pytest.raises(ManifestError, match="cannot be read"):
            read_folder(tmp_path)
        (tmp_path / "plugin.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(ManifestError, match="cannot be read"):
            read_folder(tmp_path)
        (tmp_path / "plugin.toml").unlink()
        os.mkfifo(tmp_path / "plugin.toml")
        with pytest.raises(ManifestError, match="is no file"):
            read_folder(tmp_path)

    def test_a_path_can_be_shown(self, tmp_path: Path) -> None:
        """
        A folder whose name would paint on a terminal, or cannot travel, is refused.
        """
        for name in ("a\x1b[2J", "b\udcff"):
            with pytest.raises(ManifestError, match="characters that cannot be shown"):
                read_folder(tmp_path / name)


class TestFile:
    def test_a_single_file_declares_in_a_comment(self, tmp_path: Path) -> None:
        """
        The same table stands in inline script metadata, without an entry.
        """
        path = script(tmp_path, "#", "# [tool.spiral-host]", '# id = "a"', '# version = "1"')
        manifest = read_file(path)

        assert manifest is not None
        assert (manifest.id, manifest.path) == ("a", str(path))
        assert manifest.source == PluginSource(root=str(tmp_path), entry="single.py")

    @pytest.mark.parametrize(
        "lines", [[], ["# dependencies = []"], ["# [tool.ruff]"], ["# tool = 5"]], ids=repr
    )
    def test_a_file_may_declare_nothing(self, tmp_path: Path, lines: list[str]) -> None:
        """
        Another tool's metadata, or none, leaves the plugin to be asked.
        """
        assert read_file(script(tmp_path, *lines)) is None
        (tmp_path / "bare.py").write_text("import os\n")
        assert read_file(tmp_path / "bare.py") is None

    @pytest.mark.parametrize(
        "lines",
        [
            ["# [tool]", "# spiral-host = 5"],
            ["# [tool.spiral-host]", '# id = "a"', '# entry = "m:C"'],
            ["# [tool.spiral-host]"],
            ["# nonsense"],
            ["# a = 1", "# ///", "", "# /// script", "# b = 1"],
        ],
        ids=repr,
    )
    def test_a_wrong_declaration_is_refused(self, tmp_path: Path, lines: list[str]) -> None:
        """
        A file that tries to declare something is told what is wrong with it.
        """
        with pytest.raises(ManifestError):
            read_file(script(tmp_path, *lines))
