"""One figure, its baseline of the same run, its goal, and how far it is from it."""

from dataclasses import asdict, dataclass
from typing import Final

FAR: Final = 3.0
"""A figure worse than this many times its goal is marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured.

    Attributes:
        unit: `us`, `ms`, `s`, `MB`, `%` or `/s`; empty for a count.
        baseline: What it is compared with, and `baseline_value` in the same unit.
        goal: Of the ratio to the baseline where there is one and `goal_is_ratio`, else of the
            value; None where the figure is for information only.
        more_is_better: Whether the goal is the least that is wanted, not the most.
        note: How it was measured, where that is not obvious.
    """

    what: str
    value: float
    unit: str
    baseline: str = ""
    baseline_value: float | None = None
    goal: float | None = None
    goal_is_ratio: bool = False
    more_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the baseline's."""
        return self.value / self.baseline_value if self.baseline_value else None

    @property
    def verdict(self) -> str:
        """Say `reached`, `not yet`, `FAR OFF`, or nothing where there is no goal."""
        if self.goal is None:
            return ""
        reached = self.ratio if self.goal_is_ratio else self.value
        if reached is None:
            return ""
        if not self.goal:
            return "FAR OFF" if reached else "reached"
        excess = self.goal / reached if self.more_is_better else reached / self.goal
        if excess <= 1:
            return "reached"
        return "not yet" if excess <= FAR else "FAR OFF"

    def to_dict(self) -> dict[str, object]:
        """Give plain values, fit for JSON."""
        return {**asdict(self), "ratio": self.ratio, "verdict": self.verdict}
