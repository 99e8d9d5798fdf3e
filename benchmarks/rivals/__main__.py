"""`python -m benchmarks.rivals [ROW...]`: measure the others alone, without any of ours."""

import sys

from rich.console import Console
from rich.table import Table

from benchmarks import cores
from benchmarks.comparison import ALL
from benchmarks.rivals.callers import callers
from benchmarks.rounds import medians


def main(wanted: list[str]) -> None:
    """Print what each takes for each of the rows, all by default."""
    cores.pin()
    table = Table("row", "who", "value")
    chosen = [one for one in ALL if not wanted or one.row in wanted]
    with callers(*(one.row for one in chosen)) as others:
        for one in chosen:
            for module, value in medians(one.measures(others)).items():
                entry = next(other.entry for other in others if other.entry.module == module)
                table.add_row(one.row, entry.named(one.row), f"{value:,.4g} {one.unit}")
        for other in others:
            if other.failure:
                table.add_row("", other.entry.title, other.failure)
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
