"""Tell whether a plugin's files have changed, without reading them."""

import hashlib
import os
from pathlib import Path
from typing import Final

from protocol.messages import PluginSource

MAX_FILES: Final = 2000
"""How many are looked at; a plugin with more is judged by the first ones."""

_SKIPPED: Final = frozenset({"__pycache__", "node_modules"})


def fingerprint(source: PluginSource) -> str:
    """Give a short text that changes when a file of the plugin's code or its manifest does.

    Names, sizes and times of change count. What cannot be read counts as not there.
    """
    digest = hashlib.blake2b(digest_size=12)
    for path, stat in _files(source):
        digest.update(f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}\0{stat.st_ino}\n".encode())
    return digest.hexdigest()


def _files(source: PluginSource) -> list[tuple[str, os.stat_result]]:
    if source.entry.endswith(".py"):
        return _looked_at([str(Path(source.root) / source.entry)])
    found: list[str] = []
    for folder, folders, names in os.walk(source.root):
        kept = (name for name in folders if name not in _SKIPPED and not name.startswith("."))
        folders[:] = sorted(kept)
        found += [str(Path(folder) / name) for name in sorted(names)]
        if len(found) >= MAX_FILES:
            break
    return _looked_at(found[:MAX_FILES])


def _looked_at(paths: list[str]) -> list[tuple[str, os.stat_result]]:
    looked = []
    for path in paths:
        try:
            looked.append((path, Path(path).stat()))
        except OSError:
            continue
    return looked
