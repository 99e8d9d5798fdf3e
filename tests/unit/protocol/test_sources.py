import json.decoder
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import errors, sources


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set a plugin's folder that can be reached by a link too, in a home folder of our own."""
    home = tmp_path / "home"
    root = home / "greeter"
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    monkeypatch.setenv("HOME", str(home))
    sources.set_root(str(tmp_path / "link"))
    yield tmp_path / "link"
    sources.set_root("")


class TestFiles:
    def test_a_plugins_file_is_relative_to_its_folder(self, root: Path) -> None:
        """
        The author sees the names that stand in the plugin's own folder.
        """
        assert sources.shown_file(f"{root}/deep/plugin.py") == "deep/plugin.py"
        assert sources.shown_file(f"{root}/site-packages/x.py") == "site-packages/x.py"

    @pytest.mark.parametrize(
        ("path", "shown"),
        [
            (json.decoder.__file__, "json/decoder.py"),
            ("/opt/venv/lib/python3.11/site-packages/numpy/linalg.py", "numpy/linalg.py"),
            ("/usr/lib/python3/dist-packages/yaml/load.py", "yaml/load.py"),
            ("/srv/elsewhere/lib.py", "lib.py"),
            ("<string>", "<string>"),
            ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
            ("", ""),
            (errors.__file__, ""),
        ],
    )
    def test_other_files_are_shown_as_people_know_them(
        self, root: Path, path: str, shown: str
    ) -> None:
        """
        Libraries by their package, the standard library too, ours not at all.
        """
        assert sources.shown_file(path) == shown

    def test_what_can_be_imported_is_shown_as_it_is_imported(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A library that is installed from its own folder has the name it is imported by.
        """
        monkeypatch.setattr(sys, "path", ["", "/", "/srv", "/srv/lib/", "/srv/other"])
        sources.set_root("")

        assert sources.shown_file("/srv/lib/pkg/mod.py") == "pkg/mod.py"
        assert sources.shown_file("/srv/app.py") == "app.py"

    def test_a_long_name_keeps_its_end(self) -> None:
        """
        Code can be compiled under any name.
        """
        assert len(sources.shown_file("x/" * 9999 + "end.py")) == 200
        assert sources.shown_file("x/" * 9999 + "end.py").endswith("x/end.py")


class TestTexts:
    def test_private_folders_are_cut_from_texts(self, root: Path, tmp_path: Path) -> None:
        """
        The plugin's folder and the home folder are hidden, with links and without.
        """
        home = tmp_path / "home"

        assert sources.without_folders(f"no '{root}/a.txt'") == "no './a.txt'"
        assert sources.without_folders(f"no '{root.resolve()}'.") == "no '.'."
        assert sources.without_folders(f"{home}/b, {home}") == "~/b, ~"

    def test_only_whole_names_are_cut(self, root: Path, tmp_path: Path) -> None:
        """
        What merely begins or ends like a private folder is another one.
        """
        for text in (f"{root}er", f"{root}-2", f"{root}.old", f"x{root}"):
            assert sources.without_folders(text).endswith(text.removeprefix(str(tmp_path)))

    def test_the_way_to_a_library_is_cut(self) -> None:
        """
        Python itself writes such paths into the messages of imports that fail.
        """
        text = "cannot import name 'x' from 'y' (/opt/venv/lib/python3.11/site-packages/y/z.py)"

        assert sources.without_folders(text) == "cannot import name 'x' from 'y' (y/z.py)"

    def test_a_text_that_is_all_slashes_costs_little(self) -> None:
        """
        Hostile texts are searched in time that grows with their length, no faster.
        """
        started = time.process_time()
        sources.without_folders("/" * 32_000 + "-packages/")

        assert time.process_time() - started < 4.0  # 0.2; ten if it grew with the square

    @pytest.mark.parametrize("home", ["/", "", "relative"])
    def test_a_home_that_is_none_hides_nothing(
        self, monkeypatch: pytest.MonkeyPatch, home: str
    ) -> None:
        """
        A home folder at the root of everything would make every path unreadable.
        """
        monkeypatch.setenv("HOME", home)
        sources.set_root("")

        assert sources.without_folders("/etc/hosts relative/x") == "/etc/hosts relative/x"
        assert os.sep in sources.without_folders("/")
