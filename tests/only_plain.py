"""For tests that watch what a module asks of the kernel: between compiled ones nobody can look."""

from typing import Final

import pytest

from protocol import kernel

only_plain: Final = pytest.mark.skipif(
    not kernel.__file__.endswith(".py"),
    reason="protocol/kernel is compiled; `make test` runs this in plain Python, too",
)
