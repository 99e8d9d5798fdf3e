"""Rivals as the measuring process sees them: told what to do, they say how long it took.

Each rival's caller runs in a process of its own, so that no library's threads, timers and handlers
for `fork` burden another's calls or ours. One that is not installed, hangs or dies is left out of
its row, which says so, and nothing else happens.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks.rivals.roster import ROSTER, Entry, Row

PATIENCE_S: Final = 60.0
"""Ten times what the slowest rival takes for its slowest row on a small machine."""

GOODBYE_S: Final = 3.0
"""For those who stop servers and threads of their own accord."""

LOST: Final = float("nan")
"""What a rival takes that cannot work, or no longer can."""


class Caller:
    """One rival's caller; it starts at once, and is ready when `wait_ready` returns."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.failure = ""
        # A session of its own, so that what a library started can be ended together with it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.drive", f"{__package__}.{entry.module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until it can work, or has said why it cannot."""
        word, _, rest = self._reply().partition(" ")
        if word == "missing":
            self.failure = f"{rest} is not installed"
        elif word == "ready" and set(rest.split()) != set(self.entry.rows):
            raise SystemExit(f"{self.entry.module} can do {rest}; the roster says something else")

    def seconds(self, row: Row, count: int) -> float:
        """Have it do so much of the work; NaN when it cannot."""
        if not self.failure:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{row} {count}\n".encode())
                self._process.stdin.flush()
            reply = self._reply()
        return LOST if self.failure else float(reply)

    def _reply(self) -> str:
        assert self._process.stdout is not None
        pipe = self._process.stdout
        if not select.select([pipe], [], [], PATIENCE_S)[0]:
            self.failure = f"said nothing for {PATIENCE_S:g} s"
        elif line := pipe.readline():
            return line.decode().strip()
        else:
            self.failure = "died"
        return ""

    def close(self) -> None:
        """Let it put its things away, and end what is left of it and of what it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        ended = os.pidfd_open(self._process.pid)
        select.select([ended], [], [], GOODBYE_S)
        os.close(ended)
        # Not reaped yet, so the group's number is still its own.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def callers(*rows: Row) -> Iterator[list[Caller]]:
    """Have all who take part in any of these rows ready to work."""
    with contextlib.ExitStack() as stack:
        ready = []
        for entry in ROSTER:
            if set(rows) & set(entry.rows):
                ready.append(Caller(entry))
                stack.callback(ready[-1].close)
        for caller in ready:
            caller.wait_ready()
        yield ready
