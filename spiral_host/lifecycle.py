"""Decide what happens to one plugin's worker. Starts nothing, sends nothing, reads no clock.

    DECLARED --StartAsked--> STARTING --Loaded--> READY --StopAsked--> DRAINING --Exited--> STOPPED
     |  ^  ^                    |                 |  ^                    | Late
     |  |  +----- BACKOFF <- Exited -- Exited ----+  | Heard           STOPPING --Exited--> STOPPED
    Block |Late      |                            v  |
     v  |            |                           SUSPECT
    BLOCKED          +--> QUARANTINED: the crash budget is spent, or the plugin itself is broken

The driver (supervisor.py) feeds events in with the time they happened and carries out, in order,
the actions that come back. Every change of state is in the one table below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from spiral_host.policy import MISFORTUNES, CrashBudget, Memory, Policy, Restart, backoff_s


class State(Enum):
    """Where a plugin stands, in the words that people see."""

    DECLARED = "declared"
    BLOCKED = "blocked"
    STARTING = "starting"
    READY = "ready"
    SUSPECT = "suspect"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


class LifecycleError(Exception):
    """The supervisor reported something that cannot have happened: a bug of ours."""


@dataclass(frozen=True, slots=True)
class StartAsked:
    """Everything the plugin depends on is ready."""


@dataclass(frozen=True, slots=True)
class Block:
    """Something the plugin depends on is missing, has failed or is away."""

    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The plugin's `on_load` has returned."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The plugin's own import, metadata or `on_load` raised; its process is leaving.

    Attributes:
        is_excused: Whether something that it depends on was away just then.
    """

    reason: str
    traceback: str
    is_excused: bool = False


@dataclass(frozen=True, slots=True)
class Silent:
    """The loop that runs the plugin's handlers does not answer."""

    why: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The loop answers again."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Someone wants the worker gone, gently."""


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """A person wants it stopped and started again; never refused."""


@dataclass(frozen=True, slots=True)
class ProviderLeft:
    """What it is to be restarted with has gone, or is about to."""


@dataclass(frozen=True, slots=True)
class CodeChanged:
    """The plugin's files are not those that were quarantined."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker process is gone and reaped, or could not be made.

    Attributes:
        is_normal: Whether it left by itself and said that all is well: exit status 0.
        is_excused: Whether the host failed the plugin, and not the plugin its host.
    """

    cause: str
    is_normal: bool = False
    is_excused: bool = False


@dataclass(frozen=True, slots=True)
class Late:
    """The deadline of this state has passed."""


Event: TypeAlias = (
    StartAsked
    | Block
    | Loaded
    | Broke
    | Silent
    | Heard
    | StopAsked
    | RestartAsked
    | ProviderLeft
    | CodeChanged
    | Exited
    | Late
)


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
    """Have the worker write down its stacks, then send it SIGKILL."""

    rule: str


Action: TypeAlias = Spawn | SendStop | Terminate | Kill

_ENDED: Final = (State.BACKOFF, State.QUARANTINED, State.STOPPED)
"""Where a worker's end leads that nobody asked for: by crash budget and restart policy."""

TRANSITIONS: Final[Mapping[tuple[State, type[Event]], tuple[State, ...]]] = {
    (State.DECLARED, StartAsked): (State.STARTING,),
    (State.DECLARED, Block): (State.BLOCKED,),
    (State.DECLARED, StopAsked): (State.STOPPED,),
    (State.DECLARED, RestartAsked): (State.DECLARED,),
    (State.BLOCKED, StartAsked): (State.STARTING, State.READY, State.SUSPECT),
    (State.BLOCKED, Block): (State.BLOCKED,),
    (State.BLOCKED, Silent): (State.BLOCKED,),
    (State.BLOCKED, Heard): (State.BLOCKED,),
    (State.BLOCKED, StopAsked): (State.STOPPED, State.DRAINING),
    (State.BLOCKED, RestartAsked): (State.DECLARED, State.DRAINING),
    (State.BLOCKED, ProviderLeft): (State.DECLARED, State.DRAINING),
    (State.BLOCKED, Exited): (State.BLOCKED, State.QUARANTINED, State.STOPPED),
    (State.STARTING, Loaded): (State.READY,),
    (State.STARTING, Broke): (State.STARTING,),
    (State.STARTING, Silent): (State.STARTING,),
    (State.STARTING, Heard): (State.STARTING,),
    (State.STARTING, Exited): _ENDED,
    (State.STARTING, Late): (State.STARTING,),
    (State.STARTING, StopAsked): (State.DRAINING,),
    (State.STARTING, RestartAsked): (State.DRAINING,),
    (State.STARTING, ProviderLeft): (State.DRAINING,),
    (State.READY, Block): (State.BLOCKED,),
    (State.READY, Silent): (State.SUSPECT,),
    (State.READY, Heard): (State.READY,),
    (State.READY, Exited): _ENDED,
    (State.READY, StopAsked): (State.DRAINING,),
    (State.READY, RestartAsked): (State.DRAINING,),
    (State.READY, ProviderLeft): (State.DRAINING,),
    (State.SUSPECT, Block): (State.BLOCKED,),
    (State.SUSPECT, Silent): (State.SUSPECT,),
    (State.SUSPECT, Heard): (State.READY,),
    (State.SUSPECT, Exited): _ENDED,
    (State.SUSPECT, Late): (State.SUSPECT,),
    (State.SUSPECT, StopAsked): (State.DRAINING,),
    (State.SUSPECT, RestartAsked): (State.DRAINING,),
    (State.SUSPECT, ProviderLeft): (State.DRAINING,),
    (State.DRAINING, Exited): (State.STOPPED, State.DECLARED),
    (State.DRAINING, Loaded): (State.DRAINING,),
    (State.DRAINING, Broke): (State.DRAINING,),
    (State.DRAINING, Silent): (State.DRAINING,),
    (State.DRAINING, Heard): (State.DRAINING,),
    (State.DRAINING, Late): (State.STOPPING,),
    (State.DRAINING, StopAsked): (State.DRAINING,),
    (State.DRAINING, RestartAsked): (State.DRAINING,),
    (State.STOPPING, Exited): (State.STOPPED, State.DECLARED),
    (State.STOPPING, Loaded): (State.STOPPING,),
    (State.STOPPING, Broke): (State.STOPPING,),
    (State.STOPPING, Silent): (State.STOPPING,),
    (State.STOPPING, Heard): (State.STOPPING,),
    (State.STOPPING, Late): (State.STOPPING,),
    (State.STOPPING, StopAsked): (State.STOPPING,),
    (State.STOPPING, RestartAsked): (State.STOPPING,),
    (State.BACKOFF, Late): (State.DECLARED,),
    (State.BACKOFF, StopAsked): (State.STOPPED,),
    (State.BACKOFF, RestartAsked): (State.DECLARED,),
    (State.QUARANTINED, StopAsked): (State.STOPPED,),
    (State.QUARANTINED, RestartAsked): (State.DECLARED,),
    (State.QUARANTINED, CodeChanged): (State.DECLARED,),
    (State.STOPPED, StopAsked): (State.STOPPED,),
    (State.STOPPED, RestartAsked): (State.DECLARED,),
}
"""Where each event leads. Of several states the first, unless what the docstrings of `Policy` and
`Exited` say, or a worker that is kept while its plugin is blocked, makes it another of them."""


class Lifecycle:
    """One plugin's life under one host, from its declaration until it is forgotten."""

    def __init__(self, policy: Policy, memory: Memory = Memory()) -> None:
        self.state = State.DECLARED
        if memory.quarantine or memory.stopped:
            self.state = State.QUARANTINED if memory.quarantine else State.STOPPED
        self.policy = policy
        self.deadline: float | None = None
        """When to call `expire`, in the caller's clock; None while nothing is pending."""
        self.restarts = memory.restarts
        """How often it was started again without anybody asking."""
        self.reason = memory.quarantine or memory.stopped
        """Why it is not ready, in one line, or empty."""
        self.traceback = memory.traceback
        self.code = memory.code
        """What the driver notes of the code that it was last started with."""
        self.counted, self.asked = memory.counted, memory.asked
        """Lives that the driver notes; see `Memory`."""
        self.has_worker = False
        self.is_restart = False
        """Whether its next start is one that nobody has asked for."""
        self._budget = CrashBudget(memory)
        self._misfortunes = 0
        self._up_since: float | None = None
        self._silence = ""
        self._broken: Broke | None = None
        self._again = False

    @property
    def memory(self) -> Memory:
        """What another daemon has to know of it."""
        is_quarantined, is_stopped = self.state is State.QUARANTINED, self.state is State.STOPPED
        return Memory(
            restarts=self.restarts,
            crashes=self._budget.count,
            last_crash=self._budget.last,
            counted=self.counted,
            asked=self.asked,
            quarantine=self.reason if is_quarantined else "",
            stopped=self.reason if is_stopped else "",
            traceback=self.traceback if is_quarantined else "",
            code=self.code if is_quarantined else "",
        )

    @property
    def forgiven(self) -> Memory:
        """What another daemon has to know of it once a person has said "again"."""
        return Memory(restarts=self.restarts, last_crash=self._budget.last)

    def handle(self, event: Event, now: float, chance: float = 0.5) -> list[Action]:
        """Take in one event and say what to do about it.

        Args:
            chance: Uniform in [0, 1), for the jitter of a backoff.

        Raises:
            LifecycleError: The event is impossible in this state. The state is unchanged.
        """
        before = self.state
        try:
            self.state = TRANSITIONS[before, type(event)][0]
        except KeyError:
            raise LifecycleError(f"{type(event).__name__} while {before.value}") from None
        if isinstance(event, Exited):
            self._exited(before, event, now, chance)
        elif isinstance(event, Late):
            return self._late(before, now)
        elif isinstance(event, StartAsked):
            return self._start(now)
        elif isinstance(event, StopAsked | RestartAsked | ProviderLeft):
            return self._leave(before, event, now)
        else:
            self._note(before, event, now)
        return []

    def expire(self, now: float) -> list[Action]:
        """Act on a deadline that has come; early and late calls are harmless."""
        if self.deadline is None or now < self.deadline:
            return []
        return self.handle(Late(), now)

    def adopt(self, now: float) -> None:
        """Take over a worker that an earlier daemon started and that has not loaded yet."""
        self.state, self.deadline = State.STARTING, now + self.policy.start
        self.has_worker = True
        self._up_since = self._budget.last  # nobody knows how long it took to come up

    def count_missed(self, now: float) -> None:
        """Count a crash of an earlier life, of which an earlier daemon had not been told."""
        self._budget.crashed(self.policy, now, 0.0)

    # --- what happened ----------------------------------------------------------------------------

    def _note(self, before: State, event: Event, now: float) -> None:
        if isinstance(event, Broke):
            self._broken, self.reason, self.traceback = event, event.reason, event.traceback
        elif isinstance(event, Block):
            self.reason, self.deadline = event.reason, None
        elif isinstance(event, CodeChanged):
            self._forgive()
            self.reason = self.traceback = self.code = ""
        elif isinstance(event, Silent):
            self._silence = event.why
            if before is State.READY:
                self._suspect(now)
        elif isinstance(event, Heard):
            self._silence = ""
            if before is State.SUSPECT:
                self._ready()
        elif before is State.STARTING:  # loaded, which is a sign of life
            self._silence, self._misfortunes = "", 0
            self._up_since = now if self._up_since is None else self._up_since
            self._ready()

    def _ready(self) -> None:
        self.state, self.deadline = State.READY, None
        self.reason = self.traceback = ""

    def _suspect(self, now: float) -> None:
        self.state, self.deadline = State.SUSPECT, now + self.policy.hang
        self.reason = self._silence

    def _exited(self, before: State, event: Exited, now: float, chance: float) -> None:
        self.deadline, self.has_worker = None, False
        if before in {State.DRAINING, State.STOPPING}:
            self.state = State.DECLARED if self._again else State.STOPPED
            self.reason = ""
        elif self._broken is not None and not self._broken.is_excused:
            self.state = State.QUARANTINED
        else:
            since = now if before is State.STARTING or self._up_since is None else self._up_since
            self._fell(event, now, now - since, chance)

    def _fell(self, event: Exited, now: float, up_s: float, chance: float) -> None:
        """Nobody asked the worker to leave, and its own code did not raise while it started."""
        restart = self.policy.restart
        self.reason = self._broken.reason if self._broken else event.cause
        if restart is Restart.TEMPORARY or (event.is_normal and restart is Restart.TRANSIENT):
            self.state = State.STOPPED
            self.reason = f"it has left: {self.reason}; its restart is {restart.value}"
        elif event.is_excused or self._broken is not None:
            self._misfortunes += 1
            if self._misfortunes < MISFORTUNES:
                self._wait(now + backoff_s(self.policy, self._misfortunes, chance))
            else:
                self.state = State.QUARANTINED
                self.reason = f"could not start {MISFORTUNES} times in a row, last: {self.reason}"
        elif self._budget.crashed(self.policy, now, up_s):
            self._wait(now + backoff_s(self.policy, self._budget.count, chance))
        else:
            self.state = State.QUARANTINED
            self.reason = f"crashed {self._budget.count:.1f} times lately, last: {event.cause}"

    def _wait(self, until: float) -> None:
        self.is_restart = True
        if self.state is State.BACKOFF:  # what is blocked waits for something else
            self.deadline = until

    # --- what is wanted ---------------------------------------------------------------------------

    def _start(self, now: float) -> list[Action]:
        if self.has_worker:  # blocked, and kept meanwhile
            self._ready()
            if self._silence:
                self._suspect(now)
            return []
        self.restarts += self.is_restart
        self.state, self.deadline = State.STARTING, now + self.policy.start
        self.reason = self.traceback = self.code = self._silence = ""
        self.has_worker, self.is_restart, self._again, self._broken = True, False, False, None
        self._up_since = None
        return [Spawn()]

    def _leave(
        self, before: State, event: StopAsked | RestartAsked | ProviderLeft, now: float
    ) -> list[Action]:
        self._again = not isinstance(event, StopAsked)
        if isinstance(event, RestartAsked):
            self._forgive()  # a person who says "again" forgives
        if not self.has_worker:
            self.deadline = None
            self.reason = "" if self._again else self.reason
            return []
        if before is State.STOPPING:
            return []
        self.state = State.DRAINING
        if before is not State.DRAINING:
            self.deadline = now + self.policy.drain
        return [SendStop()]

    def _forgive(self) -> None:
        self._budget.forgive()
        self._misfortunes, self.is_restart = 0, False

    def _late(self, before: State, now: float) -> list[Action]:
        if before is State.BACKOFF:
            self.deadline = None
            return []
        self.deadline = now + self.policy.terminate
        if before is State.DRAINING:
            return [Terminate("it did not leave when asked")]
        # Said again until the process is gone: the order, or the news of its end, may be lost.
        if before is State.STARTING:
            return [Kill("start timeout")]
        if before is State.SUSPECT:
            return [Kill(f"hang: {self.reason}")]
        return [Kill("it ignored SIGTERM")]
