"""Decide what happens to one plugin's worker. Starts nothing, sends nothing, reads no clock.

    DECLARED --StartAsked--> STARTING --Loaded--> READY --StopAsked--> DRAINING --Exited--> STOPPED
       |  ^                    |  ^                 |                     | late
       |  |                    |  |                 |                  STOPPING --Exited--> STOPPED
     Block |                 Exited |             Exited
       v  |                    v  | deadline        |
    BLOCKED                  BACKOFF <--------------+
                               | the crash budget is spent, or the plugin itself is broken
                               v
                             QUARANTINED --RestartAsked--> STARTING

The driver (supervisor.py) feeds events in with the time they happened and carries out, in order,
the actions that come back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias


class State(Enum):
    """Where a plugin stands, in the words that people see."""

    DECLARED = "declared"
    BLOCKED = "blocked"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


class LifecycleError(Exception):
    """The supervisor reported something that cannot have happened: a bug of ours."""


@dataclass(frozen=True, slots=True)
class StartAsked:
    """Everything the plugin depends on is ready, or it is to be tried again."""


@dataclass(frozen=True, slots=True)
class Block:
    """Something the plugin depends on is missing or has failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The plugin's `on_load` has returned."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The plugin's own import, metadata or `on_load` raised; its process is leaving."""

    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Someone wants the worker gone, gently."""


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """A person wants it stopped and started again; never refused."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker process is gone and reaped, or could not be made."""

    cause: str


Event: TypeAlias = StartAsked | Block | Loaded | Broke | StopAsked | RestartAsked | Exited


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker, in a new incarnation."""


@dataclass(frozen=True, slots=True)
class SendStop:
    """Ask the worker to finish what it has, run `on_unload` and leave."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send the worker SIGTERM."""

    rule: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Send the worker SIGKILL."""

    rule: str


Action: TypeAlias = Spawn | SendStop | Terminate | Kill


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient the supervisor is with one plugin. Times in seconds.

    Attributes:
        start: From spawn to loaded; Firefox gives a GPU process 5 s, but plugins import torch.
        drain: To finish what is running after a stop was asked.
        terminate: From SIGTERM to SIGKILL.
        threshold: Decayed crash count above which the plugin is quarantined.
        half_life: Time in which a past crash loses half its weight.
        backoff: Wait before the second restart; the first is at once, later ones double.
        backoff_max: Longest single wait.

    Source: the decaying count is suture v4's (`handleFailedService`), kept here per plugin, so
    that no plugin pays for another's crashes; 5 crashes are systemd's and jupyter_client's limit.
    """

    start: float = 60.0
    drain: float = 10.0
    terminate: float = 5.0
    threshold: float = 5.0
    half_life: float = 60.0
    backoff: float = 0.1
    backoff_max: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What of a lifecycle outlives its daemon: the record, not the moment.

    Attributes:
        crashes: Decayed crash count as of `last_crash`, a time on the machine's monotonic clock.
        quarantine: Why it is in quarantine; empty when it is not.
    """

    restarts: int = 0
    crashes: float = 0.0
    last_crash: float = 0.0
    quarantine: str = ""
    traceback: str = ""


TRANSITIONS: Final[Mapping[tuple[State, type[Event]], State]] = {
    (State.DECLARED, StartAsked): State.STARTING,
    (State.DECLARED, Block): State.BLOCKED,
    (State.DECLARED, StopAsked): State.STOPPED,
    (State.DECLARED, RestartAsked): State.DECLARED,
    (State.BLOCKED, StartAsked): State.STARTING,
    (State.BLOCKED, Block): State.BLOCKED,
    (State.BLOCKED, StopAsked): State.STOPPED,
    (State.BLOCKED, RestartAsked): State.DECLARED,
    (State.STARTING, Loaded): State.READY,
    (State.STARTING, Broke): State.STARTING,
    (State.STARTING, Exited): State.BACKOFF,
    (State.STARTING, StopAsked): State.DRAINING,
    (State.STARTING, RestartAsked): State.DRAINING,
    (State.READY, Exited): State.BACKOFF,
    (State.READY, StopAsked): State.DRAINING,
    (State.READY, RestartAsked): State.DRAINING,
    (State.DRAINING, Exited): State.STOPPED,
    (State.DRAINING, Loaded): State.DRAINING,
    (State.DRAINING, Broke): State.DRAINING,
    (State.DRAINING, StopAsked): State.DRAINING,
    (State.DRAINING, RestartAsked): State.DRAINING,
    (State.STOPPING, Exited): State.STOPPED,
    (State.STOPPING, Loaded): State.STOPPING,
    (State.STOPPING, Broke): State.STOPPING,
    (State.STOPPING, StopAsked): State.STOPPING,
    (State.STOPPING, RestartAsked): State.STOPPING,
    (State.BACKOFF, StartAsked): State.STARTING,
    (State.BACKOFF, StopAsked): State.STOPPED,
    (State.BACKOFF, RestartAsked): State.STARTING,
    (State.QUARANTINED, StopAsked): State.STOPPED,
    (State.QUARANTINED, RestartAsked): State.STARTING,
    (State.STOPPED, StartAsked): State.STARTING,
    (State.STOPPED, StopAsked): State.STOPPED,
    (State.STOPPED, RestartAsked): State.STARTING,
}


class Lifecycle:
    """One plugin's life under one host, from its declaration until it is forgotten."""

    def __init__(self, policy: Policy, memory: Memory = Memory()) -> None:
        self.state = State.QUARANTINED if memory.quarantine else State.DECLARED
        self.deadline: float | None = None
        """When to call `expire`, in the caller's clock; None while nothing is pending."""
        self.restarts = memory.restarts
        """How often it was started again without anybody asking."""
        self.reason = memory.quarantine
        """Why it is not ready, in one line, or empty."""
        self.traceback = memory.traceback
        self._policy = policy
        self._broken = False
        self._again = False
        self._crashes = memory.crashes
        self._last_crash = memory.last_crash

    @property
    def memory(self) -> Memory:
        """What another daemon has to know of it."""
        is_quarantined = self.state is State.QUARANTINED
        return Memory(
            restarts=self.restarts,
            crashes=self._crashes,
            last_crash=self._last_crash,
            quarantine=self.reason if is_quarantined else "",
            traceback=self.traceback if is_quarantined else "",
        )

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event and say what to do about it.

        Raises:
            LifecycleError: The event is impossible in this state. The state is unchanged.
        """
        before = self.state
        try:
            self.state = TRANSITIONS[before, type(event)]
        except KeyError:
            raise LifecycleError(f"{type(event).__name__} while {before.value}") from None
        if isinstance(event, Exited):
            return self._exited(before, event, now)
        if isinstance(event, Broke):
            self._broken, self.reason, self.traceback = True, event.reason, event.traceback
            return []
        if isinstance(event, Block):
            self.reason = event.reason
            return []
        if isinstance(event, RestartAsked | StopAsked):
            self._again = isinstance(event, RestartAsked)
        if self._again:
            self._crashes = 0.0  # a person who says "again" forgives
        return self._entered(before, now)

    def expire(self, now: float) -> list[Action]:
        """Act on a deadline that has come; early and late calls are harmless."""
        if self.deadline is None or now < self.deadline:
            return []
        if self.state is State.BACKOFF:
            self.restarts += 1
            return self._start(now)
        if self.state is State.DRAINING:
            self.state = State.STOPPING
            self.deadline = now + self._policy.terminate
            return [Terminate("it did not leave when asked")]
        # Said again until the process is gone: the order, or the news of its end, may be lost.
        self.deadline = now + self._policy.terminate
        return [Kill("start timeout" if self.state is State.STARTING else "it ignored SIGTERM")]

    def adopt(self, now: float) -> None:
        """Take over a worker that an earlier daemon started and that has not loaded yet."""
        self.state, self.deadline = State.STARTING, now + self._policy.start

    def _entered(self, before: State, now: float) -> list[Action]:
        if self.state is State.STARTING:
            return self._start(now)
        if self.state is State.DRAINING:
            if before is not State.DRAINING:
                self.deadline = now + self._policy.drain
            return [SendStop()]
        if self.state is not State.STOPPING:
            self.deadline = None
        if self.state is State.READY:
            self.reason = self.traceback = ""
        return []

    def _start(self, now: float) -> list[Action]:
        self.state, self.deadline = State.STARTING, now + self._policy.start
        self.reason = self.traceback = ""
        self._broken = self._again = False
        return [Spawn()]

    def _exited(self, before: State, event: Exited, now: float) -> list[Action]:
        self.deadline = None
        if before in {State.DRAINING, State.STOPPING}:
            return self._start(now) if self._again else []
        if self._broken:
            self.state = State.QUARANTINED
            return []
        self.reason = event.cause
        return self._crashed(now)

    def _crashed(self, now: float) -> list[Action]:
        # A crash weighs 1 and halves every half_life: a plugin that fails once an hour is never
        # punished, and one that fails in a loop is caught within seconds.
        age = max(0.0, now - self._last_crash)  # the clock begins anew when the machine does
        self._crashes = 1.0 + self._crashes * 0.5 ** (age / self._policy.half_life)
        self._last_crash = now
        if self._crashes > self._policy.threshold:
            self.state = State.QUARANTINED
            self.reason = f"crashed {self._crashes:.1f} times lately, last: {self.reason}"
            return []
        wait = self._policy.backoff * (2.0 ** (self._crashes - 1.0) - 1.0)
        self.deadline = now + min(wait, self._policy.backoff_max)
        return []
