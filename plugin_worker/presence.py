"""Show the node how this worker is: its pings answered, its stacks written down when it asks.

A ping is answered by the thread that runs the handlers, and by no other, whoever has read it: the
answer says that this thread's loop turns, or waits for a call or an answer as it should.
"""

import faulthandler
import os
import resource
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from plugin_worker.sandbox import kernel
from protocol.flight import DUMP, SIZE
from protocol.messages import Ping, Pong

MOST_COUNTED: Final = 4096
"""Descriptors that are asked about where /proc does not tell; a confined worker has 1024."""


def write_stacks_to(flight_fd: int) -> None:
    """Have every thread's stack written behind the flight page: at a crash, and when asked for.

    Called before any plugin code. It works whatever the threads are doing: in C code too.
    """
    os.lseek(flight_fd, SIZE, os.SEEK_SET)
    faulthandler.enable(flight_fd, all_threads=True)
    faulthandler.register(DUMP, flight_fd, all_threads=True)


def open_descriptors() -> int:
    """Count this process's descriptors.

    No folder is listed for that: a confined worker may not, and it would be told of its plugin.
    """
    try:
        used = os.stat("/proc/self/fd").st_size  # noqa: PTH116 - a text that is always the same
    except OSError:
        used = 0
    # Before Linux 6.2 it is 0 in any case: each number is asked about.
    return used or kernel.count_open(
        min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], MOST_COUNTED)
    )


class Presence:
    """Answers pings; lives as long as the worker and belongs to the thread that made it.

    Args:
        tell: Tells the node.
    """

    def __init__(self, tell: Callable[[Pong], None]) -> None:
        self._tell = tell
        self._asked: deque[int] = deque()
        self._thread = threading.get_ident()

    def asked(self, ping: Ping) -> None:
        """Take in a ping; in whichever thread has read it."""
        self._asked.append(ping.number)

    def answer(self) -> None:
        """Answer the last ping, if this is the thread to do so."""
        if not self._asked or threading.get_ident() != self._thread:
            return
        while self._asked:
            number = self._asked.popleft()
        self._tell(Pong(number, open_descriptors()))
