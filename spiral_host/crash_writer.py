"""Write crash reports in a thread of its own, so that no disk ever stops the daemon.

A disk that is full or slow costs reports, never supervision: what cannot be written is counted.
"""

import queue
import threading
import time
from pathlib import Path
from typing import Final

from spiral_host.crash_files import CrashFiles
from spiral_host.crashes import Death, compose
from spiral_host.release import host_version

WAITING: Final = 64
"""Deaths that wait to be written of; of more the reports are lost, and counted."""

CLOSE_S: Final = 2.0
"""How long a daemon that ends waits for the last of them, seconds; a disk may never answer."""


class CrashWriter:
    """The reports of one run; lives as long as the daemon, its files longer.

    Args:
        epoch: The daemon's own; an earlier one may have written of its workers' deaths already.
    """

    def __init__(self, run_dir: Path, epoch: int) -> None:
        self.failure = ""
        """Why the last report could not be written, or empty."""
        self.lost = 0
        """Reports that could not be written."""
        self._run_dir = run_dir
        self._files = CrashFiles(run_dir)
        self._epoch = epoch
        self._lock = threading.Lock()
        self._deaths: queue.SimpleQueue[tuple[Death, float, float] | None] = queue.SimpleQueue()
        # A daemon: a disk that never answers must not keep our process.
        self._thread = threading.Thread(target=self._run, name="crash reports", daemon=True)
        self._thread.start()

    def keep(self, death: Death) -> None:
        """Have a report of this death written soon; never waits."""
        if self._deaths.qsize() >= WAITING:
            self._lose("the disk is too slow")
            return
        self._deaths.put((death, time.time(), time.monotonic()))

    def close(self) -> None:
        """Write what waits, as far as the disk lets us, and stop the thread."""
        self._deaths.put(None)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        version = host_version()  # here, because finding it out takes milliseconds
        while (item := self._deaths.get()) is not None:
            death = item[0]
            try:
                report = compose(*item)
                report.versions["spiral-host"] = version
                self._files.save(report, may_be_known=death.incarnation >> 32 < self._epoch)
                self.failure = ""
            except OSError as error:
                self._lose(f"{error.filename or self._run_dir}: {error.strerror or error}")
            except Exception as error:  # noqa: BLE001 - an alarm says so; the next may be written
                self._lose(f"a bug of ours: {error!r}; please report it")

    def _lose(self, why: str) -> None:
        with self._lock:  # the loop loses reports too
            self.failure = why
            self.lost += 1
