"""Where plugins come from: classes that the application knows, or folders found later."""

import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from protocol.errors import UsageError
from protocol.messages import Place


class StaticPluginLoader:
    """Loads classes by their import path; the application does not import them.

    Args:
        classes: `"package.module:Class"`, or classes.
        root: Folder that their top-level package lies in; for a class it is found.
    """

    def __init__(self, classes: Iterable[str | type], root: str | Path | None = None) -> None:
        self._root = Path(root or sys.path[0] or ".").resolve()
        self._classes = tuple(classes)

    def places(self) -> list[Place]:
        """Say where the plugins lie.

        Raises:
            UsageError: A text is no import path, or a class has no file.
        """
        return [self._place(one) for one in self._classes]

    def _place(self, one: str | type) -> Place:
        if not isinstance(one, str):
            return _place_of_class(one)
        module, colon, name = one.partition(":")
        if not colon or not module or not name.isidentifier():
            raise UsageError(f"{one!r} is no import path of a class; write 'package.module:Class'")
        return Place(str(self._root), one)


class DynamicPluginLoader:
    """Loads whatever plugins lie in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def places(self) -> list[Place]:
        """Say where the plugins lie."""
        return [Place(str(self._folder.resolve()))]


Loader: TypeAlias = StaticPluginLoader | DynamicPluginLoader
Source: TypeAlias = str | Path | Loader


def places_of(sources: Source | Iterable[Source]) -> tuple[Place, ...]:
    """Turn what an application may give into places."""
    if isinstance(sources, str | Path | StaticPluginLoader | DynamicPluginLoader):
        sources = [sources]
    places: list[Place] = []
    for source in sources:
        if isinstance(source, str | Path):
            places.append(Place(str(Path(source).resolve())))
        else:
            places += source.places()
    return tuple(places)


def _place_of_class(kind: type) -> Place:
    try:
        file = inspect.getsourcefile(kind)
    except (OSError, TypeError):  # a built-in class has none
        file = None
    if file is None:
        raise UsageError(f"class {kind.__qualname__} has no file that a worker could import")
    path = Path(file).resolve()
    if kind.__module__ == "__main__":
        return Place(str(path.parent), f"{path.stem}:{kind.__qualname__}")
    depth = kind.__module__.count(".") + (path.stem == "__init__")
    root = path.parents[depth]
    return Place(str(root), f"{kind.__module__}:{kind.__qualname__}")
