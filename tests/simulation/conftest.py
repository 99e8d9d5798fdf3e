"""How many worlds: by default what a test may take, and many more in `make chaos`."""

from typing import Final

import pytest

SEEDS: Final = 200
CHUNK: Final = 25
"""Worlds of one test: few enough for its deadline, many enough for a short list of tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `pytest tests/simulation`; a run of all tests takes the defaults."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, help=f"how many worlds live (default {SEEDS})")
    group.addoption("--world", type=int, help="the seed of the one world that lives")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that lets worlds live its share of them."""
    if "seeds" not in metafunc.fixturenames:
        return
    one = metafunc.config.getoption("--world", default=None)
    count = metafunc.config.getoption("--seeds", default=None) or SEEDS
    chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    if one is not None:
        chunks = [range(one, one + 1)]
    names = [f"{chunk.start}-{chunk.stop - 1}" for chunk in chunks]
    metafunc.parametrize("seeds", chunks, ids=names)
