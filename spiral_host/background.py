"""Do in a thread of its own what may wait for a disk that never answers; the loop goes on.

One thing at a time, in the order they came; behind a disk that never answers the others wait too.
"""

import queue
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Background:
    """A thread beside the loop; lives as long as the daemon.

    Args:
        call_in_loop: Has a function called by the daemon's own thread, soon; safe from any thread.
    """

    def __init__(self, call_in_loop: Callable[[Callable[[], None]], None]) -> None:
        self._call_in_loop = call_in_loop
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do this elsewhere, and have the loop called with what came of it."""

        def whole() -> None:
            result = work()
            self._call_in_loop(lambda: then(result))

        self._work.put(whole)
        if self._thread is None:
            # A daemon: a disk that never answers must not keep our process.
            self._thread = threading.Thread(target=self._run, name="background", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._work.get()()
            except Exception:  # noqa: BLE001 - a bug of ours, and no reason to end what is well
                traceback.print_exc()
