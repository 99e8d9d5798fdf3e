"""Whatever dies, whenever, in whatever order: what must never happen does not, and peace returns.

A world that fails prints its seed and its last steps; `pytest tests/simulation --world SEED` lets
it live again, step by step the same.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.world import World, live

ROOT = Path(__file__).parents[2]


def test_worlds(seeds: range) -> None:
    """Orders, edits, crashes, hangs, lies and deaths of node and daemon; then rest; then a stop."""
    for seed in seeds:
        live(seed)


def test_crash_loops(seeds: range) -> None:
    """A crash loop is started as often as its budget says, though daemons die meanwhile."""
    for seed in seeds:
        live(seed, World.loop_and_die)


def test_a_stop_ends_in_time() -> None:
    """Plugins that ignore it, each needing the one before, are all gone when its budget is."""
    live(0, World.stop_the_stubborn)


def test_a_seed_says_everything() -> None:
    """The same seed is the same world, step by step, in another process too."""
    script = "import sys; from tests.simulation.world import live; print(*live(7), sep='\\n')"
    again = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert again.stdout.splitlines() == live(7)
