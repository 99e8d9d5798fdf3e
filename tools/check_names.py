"""Fail if another distribution here also provides one of our packages. `protocol` is a common name.

Site-packages comes before an editable install on `sys.path`, so the other one would win.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
OURS = set(PROJECT["tool"]["importlinter"]["root_packages"])


def main() -> int:
    clashes = [
        f"{other.name} {other.version} also provides the package {name}; uninstall it"
        for other in distributions()
        if other.name != PROJECT["project"]["name"]
        for name in OURS.intersection(top_level_names(other))
    ]
    print("\n".join(clashes) or "No other distribution provides a package of ours.")
    return bool(clashes)


def top_level_names(distribution: Distribution) -> Iterator[str]:
    """Name what the distribution adds to site-packages: folders, modules, extension modules."""
    for file in distribution.files or ():
        yield file.parts[0].partition(".")[0]


if __name__ == "__main__":
    sys.exit(main())
