"""Tell whether a plugin's files have changed, without reading them."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from protocol.messages import PluginSource

MAX_FILES: Final = 2000
"""How many are looked at, folders among them; a plugin with more is judged by the first ones."""

_SKIPPED: Final = frozenset({"__pycache__", "node_modules"})


def fingerprint(source: PluginSource, age_s: float = 0.0) -> str:
    """Give a short text that changes when a file of the plugin's code or its manifest does.

    Names, sizes and times of change count. What cannot be read counts as not there.

    Args:
        age_s: As of how long ago. If a file has changed since then, nobody knows what it was: the
            text is one that no later look gives. A change that lies ahead is another machine's
            clock, and does not count as one.
    """
    digest = hashlib.blake2b(digest_size=12)
    now = time.time()  # not to wait by: files know no other clock
    for path in _files(source):
        try:
            stat = Path(path).stat()
        except OSError:
            continue
        digest.update(os.fsencode(path))  # a name may be no text
        digest.update(f"\0{stat.st_mtime_ns}\0{stat.st_size}\0{stat.st_ino}\n".encode())
        if now - age_s < stat.st_ctime <= now:
            digest.update(b"changed\n")
    return digest.hexdigest()


def _files(source: PluginSource) -> Iterator[str]:
    """Give the paths of a plugin's files, as many as are looked at, nearest first."""
    if source.entry.endswith(".py"):
        yield str(Path(source.root) / source.entry)
        return
    folders, left = deque([source.root]), MAX_FILES
    while folders and left > 0:
        for entry in _entries(folders.popleft(), left):
            left -= 1
            if not entry.is_dir(follow_symlinks=False):
                yield entry.path
            elif entry.name not in _SKIPPED and not entry.name.startswith("."):
                folders.append(entry.path)


def _entries(folder: str, most: int) -> list[os.DirEntry[str]]:
    """Give what is in a folder, by name; of more than `most` those that the disk tells first."""
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, most), key=lambda entry: entry.name)
    except OSError:
        return []
