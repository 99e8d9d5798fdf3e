"""docs/security.md names only tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    """
    One that is named without its folder lies anywhere among them.
    """
    named = re.findall(r"`((?:[a-z_]+/)*)(test_[a-z_]+\.py)`", TEXT)
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [
        folder + name
        for folder, name in named
        if (not (ROOT / folder / name).is_file() if folder else name not in there)
    ]
    assert named
    assert missing == []
