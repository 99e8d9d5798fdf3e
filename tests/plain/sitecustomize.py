"""Let this process see only the source of `protocol`, whatever is compiled beside it.

Python imports a module of this name as it starts, if there is one. So do processes that tests
start.
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Final

_PROTOCOL: Final = str(Path(__file__).resolve().parents[2] / "protocol")


def _source_finder(path: str) -> FileFinder:
    if os.path.realpath(path) != _PROTOCOL:
        raise ImportError(f"{path} is read as usual")
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


sys.path_hooks.insert(0, _source_finder)
