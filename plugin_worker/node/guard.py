"""The bubblewrap process above one worker: the node's own child, which tells how the worker ended.

    node -- bubblewrap -- its init, process 1 inside -- the worker

Whichever of them ends takes the others with it: bubblewrap ends with the worker and says how that
ended, the kernel ends the init with bubblewrap, and all that is in the namespace with the init.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from plugin_worker.sandbox import bwrap, kernel
from protocol.process import children_of, descendants_of
from protocol.reactor import Reactor

LATE_S: Final = 0.5
"""How long bubblewrap may go on after its worker has ended, seconds. It takes less than 1 ms."""


class Guard:
    """One bubblewrap process; lives until that has ended and is reaped.

    Args:
        ended: Called when it has, before anybody else is told.
    """

    def __init__(
        self, reactor: Reactor, process: subprocess.Popen[bytes], ended: Callable[[], None]
    ) -> None:
        self.pid = process.pid
        self.code: int | None = None
        """Its exit status, or minus the signal's number, once it has ended."""
        self._forget = ended
        self._on_end: Callable[[], None] | None = None
        self._reactor = reactor
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        reactor.watch(self._pidfd, self._reap)

    def on_end(self, callback: Callable[[], None] | None) -> None:
        """Have this called once it has ended, and nothing else."""
        self._on_end = callback

    def follow(self, worker: int, died: Callable[[], None]) -> None:
        """Call `died` once both have ended; whichever ends first, the other is ended.

        Args:
            worker: A pidfd of the worker, which stays open until then.
        """
        is_alone = False

        def worker_ended() -> None:
            nonlocal is_alone
            if self.code is not None:
                died()
                return
            is_alone = True
            self._reactor.forget(worker)
            self._reactor.call_later(LATE_S, self.kill)

        def guard_ended() -> None:
            if is_alone:
                died()
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker, signal.SIGKILL)

        self._reactor.watch(worker, worker_ended)
        self.on_end(guard_ended)
        if self.code is not None:
            guard_ended()

    def inhabitants(self) -> Iterator[int]:
        """Name all that is inside: the worker, and what it has started, whoever its parent is now.

        Its init takes in those whose parents have ended, and is bubblewrap's own.
        """
        inits = () if self.code is not None else children_of(self.pid)
        for init in inits:
            yield from descendants_of(init)

    def kill(self) -> None:
        """End it by force, and all below it; harmless when it has ended."""
        if self.code is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def verdict(self, worker: int) -> tuple[str, int]:
        """Say how the worker has ended: ("exit", status), ("signal", number) or ("unknown", 0).

        Args:
            worker: A pidfd of it.
        """
        status = kernel.wait_status(worker)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return ("signal", -code) if code < 0 else ("exit", code)
        if self.code is None:
            return "unknown", 0
        # bubblewrap killed: the kernel has done the same to what was below it.
        return ("signal", signal.SIGKILL) if self.code < 0 else bwrap.ended(self.code)

    def wait(self) -> None:
        """Wait until it has ended; only where it was killed."""
        if self.code is None:
            self._reap()

    def _reap(self) -> None:
        self._reactor.forget(self._pidfd)
        self.code = self._process.wait()
        os.close(self._pidfd)
        self._forget()
        if self._on_end is not None:
            self._on_end()
