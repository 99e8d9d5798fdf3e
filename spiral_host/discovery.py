"""Folders, files and import paths to manifests. Reads the disk, imports nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from protocol.errors import ManifestError, travelling
from protocol.messages import Place, PluginSource
from spiral_host.manifest import MANIFEST, Manifest, file_source, read_file, read_folder


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A plugin that declares nothing; a worker has to be asked for its metadata."""

    path: str
    source: PluginSource


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that is no plugin, and why; the others are loaded all the same."""

    path: str
    reason: str
    traceback: str = ""


Found: TypeAlias = Manifest | Undeclared | Refused


def find(place: Place) -> list[Found]:
    """Find the plugins at a place: a plugin's folder, a `.py` file, a folder of these, a class."""
    if place.entry:
        source = PluginSource(root=place.path, entry=place.entry)
        return [Undeclared(place.entry, source)]
    try:
        found = _look(Path(place.path))
    except OSError as error:
        return [Refused(place.path, f"cannot be read: {error.strerror}")]
    if found:
        return found
    reason = f"no plugin there; a plugin is a folder with {MANIFEST}, or a .py file"
    return [Refused(place.path, reason)]


def _look(path: Path) -> list[Found]:
    if not path.exists():
        return [Refused(str(path), "there is no such file or folder; give a plugin's path")]
    if not path.is_dir() or (path / MANIFEST).exists():
        return [_read(path)]
    return [_read(child) for child in sorted(path.iterdir()) if _may_be_plugin(child)]


def _may_be_plugin(path: Path) -> bool:
    if path.name.startswith((".", "_")):
        return False
    return (path / MANIFEST).exists() if path.is_dir() else path.suffix == ".py"


def _read(path: Path) -> Found:
    try:
        if path.is_dir():
            return read_folder(path.resolve())
        if path.suffix != ".py":
            return Refused(str(path), f"is no plugin; give a .py file or a folder with {MANIFEST}")
        resolved = path.resolve()
        return read_file(resolved) or Undeclared(str(resolved), file_source(resolved))
    except ManifestError as error:
        return Refused(travelling(str(path)), f"{error.field}: {error.text}")
    except RuntimeError:  # how pathlib tells of links that go round in a circle
        return Refused(travelling(str(path)), "is a link to itself")


def read_again(manifest: Manifest) -> Manifest:
    """Give a plugin's manifest as it lies there now; what is not that plugin any more is not it."""
    found = find(Place(manifest.path)) if Path(manifest.path).exists() else []
    same = (one for one in found if isinstance(one, Manifest) and one.id == manifest.id)
    return next(same, manifest)
