"""Hold on to a folder, whatever becomes of its path."""

import os
from pathlib import Path


def hold(folder: Path) -> Path:
    """Give a path that leads to this very folder for as long as this process lives.

    Somebody may remove the folder, or make another in its place: what is made or removed through
    this path is never another's. It means nothing to other processes.

    Raises:
        OSError: There is no such folder.
    """
    held = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return Path(f"/proc/self/fd/{held}")
