"""`python -m benchmarks [--json]`: measure everything, print a table, write build/bench.json.

Everything is pinned to one core, as the goals are meant, where a figure does not say otherwise: a
wake-up between cores would measure the machine. What is started from here inherits it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from benchmarks import (
    arrays,
    calls,
    cores,
    crashes,
    crowds,
    events,
    fleet,
    forms,
    pipelines,
    spawning,
)
from benchmarks.figures import Figure
from benchmarks.table import print_table

RESULT: Final = Path("build/bench.json")
PARTS: Final = {
    "spawn": spawning.measure,
    "fleet": fleet.measure,
    "calls": calls.measure,
    "pipelines": pipelines.measure,
    "forms": forms.measure,
    "arrays": arrays.measure,
    "crashes": crashes.measure,
    "events": events.measure,
    "crowds": crowds.measure,
}


def main(arguments: list[str]) -> None:
    """Measure the parts that were asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    cores.pin()
    figures = [figure for part in options.parts or PARTS for figure in _measure(part)]
    rows = [figure.to_dict() for figure in figures]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=2) + "\n")
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(figures)


def _measure(part: str) -> list[Figure]:
    if sys.stderr.isatty():
        print(f"measuring {part} ...", file=sys.stderr)
    return PARTS[part]()


if __name__ == "__main__":
    main(sys.argv[1:])
