"""`python -m pytest -p tests.plain`: run tests in plain Python, though modules are compiled.

It holds for the processes of pytest-xdist too, and for those that tests start.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.plain import sitecustomize as sitecustomize  # for what it does

os.environ["PYTHONPATH"] = str(Path(__file__).parent)


def pytest_collection_finish() -> None:
    """Refuse to go on with compiled modules: they would be tested twice, and the plain ones not."""
    compiled = [
        name
        for name, module in sys.modules.items()
        if name.startswith("protocol.") and not str(module.__file__).endswith(".py")
    ]
    if compiled:
        pytest.exit(f"not plain Python: {', '.join(compiled)}", pytest.ExitCode.INTERNAL_ERROR)
