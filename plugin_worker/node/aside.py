"""Do beside the node's loop what may take long, one thing after the other, in a thread of its own.

What it came to is told in the loop. The jobs touch nothing of the node's.
"""

import os
import threading
import traceback
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from plugin_worker.node.saying import say
from protocol.reactor import Reactor, hear

T = TypeVar("T")


class Aside:
    """The thread and its jobs; lives as long as the node."""

    def __init__(self, reactor: Reactor, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        reactor.watch(self._bell, self._tell)
        # Begun now: later there may be so many processes that no thread more is allowed.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(
        self,
        job: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Do it soon; `then` is called in the loop with what it gave, or `failed` with why not."""

        def work() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - a bug of ours must not end those behind it
                why = error  # the name of an exception ends with its block
                say(f"what was done beside the loop has failed: {why!r}")
                self._done.append(lambda: failed(why))
            else:
                self._done.append(lambda: then(result))

        self._jobs.put(work)

    def close(self, longest_s: float) -> None:
        """Wait for what was begun; nobody is told any more."""
        self._reactor.forget(self._bell)
        self._jobs.put(None)
        self._thread.join(longest_s)
        if not self._thread.is_alive():
            os.close(self._bell)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            os.eventfd_write(self._bell, 1)

    def _tell(self) -> None:
        hear(self._bell)
        while self._done:
            tell = self._done.popleft()
            try:
                tell()
            except Exception:  # noqa: BLE001 - a bug of ours must not end the others' node
                say(traceback.format_exc())
