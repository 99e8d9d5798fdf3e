"""What every test may ask for."""

from collections.abc import Iterator

import pytest

from spiral_host import Host
from tests.hosts import Run, new_run


@pytest.fixture
def run() -> Iterator[Run]:
    """A run directory of this test's own; afterwards nothing of it may be left."""
    with new_run() as run:
        yield run


@pytest.fixture(scope="module")
def shared() -> Iterator[Host]:
    """One host for all tests of a file that leave it as it was, with the polite plugin in it."""
    with new_run() as run:
        yield run.embed("polite")
