import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_worker.loader import check_metadata, load, open_environment
from plugin_worker.plugin import Plugin
from protocol.errors import UsageError
from protocol.messages import PluginSource
from protocol.plugin import PluginMetadata

IMPORT = "from plugin_worker.plugin import Plugin\n"
CLASS = "class {}(Plugin):\n    pass\n"
DECLARED = PluginMetadata("a", "1.0.0")


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten after it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Said(Plugin):
    """A plugin that says whatever it is told to."""

    def __init__(self, said: object) -> None:
        self._said = said

    def metadata(self) -> PluginMetadata | None:
        """Say it."""
        return self._said  # type: ignore[return-value]


class TestLoad:
    def test_a_class_is_imported_from_its_module(self, tmp_path: Path) -> None:
        """
        An entry names a module and a class in it; what comes out is the plugin, made.
        """
        (tmp_path / "loader_entry.py").write_text(
            IMPORT + CLASS.format("One") + CLASS.format("Two")
        )
        open_environment(str(tmp_path), [])

        plugin = load(PluginSource(root=str(tmp_path), entry="loader_entry:Two"))

        assert type(plugin).__name__ == "Two"

    def test_a_file_has_one_plugin(self, tmp_path: Path) -> None:
        """
        A single file needs no entry, and what it only imports does not count.
        """
        (tmp_path / "loader_single.py").write_text(IMPORT + CLASS.format("Only"))

        plugin = load(PluginSource(root=str(tmp_path), entry="loader_single.py"))

        assert type(plugin).__name__ == "Only"
        assert sys.modules["loader_single"].__file__ == str(tmp_path / "loader_single.py")

    @pytest.mark.parametrize(
        ("text", "found"),
        [(IMPORT, "none"), (IMPORT + CLASS.format("A") + CLASS.format("B"), "A, B")],
    )
    def test_a_file_with_none_or_two_is_refused(
        self, tmp_path: Path, text: str, found: str
    ) -> None:
        """
        Nobody guesses which class was meant.
        """
        (tmp_path / "loader_odd.py").write_text(text)

        with pytest.raises(UsageError, match=f"found {found}"):
            load(PluginSource(root=str(tmp_path), entry="loader_odd.py"))

    @pytest.mark.parametrize(
        ("name", "trouble"), [("Missing", "has no class Missing"), ("Other", "is no subclass")]
    )
    def test_an_entry_has_to_be_a_plugin(self, tmp_path: Path, name: str, trouble: str) -> None:
        """
        A class that is not there, or is no plugin, is the author's to correct.
        """
        (tmp_path / "loader_wrong.py").write_text("class Other: pass\n")
        open_environment(str(tmp_path), [])

        with pytest.raises(UsageError, match=trouble):
            load(PluginSource(root=str(tmp_path), entry=f"loader_wrong:{name}"))

    def test_what_the_plugin_raises_comes_out(self, tmp_path: Path) -> None:
        """
        An import that raises does so here, for the worker to report.
        """
        (tmp_path / "loader_raises.py").write_text("1 / 0\n")

        with pytest.raises(ZeroDivisionError):
            load(PluginSource(root=str(tmp_path), entry="loader_raises.py"))


class TestEnvironment:
    def test_a_plugin_shadows_nothing_of_ours(self, tmp_path: Path) -> None:
        """
        The plugin's folder and its packages come last on the path.
        """
        packages = tmp_path / "site"
        packages.mkdir()
        before = list(sys.path)
        open_environment(str(tmp_path), [str(packages)])
        open_environment("", [])

        assert sys.path == [*before, str(tmp_path), str(packages)]


class TestMetadata:
    @pytest.mark.parametrize(
        ("said", "declared"),
        [(None, DECLARED), (DECLARED, None), (DECLARED.with_name("other"), DECLARED)],
        ids=["manifest", "class", "both"],
    )
    def test_the_manifest_is_the_truth(
        self, said: PluginMetadata | None, declared: PluginMetadata | None
    ) -> None:
        """
        What is declared counts; without a declaration, what the class says.
        """
        assert check_metadata(Said(said), declared) == (declared or said)

    @pytest.mark.parametrize(
        ("said", "declared", "trouble"),
        [
            (None, None, "has no metadata"),
            ("a 1.0.0", None, "returned a str"),
            (PluginMetadata("a", "2.0.0"), DECLARED, "make them agree"),
            (PluginMetadata("b", "1.0.0"), DECLARED, "make them agree"),
        ],
    )
    def test_a_class_does_not_contradict_its_manifest(
        self, said: object, declared: PluginMetadata | None, trouble: str
    ) -> None:
        """
        Two truths are the author's to correct, and no truth is none.
        """
        with pytest.raises(UsageError, match=trouble):
            check_metadata(Said(said), declared)
