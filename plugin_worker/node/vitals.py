"""Decide when a worker is measured, and keep its last figures. Measures nothing, reads no clock."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from protocol.messages import Vital

OFTEN_S: Final = 10.0
"""How often a worker is measured whose processor time moves, seconds; once takes 25 us."""

SELDOM_S: Final = 60.0
"""How often one is that does nothing: a hundred of them cost 0.02 % of a core."""

KEPT: Final = 20
"""Figures of one worker: the last three minutes of a busy one."""

_MOVES_S: Final = 0.05
"""Processor seconds between two measurements; less comes of answering pings."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker uses now, with all that it has started: bytes, processor seconds, threads."""

    memory: int
    cpu_s: float
    threads: int
    processes: int = 1


class Vitals:
    """One worker's figures over time; lives as long as the worker.

    Args:
        number: Any that differs from worker to worker: they are not all measured at once.
    """

    def __init__(self, number: int, now: float) -> None:
        self.due = now + 1.0 + number % int(OFTEN_S)
        """When it is to be measured."""
        self._taken: deque[tuple[float, Measured]] = deque(maxlen=KEPT)
        self._wait_s = OFTEN_S

    def take(self, measured: Measured | None, now: float) -> None:
        """Keep its figures; None if there are none just now."""
        if measured is not None:
            moves = not self._taken or measured.cpu_s - self._taken[-1][1].cpu_s > _MOVES_S
            self._wait_s = OFTEN_S if moves else min(2 * self._wait_s, SELDOM_S)
            self._taken.append((now, measured))
        self.due = now + self._wait_s

    def since(self, now: float) -> tuple[Vital, ...]:
        """Give what was measured, oldest first, each with how long ago that was."""
        return tuple(
            Vital(
                ago_s=round(now - when, 3),
                memory=measured.memory,
                cpu_s=measured.cpu_s,
                threads=measured.threads,
            )
            for when, measured in self._taken
        )
