"""Decide whether a worker uses more than its limits allow, and when to look again.

Measures nothing and reads no clock. What the kernel holds (rlimits, a group) is none of its
business; it finds out late, so what it holds may be overstepped for some seconds.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from plugin_worker.node.vitals import Measured
from protocol.limits import Limits, size_text

OFTEN_S: Final = 2.0
"""How often one is looked at that works, or is past half of a limit, seconds; 25 us."""

SELDOM_S: Final = 10.0
"""How often one is that does nothing: a hundred of them cost 0.05 % of a core."""

WEIGH_SELDOM_S: Final = 60.0
"""How often folders are weighed in any case, seconds; else they are when it has used processor
time. Room on the disk can be taken without using any, so small ones are more often."""

WEIGH_SMALL_S: Final = 10.0
"""How often small ones are in any case, seconds. They take 200 us, with the way there and back:
0.2 % of a core for a hundred plugins."""

SELDOM_SHARE: Final = 20_000
"""In any case they are weighed after so many times what it took: a hundred plugins that do nothing
cost 0.5 % of a core at most. Small is what takes 0.5 ms; what takes 3 ms is weighed the seldomest.
"""

SHARE: Final = 50
"""They are weighed again after fifty times what it took: 2 % of a core at most."""

CPU_S: Final = 10.0
"""Over how long the processor time may not be more than allowed, seconds: a short peak is no
offence. Without a group nothing slows a worker down, so afterwards it is ended."""

_TOLERANCE: Final = 1.05
"""A process that is held to one core by itself may be seen to have used a little more."""

_MOVES_S: Final = 0.02
"""Processor seconds between two looks; answering pings takes less."""


MAX_FILES: Final = 100_000
"""Files, folders and links of one plugin. It takes 0.2 s to count them, and more to remove them."""

MAX_DEPTH: Final = 64
"""Folders within folders: each that is open while they are weighed costs the node a descriptor."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What folders hold: bytes on the disk, entries, depth; not all of it where it is too much."""

    size: int = 0
    files: int = 0
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that was overstepped."""

    limit: str
    said: str

    def __str__(self) -> str:
        return f"limit {self.limit}: {self.said}"


class Watch:
    """One worker's use of what it may use; lives as long as the worker.

    Args:
        folder: Its data folder, by name, for those who have to make room there.
        held: Limits that the kernel holds.
    """

    def __init__(self, limits: Limits, folder: str, now: float, held: Collection[str] = ()) -> None:
        self.held = frozenset(held)
        self.due = now + OFTEN_S
        """When it is to be measured."""
        self.weigh_due = now + OFTEN_S
        """When its folders are to be weighed; infinite while they are."""
        self._weigh_earliest = self.weigh_due
        self._weighed_cpu_s = 0.0
        self._limits = limits
        self._folder = folder
        self._cpu: deque[tuple[float, float]] = deque()
        self._weight = Weight()

    def take(self, measured: Measured, now: float) -> Breach | None:
        """Take in what it uses; give the limit that this oversteps, if any."""
        moved = not self._cpu or measured.cpu_s - self._cpu[-1][1] > _MOVES_S
        self._cpu.append((now, measured.cpu_s))
        while len(self._cpu) > 2 and self._cpu[1][0] <= now - CPU_S:
            self._cpu.popleft()
        if measured.cpu_s - self._weighed_cpu_s > _MOVES_S:
            self.weigh_due = min(self.weigh_due, max(self._weigh_earliest, now))
        is_near = moved
        for limit, used, allowed, said in self._used(measured):
            if limit in self.held:
                continue
            if used > allowed:
                return Breach(limit, said)
            is_near = is_near or used > allowed / 2
        self.due = now + (OFTEN_S if is_near else SELDOM_S)
        return None

    def _used(self, measured: Measured) -> Iterator[tuple[str, float, float, str]]:
        """Give name, use, what is allowed, and both in words."""
        of = self._limits
        used = f"{size_text(measured.memory)} used, {size_text(of.memory)} allowed"
        yield "memory", measured.memory, of.memory, used
        for limit, number in (("threads", measured.threads), ("processes", measured.processes)):
            allowed = getattr(of, limit)
            yield limit, number, allowed, f"{number} {limit}, {allowed} allowed"
        cores = self._cores()
        yield "cpu", cores, of.cpu * _TOLERANCE, f"{cores:.2g} cores used, {of.cpu:g} allowed"

    def _cores(self) -> float:
        """Say how many cores it has used over the last seconds; 0 while that is not known yet."""
        (began, before), (now, after) = self._cpu[0], self._cpu[-1]
        return (after - before) / (now - began) if now - began >= CPU_S else 0.0

    def weighing(self) -> None:
        """Note that its folders are being weighed."""
        self.weigh_due = self._weigh_earliest = float("inf")
        self._weighed_cpu_s = self._cpu[-1][1] if self._cpu else 0.0

    def not_weighed(self, now: float) -> None:
        """Note that weighing them has failed: it is tried again."""
        self.weigh_due = self._weigh_earliest = now + WEIGH_SELDOM_S

    def weighed(self, weight: Weight, took_s: float, now: float) -> Breach | None:
        """Take in what its folders hold; give the limit that this oversteps, if any."""
        has_changed, self._weight = weight != self._weight, weight
        self._weigh_earliest = now + max(OFTEN_S, SHARE * took_s)
        seldom = min(max(WEIGH_SMALL_S, SELDOM_SHARE * took_s), WEIGH_SELDOM_S)
        self.weigh_due = max(self._weigh_earliest, now + (0 if has_changed else seldom))
        allowed = size_text(self._limits.disk)
        if weight.depth > MAX_DEPTH:
            said = f"folders more than {MAX_DEPTH} deep, which nobody counts"
        elif weight.files > MAX_FILES:
            said = f"more than {MAX_FILES} files"
        elif weight.size > self._limits.disk:
            said = f"more than the {allowed} allowed"
        else:
            return None
        where = f"in {self._folder} and its private folder"
        return Breach("disk", f"{said} {where}; remove some, or raise disk in [limits]")
