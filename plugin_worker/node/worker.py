"""One worker process as its node holds it: descriptors, facts, and how it ended."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final

from plugin_worker.node.budget import Budget
from plugin_worker.node.guard import Guard
from plugin_worker.node.holding import holding
from plugin_worker.node.logs import Log
from plugin_worker.node.pulse import Pulse
from plugin_worker.node.vitals import Measured, Vitals
from plugin_worker.node.watch import Watch
from protocol.bucket import Bucket
from protocol.codec import MAX_MESSAGE
from protocol.errors import RemoteProtocolError
from protocol.flight import DUMP, read_counters, read_events
from protocol.limits import DEFAULTS, Limits
from protocol.messages import Cause, Permitted, Sample, WorkerReport
from protocol.packets import Kind
from protocol.permissions import NOTHING, Permissions
from protocol.process import descendants_of, is_ending, usage_of
from protocol.umbilical import Umbilical

MAX_FACTS: Final = 512
MAX_FACT_BYTES: Final = MAX_MESSAGE - 64
"""A worker's facts are its services and one word on how it stands: far less than this. Each, with
what a relay adds to it, has to fit in a message: it is told to daemons that come later."""


@dataclass(slots=True, kw_only=True)
class WorkerProcess:
    """One life of one worker, from the order to start it until it is reaped."""

    incarnation: int
    plugin_id: str
    umbilical: Umbilical
    log: Log
    flight_fd: int
    tmp: Path
    root: str = ""
    """The plugin's own folder, or empty."""
    concurrency: int = 1
    permissions: Permissions = NOTHING
    """Those in force."""
    limits: Limits = DEFAULTS
    pid: int = 0
    pidfd: int = -1
    start_time: int = 0
    born: float = 0.0
    """When it was forked, `time.monotonic()` seconds."""
    guard: Guard | None = None
    """The process above it, if it is not the node's own child."""
    planned: tuple[str, ...] = ()
    """The layers that it is to have."""
    confined: bool = False
    layers: tuple[str, ...] = ()
    """Those that it has, as far as can be seen."""
    said_hello: bool = False
    is_open: bool = True
    """Whether its umbilical may still say something."""
    rule: str = ""
    """Which rule of the host's is ending it, or empty."""
    budget: Budget = field(default_factory=Budget)
    pace: Bucket | None = None
    """What is left of its event rate; twice what its own library keeps, so that haste harms none
    but who goes behind its back. None where there is no limit."""
    facts: dict[bytes, bytes] = field(default_factory=dict)
    pulse: Pulse | None = None
    """Its signs of life, once it is loaded."""
    vitals: Vitals | None = None
    """Its figures over time, once it is forked."""
    watch: Watch | None = None
    """Its use of what it may use, once it is forked."""
    data_dir: str = ""
    may_fork: bool = False
    """Whether it was granted processes of its own."""
    grouped: tuple[str, ...] = ()
    """The limits that its group holds, in which it is or soon will be."""
    awaits_group: bool = False
    """Whether it may not load its plugin before it is in a group of its own."""
    has_dumped: bool = False
    """Whether it was asked for its stacks, before its end."""

    def __post_init__(self) -> None:
        if self.limits.event_rate != inf:
            self.pace = Bucket(2 * self.limits.event_rate)

    def wait_s(self, kind: Kind, size: int, events: int) -> float:
        """Count what it has said; say how long it is not to be heard now, seconds."""
        if kind is Kind.EVENTS:
            if self.pace is None:
                return 0.0
            self.pace.owe(events, time.monotonic())
            return self.pace.wait_s()
        now = time.monotonic()
        return self.budget.wait_s(now) if self.budget.spend(size, now) else 0.0

    def keep(self, body: bytes) -> bytes:
        """Keep a fact, which comes as `u8 length, key, frame`; `-key` takes it back.

        Returns:
            The frame, to be relayed.

        Raises:
            RemoteProtocolError: It is none, or there are too many.
        """
        if not body or len(body) < 1 + body[0]:
            raise RemoteProtocolError("a fact without a key")
        key, frame = body[1 : 1 + body[0]], body[1 + body[0] :]
        if key.startswith(b"-"):
            self.facts.pop(key[1:], None)
            return frame
        self.facts[key] = frame
        if len(self.facts) > MAX_FACTS or sum(map(len, self.facts.values())) > MAX_FACT_BYTES:
            raise RemoteProtocolError("too many facts")
        return frame

    def report(self) -> WorkerReport:
        """Tell a daemon that has not met it."""
        return WorkerReport(
            incarnation=self.incarnation,
            plugin_id=self.plugin_id,
            pid=self.pid,
            start_time=self.start_time,
            confined=self.confined,
            layers=self.layers,
            silence=self.pulse.silence if self.pulse is not None else "",
            limits=self.limits_held(),
        )

    def permitted(self) -> Permitted:
        """Tell such a daemon what the worker was started with."""
        return Permitted(self.incarnation, self.permissions.to_wire())

    def limits_held(self) -> dict[str, object]:
        """Say of each limit what it is, and what holds it."""
        found = holding(self.limits, self.layers, self.grouped, may_fork=self.may_fork)
        return dict(found.items())

    def is_ending(self) -> bool:
        """Say whether it ends: by itself, or because somebody has begun to end it."""
        if self.rule or not self.is_open:
            return True
        # In this order: while its pidfd says nothing its number is not another's.
        return self.pid > 0 and (is_ending(self.pid) or self._has_ended())

    def _has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def signal(self, number: int) -> None:
        """Signal it, and nobody else: by pidfd."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self, rule: str) -> None:
        """End it by force."""
        self.rule = self.rule or rule
        self.signal(signal.SIGKILL)

    def reap(self) -> Cause:
        """Take the dead process's status: as its parent, or from the one that guards it."""
        kind, code = self._verdict() if self.guard is None else self.guard.verdict(self.pidfd)
        if kind == "exit":
            return Cause(kind=kind, code=code)
        # A rule explains a death only if the worker died of what the rule sends.
        ours = kind == "unknown" or code in {signal.SIGKILL, signal.SIGTERM}
        ours = ours or (self.has_dumped and code == DUMP)  # it has thrown our handler out
        return Cause(kind=kind, code=code, rule=self.rule if ours else "")

    def _verdict(self) -> tuple[str, int]:
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            return "unknown", 0
        if result is None:
            return "unknown", 0
        return "exit" if result.si_code == os.CLD_EXITED else "signal", result.si_status

    def events_ran(self) -> int:
        """Say for how many events it has run its callbacks, by its own word."""
        return 0 if self.flight_fd < 0 else read_events(self.flight_fd)

    def sample(self, lag: int, missed: int) -> Sample | None:
        """Measure it; None if it is just leaving.

        Args:
            lag: Events that it has been given and has not run.
            missed: Events that it was too far behind to be given.
        """
        measured = self.measure()
        if measured is None:
            return None
        calls, errors = read_counters(self.flight_fd)
        return Sample(
            incarnation=self.incarnation,
            memory=measured.memory,
            cpu_s=measured.cpu_s,
            threads=measured.threads,
            calls=calls,
            errors=errors,
            lag=lag,
            missed=missed,
            descriptors=self.pulse.descriptors if self.pulse is not None else None,
        )

    def measure(self) -> Measured | None:
        """Say what it uses now; None if it is just leaving."""
        own = usage_of(self.pid)
        if own is None:
            return None
        can_fork = self.may_fork or "seccomp" not in self.planned
        others = map(usage_of, self._started()) if can_fork else ()
        all_ = [own, *(usage for usage in others if usage is not None)]
        return Measured(
            memory=sum(usage.memory for usage in all_),
            cpu_s=sum(usage.cpu_s for usage in all_),
            threads=sum(usage.threads for usage in all_),
            processes=len(all_),
        )

    def _started(self) -> Iterable[int]:
        """Name what it has started and has to answer for."""
        if self.guard is None:  # whose parent has ended is the node's, which ends it
            return descendants_of(self.pid)
        return (pid for pid in self.guard.inhabitants() if pid != self.pid)

    def close(self) -> None:
        """Let go of every descriptor."""
        self.umbilical.close()
        self.log.close()
        for fd in (self.flight_fd, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.flight_fd = -1
