"""Remove a folder, whatever has been put into it.

`shutil.rmtree` goes down level by level, with one call and one descriptor for each: folders nested
deep enough end it, and whoever called it. Here what is nested is moved up first.
"""

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; what cannot be removed stays, and is no error."""
    with suppress(OSError):
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # Some file systems skip an entry when another is removed meanwhile.
            while _empty(top, top):
                pass
        finally:
            os.close(top)
        folder.rmdir()


def _empty(folder: int, top: int) -> bool:
    """Remove what is in a folder; what is nested in it goes up to `top`. Say if anything went."""
    has_removed = False
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=folder)
                elif folder == top:
                    _remove_first(entry.name, top)
                else:
                    os.rename(entry.name, token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
                has_removed = True
    return has_removed


def _remove_first(name: str, top: int) -> None:
    """Remove a folder that is in `top`, once there is nothing in it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(name, flags, dir_fd=top)
    try:
        while _empty(folder, top):
            pass
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
