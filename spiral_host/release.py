"""Say which version of spiral-host this is; a clone that is not installed says it too."""

from pathlib import Path


def host_version() -> str:
    """Give the version. Reads a file each time: ask once."""
    # Both are slow to import, and few ask.
    from importlib.metadata import version  # noqa: PLC0415
    from tomllib import loads  # noqa: PLC0415

    project = Path(__file__).parents[1] / "pyproject.toml"
    if not project.is_file():
        return version("spiral-host")
    found: str = loads(project.read_text())["project"]["version"]
    return found
