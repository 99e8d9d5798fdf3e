"""Show what was found: how much, of how many, what was promised, and what a zero is worth."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_BOUND: Final = 3.0
"""Of something that was never seen in n trials: rarer than 3/n, with 95 % confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that was counted or measured.

    Attributes:
        of: Among how many; None where there is nothing to divide by.
        most: What was promised, None where nothing was.
    """

    what: str
    found: float
    unit: str = ""
    of: int | None = None
    most: float | None = None

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """What is printed of it."""
        return (
            self.what,
            f"{_number(self.found)} {self.unit}".rstrip(),
            "" if self.of is None else f"{self.of:,}",
            "" if self.most is None else f"{_number(self.most)} {self.unit}".rstrip(),
            self.bound,
        )

    @property
    def bound(self) -> str:
        """How rare it is, where it is counted and was never seen."""
        if self.found or not self.of or self.unit:
            return ""
        return f"< 1 in {self.of / _BOUND:,.0f}"


_HEADINGS: Final = ("", "found", "n", "promised", "95 % sure (3/n)")


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Give the lines of a table."""
    table = [_HEADINGS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for what, *cells in table:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((what.ljust(widths[0]), *numbers)).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:.3g}"
