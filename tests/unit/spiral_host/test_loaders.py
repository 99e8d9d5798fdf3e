import sys
from pathlib import Path
from types import ModuleType

import pytest

from protocol.errors import UsageError
from protocol.messages import Place
from spiral_host.loaders import DynamicPluginLoader, StaticPluginLoader, places_of

ROOT = Path(__file__).resolve().parents[3]


class Example:
    """A class that an application may name."""


class TestStaticPluginLoader:
    def test_an_import_path_is_taken_as_it_is(self, tmp_path: Path) -> None:
        """
        A text names a module and a class below the root.
        """
        loader = StaticPluginLoader(["pkg.mod:Class"], root=tmp_path)

        assert loader.places() == [Place(str(tmp_path), "pkg.mod:Class")]

    @pytest.mark.parametrize("text", ["pkg.mod", ":Class", "mod:", "mod:a b", "mod:A.B"])
    def test_what_is_no_import_path_is_refused(self, text: str) -> None:
        """
        A text that names no class says what to write.
        """
        with pytest.raises(UsageError, match="write 'package.module:Class'"):
            StaticPluginLoader([text]).places()

    def test_a_class_is_found(self) -> None:
        """
        For a class, the folder of its top-level package is its root.
        """
        place = Place(str(Path(__file__).resolve().parents[Example.__module__.count(".")]))
        (found,) = StaticPluginLoader([Example]).places()

        assert found == Place(place.path, f"{Example.__module__}:Example")

    def test_a_class_of_a_package_itself_is_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A class that stands in an `__init__.py` has its root above the package.
        """
        (tmp_path / "pkg").mkdir()
        module = ModuleType("pkg")
        module.__file__ = str(tmp_path / "pkg" / "__init__.py")
        Path(module.__file__).write_text("class Thing: ...\n")
        monkeypatch.setitem(sys.modules, "pkg", module)
        kind = type("Thing", (), {"__module__": "pkg"})

        assert StaticPluginLoader([kind]).places() == [Place(str(tmp_path), "pkg:Thing")]

    def test_a_script_is_its_own_module(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A class of the running script is imported by the script's file name.
        """
        module = ModuleType("__main__")
        module.__file__ = str(tmp_path / "train.py")
        Path(module.__file__).write_text("class Thing: ...\n")
        monkeypatch.setitem(sys.modules, "__main__", module)
        kind = type("Thing", (), {"__module__": "__main__"})

        assert StaticPluginLoader([kind]).places() == [Place(str(tmp_path), "train:Thing")]

    @pytest.mark.parametrize("kind", [int, type("Ghost", (), {"__module__": "nowhere"})])
    def test_a_class_without_a_file_is_refused(self, kind: type) -> None:
        """
        What no worker could import is refused before any is started.
        """
        with pytest.raises(UsageError, match="has no file"):
            StaticPluginLoader([kind]).places()


class TestPlacesOf:
    def test_whatever_an_application_gives_becomes_places(self, tmp_path: Path) -> None:
        """
        One or many, paths and loaders alike.
        """
        here = Place(str(tmp_path))
        dynamic = DynamicPluginLoader(tmp_path)
        static = StaticPluginLoader(["m:C"], root=tmp_path)

        assert places_of(str(tmp_path)) == places_of(tmp_path) == places_of(dynamic) == (here,)
        assert places_of([tmp_path, static, dynamic]) == (here, Place(str(tmp_path), "m:C"), here)
        assert places_of([]) == ()
