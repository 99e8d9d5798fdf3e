"""Tell the node what this plugin was refused, so that the operator hears of it.

It is the worker's own word, for the operator's eyes and for nothing else: what is refused is
refused elsewhere.
"""

import collections
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from protocol.messages import WasDenied
from protocol.tally import Tally

if TYPE_CHECKING:
    from plugin_worker.desk import Desk

_MAX_WAITING: Final = 1000
"""Refusals that wait until the thread that is counting has done so; more are not counted."""


class Denials:
    """What the plugin was refused; lives as long as the worker."""

    def __init__(self, desk: "Desk") -> None:
        self._desk = desk
        self._tally = Tally()
        self._counting = threading.Lock()
        self._noted: collections.deque[tuple[str, str]] = collections.deque(maxlen=_MAX_WAITING)

    def note(self, permission: str, what: str) -> None:
        """Count a refusal, and tell it if it is time. Any thread may say so, in whatever it is at.

        It raises nothing: the caller has an error of its own to raise.
        """
        self._noted.append((permission, what))
        # A thread that is refused something while it counts, in a finalizer say, counts it next.
        while self._noted and self._counting.acquire(blocking=False):
            try:
                self._count(*self._noted.popleft())
            except IndexError:
                return  # another thread was quicker
            finally:
                self._counting.release()

    def _count(self, permission: str, what: str) -> None:
        now = time.monotonic()
        told = (*self._tally.expire(now), *self._tally.note(permission, what, 1, now))
        with suppress(OSError):  # the node is gone, and this process about to follow
            for counted in told:
                self._desk.tell_node_soon(WasDenied(*counted))
