"""End what workers have started and left behind: nothing outlives its worker.

Where seccomp is in force no worker can start a process. Elsewhere it can, and what it starts may
fork on, leave its session and wait for its parent's death. So the node is a child subreaper: a
process whose parent has died becomes the node's own child. Whatever among its children is neither
a worker nor the zygote is an orphan, and is ended; its children are orphans then, and so on.

What a living worker has started, and still is the parent of, is that worker's own business.
"""

import os
import signal
import time
from collections.abc import Callable, Collection
from typing import Final

import psutil

from plugin_worker.node.saying import say
from plugin_worker.sandbox import kernel
from protocol.process import list_children
from protocol.reactor import Reactor, Timer

SELDOM_S: Final = 5.0
"""How often it is looked while all workers live, seconds: for those who daemonise meanwhile."""

AT_ONCE: Final = 64
"""Orphans that are being ended at a time: each costs the node a descriptor until it is gone."""

SHARE: Final = 20
"""It is looked again after twenty times what the last look took: at most 5 % of the node's time,
however fast something forks."""

PAUSE_S: Final = 0.001
FORKING_S: Final = 0.01
"""How soon it is looked again at the earliest, and while that cannot be: a worker is being forked,
or there is no descriptor to look with. Seconds."""


def choose(children: Collection[int], ours: Collection[int], ending: Collection[int]) -> list[int]:
    """Decide which children of the node are to be ended now.

    Args:
        children: All of them.
        ours: The workers and the zygote.
        ending: Orphans that have been ended and are not gone yet.
    """
    orphans = sorted(set(children) - set(ours) - set(ending))
    return orphans[: AT_ONCE - len(ending)]


class Pace:
    """Decide when to look again. Reads no clock."""

    def __init__(self) -> None:
        self._earliest = 0.0

    def soon(self, now: float) -> float:
        """Give the next moment at which looking is not too much."""
        return max(now, self._earliest)

    def looked(self, began: float, ended: float) -> None:
        """Count a look."""
        self._earliest = ended + max(PAUSE_S, SHARE * (ended - began))


class Orphans:
    """The node's orphans; lives as long as the node.

    Args:
        ours: Gives the pids of the children that are meant to be there; None while there may be
            one whose pid is not known yet.
    """

    def __init__(self, reactor: Reactor, ours: Callable[[], Collection[int] | None]) -> None:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        self._reactor = reactor
        self._ours = ours
        self._pace = Pace()
        self._ending: dict[int, int] = {}
        """Their pidfds, by pid."""
        self._beyond_us: set[int] = set()
        self._is_calm = True
        """Whether the last look found nobody to end, nor anybody who was about to."""
        self._timer = Timer(0.0, None)
        self._look_at(time.monotonic() + SELDOM_S)

    def look_soon(self) -> None:
        """Look again: a worker has died."""
        self._look_at(self._pace.soon(time.monotonic()))

    def end_all(self, deadline: float) -> None:
        """End all there are, before the node leaves; by `deadline` what is left is left."""
        self._look()
        while not self._is_calm and (left := deadline - time.monotonic()) > 0:
            self._reactor.turn(left)

    def _look_at(self, when: float) -> None:
        if self._timer.callback is None or when < self._timer.when:
            self._timer.cancel()
            self._timer = self._reactor.call_at(when, self._look)

    def _look(self) -> None:
        began = time.monotonic()
        self._is_calm = False
        ours = self._ours()
        if ours is None:
            self._look_at(began + FORKING_S)
            return
        try:
            children = own_children()
        except OSError:
            self._look_at(began + FORKING_S)  # no descriptor is left to look with
            return
        chosen = choose(children, {*ours, *self._beyond_us}, self._ending)
        self._is_calm = not chosen and not self._ending
        for pid in chosen:
            self._end(pid)
        now = time.monotonic()
        self._pace.looked(began, now)
        self._look_at(self._pace.soon(now) if chosen else now + SELDOM_S)

    def _end(self, pid: int) -> None:
        # Nobody else reaps our children, so until we do the number is this one's.
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG):
            return  # it has ended by itself
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return  # no descriptor left: the next look tries again
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ends just now
        except PermissionError:
            os.close(pidfd)
            self._beyond_us.add(pid)
            say(f"process {pid}, left behind by a plugin, is another user's now")
            return
        self._ending[pid] = pidfd
        self._reactor.watch(pidfd, lambda: self._gone(pid))

    def _gone(self, pid: int) -> None:
        pidfd = self._ending.pop(pid)
        self._reactor.forget(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        self.look_soon()  # its children are ours now


def own_children() -> set[int]:
    """Give the pids of this process's children, those that have ended and are not reaped too."""
    try:
        return set(list_children(os.getpid()))
    except OSError:
        return {child.pid for child in psutil.Process().children()}
