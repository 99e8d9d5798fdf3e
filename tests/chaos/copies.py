"""Make as many plugins of one kind as are wanted, each under an id of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path


def copies_of(
    kind: Path, count: int, folder: Path, *beside: Path, said: object = None
) -> Iterator[Path]:
    """Copy a plugin's folder, several times.

    Args:
        kind: The folder, named by the id in its manifest; a copy's id has a number behind it.
        folder: Where the copies are made.
        beside: Modules of ours that the plugin imports, laid into each copy.
        said: What each copy finds in `plan.json`.
    """
    for number in range(count):
        copy = Path(shutil.copytree(kind, folder / f"{kind.name}{number}"))
        for module in beside:
            shutil.copy(module, copy)
        if said is not None:
            (copy / "plan.json").write_text(json.dumps(said))
        manifest = copy / "plugin.toml"
        text = manifest.read_text().replace(f'id = "{kind.name}"', f'id = "{copy.name}"')
        manifest.write_text(text)
        yield copy
