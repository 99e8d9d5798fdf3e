"""What is compiled of `protocol`, and whether that is what its source says."""

import sysconfig
from pathlib import Path
from typing import Final

SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))
"""How the names of compiled modules end that this interpreter imports."""


def compiled(protocol: Path) -> dict[str, Path]:
    """Give the compiled modules by their names."""
    return {file.name.removesuffix(SUFFIX): file for file in protocol.glob(f"*{SUFFIX}")}


def stale(protocol: Path) -> list[str]:
    """Name the modules that are not what their source says: older, or left over, or missing.

    Where nothing is compiled nothing is stale.
    """
    there = compiled(protocol)
    if not there:
        return []
    declared = {file.stem for file in protocol.glob("*.pxd")}
    older = {name for name, file in there.items() if _source_s(protocol, name) > _time_s(file)}
    return sorted(older | (declared ^ there.keys()))


def _source_s(protocol: Path, name: str) -> float:
    return max((_time_s(file) for file in protocol.glob(f"{name}.p*")), default=0.0)


def _time_s(file: Path) -> float:
    return file.stat().st_mtime
