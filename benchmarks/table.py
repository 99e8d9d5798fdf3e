"""Show figures to people: what, how much, against what, and whether that is enough."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.figures import FAR, Figure

WIDTH: Final = 132
"""Columns where there is no terminal to ask."""


def print_table(figures: Iterable[Figure]) -> None:
    """Print one row for each figure."""
    figures = list(figures)
    table = Table(caption=f"FAR OFF: worse than {FAR:g} times the goal", caption_justify="left")
    for heading in ("figure", "value", "baseline", "its value", "ratio", "goal", ""):
        table.add_column(heading, justify="left" if heading in {"figure", "baseline"} else "right")
    for figure in figures:
        table.add_row(*_row(figure))
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=WIDTH)
    console.print(table)
    for note in dict.fromkeys(f"{it.what}: {it.note}" for it in figures if it.note):
        console.print(note, soft_wrap=True)


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.what,
        _amount(figure.value, figure.unit),
        figure.baseline,
        "" if figure.baseline_value is None else _amount(figure.baseline_value, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.2f} x",
        _goal(figure),
        figure.verdict,
    )


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    bound = ">=" if figure.more_is_better else "<="
    return f"{bound} {figure.goal:g} {'x' if figure.goal_is_ratio else figure.unit}".rstrip()


def _amount(value: float, unit: str) -> str:
    return (f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}").rstrip()
