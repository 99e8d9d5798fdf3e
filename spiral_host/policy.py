"""How patient the supervisor is with one plugin, and what it remembers of its crashes. No clock.

A crash weighs 1, and half as much after each half-life that the plugin has been up: one that fails
once an hour is never punished, and one that fails in a loop is started as often as its budget says,
however long each start takes.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

MISFORTUNES: Final = 8
"""How often in a row the host may fail to start a plugin before it gives up: half a minute."""


class Restart(Enum):
    """Whether a plugin that has left by itself is started again; the words are Erlang's."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Unless it left with exit status 0."""
    TEMPORARY = "temporary"
    """Never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient the supervisor is with one plugin. Times in seconds.

    Attributes:
        start: From spawn to loaded; Firefox gives a GPU process 5 s, but plugins import torch.
        hang: From silence to the end; gunicorn waits 30 s, which is long for those who call.
        drain: To finish what is running after a stop was asked.
        terminate: From SIGTERM to SIGKILL; both together leave 50 workers time within 8 s.
        threshold: Decayed crash count above which the plugin is quarantined.
        half_life: Time up in which a past crash loses half its weight.
        backoff: Wait before the second restart; the first is at once, later ones double.
        backoff_max: Longest single wait, before jitter.

    Source: the decaying count is suture v4's (`handleFailedService`), kept here per plugin, so
    that no plugin pays for another's crashes; 5 crashes are systemd's and jupyter_client's limit.
    """

    restart: Restart = Restart.PERMANENT
    start: float = 60.0
    hang: float = 10.0
    drain: float = 5.0
    terminate: float = 1.5
    threshold: float = 5.0
    half_life: float = 60.0
    backoff: float = 0.1
    backoff_max: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What of a lifecycle outlives its daemon: the record, not the moment.

    Attributes:
        crashes: Decayed crash count as of `last_crash`, a time on the machine's monotonic clock.
        counted: The last life whose end was counted.
        asked: The last life that was asked to leave: its end, if nobody saw it, was planned.
        quarantine: Why it is in quarantine; empty when it is not.
        stopped: Why it has stopped for good though nobody unloaded it, or empty.
        code: What `fingerprint` gave for the code that is in quarantine, or empty.
    """

    restarts: int = 0
    crashes: float = 0.0
    last_crash: float = 0.0
    counted: int = 0
    asked: int = 0
    quarantine: str = ""
    stopped: str = ""
    traceback: str = ""
    code: str = ""


class CrashBudget:
    """The decaying count of one plugin's crashes."""

    def __init__(self, memory: Memory) -> None:
        self.count = memory.crashes
        """As of the last crash, in crashes."""
        self.last = memory.last_crash

    def crashed(self, policy: Policy, now: float, up_s: float) -> bool:
        """Count a crash; say whether the plugin may be started again.

        Args:
            up_s: How long it had been up, seconds.
        """
        # The clock of an earlier daemon may have begun anew with the machine.
        self.count = 1.0 + self.count * 0.5 ** (max(0.0, up_s) / policy.half_life)
        self.last = now
        return self.count <= policy.threshold

    def forgive(self) -> None:
        """Forget every crash."""
        self.count = 0.0


def backoff_s(policy: Policy, failures: float, chance: float) -> float:
    """Say how long to wait before the next start, seconds.

    Args:
        failures: How many there were lately, 1 or more; after the first the wait is none.
        chance: Uniform in [0, 1): half to one and a half times the backoff, so that plugins which
            fell together do not come back together.
    """
    wait: float = policy.backoff * (2.0 ** min(failures - 1.0, 64.0) - 1.0)
    return min(max(0.0, wait), policy.backoff_max) * (0.5 + chance)
