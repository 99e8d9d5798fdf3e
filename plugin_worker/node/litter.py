"""Remove the folders of dead workers, in a thread: there is no bound on what lies in them.

A million files take half a minute, one of a hundred gigabytes some seconds. The node's loop waits
for none of that; the thread touches nothing of the node's.
"""

import threading
from pathlib import Path
from queue import SimpleQueue

from protocol.folders import remove_folder


class Litter:
    """What is to be removed; lives as long as the node."""

    def __init__(self) -> None:
        self._folders: SimpleQueue[Path | None] = SimpleQueue()
        # Begun now: later there may be so many processes that no thread more is allowed.
        self._thread = threading.Thread(target=self._remove, name="litter", daemon=True)
        self._thread.start()

    def remove(self, folder: Path) -> None:
        """Remove a folder: at once if it is empty, as most are, else soon."""
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            self._folders.put(folder)

    def close(self, longest_s: float) -> None:
        """Wait until all of it is gone; what is left then is left to the next node."""
        self._folders.put(None)
        self._thread.join(longest_s)

    def _remove(self) -> None:
        while (folder := self._folders.get()) is not None:
            remove_folder(folder)
