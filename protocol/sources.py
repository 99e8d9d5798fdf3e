"""Name source files and folders to people outside: by what an author recognises, no host path.

the plugin's folder        greeter/plugin.py      and `.` in messages
installed libraries        numpy/linalg/linalg.py
the standard library       json/decoder.py
the home folder                                   `~` in messages
ours                       not at all: they tell a plugin's author nothing
"""

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

_INSTALLED: Final = Path(__file__).parent.parent
_OURS: Final = (
    *(f"{_INSTALLED / name}/" for name in ("protocol", "plugin_worker", "spiral_host")),
    "protocol/",  # as compiled modules name themselves
)
_STANDARD: Final = f"{Path(os.__file__).parent}/"
_LIBRARIES: Final = ("/site-packages/", "/dist-packages/")
# The way to a library is short; without a bound a text of nothing but slashes would take hours.
_TO_LIBRARY: Final = re.compile(r"/[^\s'\"()]{0,256}?/(?:site|dist)-packages/")
_LONGEST: Final = 200
"""Characters of a name; the code that a plugin compiles may be named anything."""


class _Folders:
    """The folders that nobody outside needs to know; set once, when the process starts."""

    def __init__(self) -> None:
        self.root = ""
        self.short: dict[str, str] = {}


_FOLDERS: Final = _Folders()


def set_root(root: str) -> None:
    """Name the plugin's folder, absolute or empty; its files are shown relative to it."""
    short = dict.fromkeys(_ways_to(_home()), "~") | dict.fromkeys(_ways_to(root), ".")
    _FOLDERS.root = f"{root.rstrip('/')}/" if root else ""
    _FOLDERS.short = short
    shown_file.cache_clear()


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:  # neither the environment nor the system names one
        return ""


def _ways_to(folder: str) -> set[str]:
    """Give a folder's spellings, with links and without; none for one that cannot be hidden."""
    if not folder or not Path(folder).is_absolute():
        return set()
    return {folder.rstrip("/"), str(Path(folder).resolve())} - {"", "/"}


def without_folders(text: str) -> str:
    """Shorten the private folders that stand in a text."""
    if "-packages/" in text:
        text = _TO_LIBRARY.sub("", text)
    if _FOLDERS.short:
        private = _finding(tuple(_FOLDERS.short))
        text = private.sub(lambda found: _FOLDERS.short[found[0]], text)
    return text


@lru_cache(maxsize=1)
def _finding(folders: tuple[str, ...]) -> re.Pattern[str]:
    """Give what finds folders in a text. Made for the first text, not for each worker's start."""
    either = "|".join(map(re.escape, sorted(folders, key=len, reverse=True)))
    # Whole names only: /srv/a is neither in /srv/ab nor in /srv/a.old.
    return re.compile(rf"(?<![\w.-])(?:{either})(?![\w-]|\.\w)")


@lru_cache(maxsize=1024)
def shown_file(path: str) -> str:
    """Cut a source file's name to what its author recognises; empty for a file of ours."""
    if path.startswith(_OURS):
        return ""
    return _recognised(path)[-_LONGEST:]


def _recognised(path: str) -> str:
    if _FOLDERS.root and path.startswith(_FOLDERS.root):
        return path[len(_FOLDERS.root) :]
    for folder in _LIBRARIES:
        if folder in path:
            return path.rpartition(folder)[2]
    if path.startswith(_STANDARD):
        return path[len(_STANDARD) :]
    return _in_search_path(path) if Path(path).is_absolute() else path


def _in_search_path(path: str) -> str:
    folders = {f"{folder.rstrip('/')}/" for folder in sys.path} - {"/"}
    known = [len(folder) for folder in folders if path.startswith(folder)]
    return path[max(known) :] if known else Path(path).name
