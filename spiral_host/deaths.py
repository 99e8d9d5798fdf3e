"""Put together what is known of a death that nobody had asked for, and hand it on. No I/O.

What the node kept of a worker comes before the news of its death; how the plugin goes on is known
right behind it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.messages import Cause, Remains
from spiral_host.crashes import Death, Past
from spiral_host.lifecycle import State
from spiral_host.registry import Plugin

REMEMBERED: Final = 10
"""Deaths of one plugin that its next report tells of; its budget is spent after five."""

MAX_REMAINS: Final = 64
"""What is kept until its death is told; each is told right behind it."""

_ASKED: Final = frozenset({State.DRAINING, State.STOPPING})
_COMES_BACK: Final = frozenset({State.BACKOFF, State.DECLARED, State.STARTING})


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a plugin, as it was when it ended."""

    incarnation: int
    pid: int
    state: State
    began: float
    """When it was started, on the monotonic clock; 0.0 if an earlier daemon did."""

    @classmethod
    def of(cls, plugin: Plugin) -> "Life":
        """Note the life that is about to end."""
        return cls(plugin.incarnation, plugin.pid, plugin.state, plugin.began)


class Deaths:
    """What is known of plugins' deaths; lives as long as the supervisor.

    Args:
        report: Called with each death that nobody had asked for.
    """

    def __init__(self, report: Callable[[Death], None]) -> None:
        self._report = report
        self._remains: dict[int, Remains] = {}
        self._past: dict[str, deque[tuple[float, str, float | None]]] = {}

    def left(self, remains: Remains) -> None:
        """Keep what a worker left behind until the news of its death comes."""
        self._remains[remains.incarnation] = remains
        if len(self._remains) > MAX_REMAINS:
            del self._remains[next(iter(self._remains))]

    def died(self, plugin: Plugin, life: Life, cause: Cause, why: str, now: float) -> None:
        """Report a death, unless the worker had been asked to leave.

        Args:
            plugin: As it stands behind the death.
            why: In one line, if its own code did not raise.
        """
        remains = self._remains.pop(life.incarnation, None)
        if life.state in _ASKED:
            return
        lived_s = now - life.began if life.began else None
        if remains is not None:
            lived_s = remains.lived_s
        after, past = plugin.lifecycle, self._past.setdefault(plugin.id, deque(maxlen=REMEMBERED))
        is_back = after.state in _COMES_BACK
        waits_s = 0.0 if after.deadline is None else max(0.0, after.deadline - now)
        self._report(
            Death(
                plugin_id=plugin.id,
                version=plugin.manifest.metadata.version,
                path=plugin.manifest.path,
                incarnation=life.incarnation,
                pid=life.pid,
                cause=cause,
                reason=after.reason if after.traceback else why,
                traceback=after.traceback,
                state=life.state.value,
                lived_s=lived_s,
                remains=remains,
                past=tuple(
                    Past(ago_s=now - when, cause=what, lived_s=lived) for when, what, lived in past
                ),
                next="restart" if is_back else after.state.value,
                next_in_s=waits_s if is_back else None,
                restarts=after.restarts,
            )
        )
        past.append((now, why, lived_s))

    def forget(self, plugin_id: str) -> None:
        """Forget the past of a plugin that is gone."""
        self._past.pop(plugin_id, None)
