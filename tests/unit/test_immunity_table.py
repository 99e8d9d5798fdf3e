"""The table of bugs that must not be ours says only what is so."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "immunity.md"
TESTS = ROOT / "tests" / "immunity"
BUGS = 52

ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


def rows() -> list[tuple[str, ...]]:
    """Give number, bug, rule and tests of each row."""
    return [row.groups() for row in ROW.finditer(TABLE.read_text())]


def named_in(path: Path) -> set[str]:
    """Name the tests of a file."""
    found = (node for node in ast.walk(ast.parse(path.read_text())))
    names = (node.name for node in found if isinstance(node, ast.FunctionDef))
    return {name for name in names if name.startswith("test_")}


def test_every_bug_has_its_row() -> None:
    """
    Each number once, however they are grouped.
    """
    assert sorted(int(row[0]) for row in rows()) == list(range(1, BUGS + 1))


def test_every_row_has_a_test_or_says_why_not() -> None:
    """
    A row without either would only look like a promise.
    """
    for number, _, _, tried in rows():
        honest = tried.startswith(("does not apply: ", "not yet: "))
        assert honest or TEST.fullmatch(tried.split(", ")[0]), number


def test_every_test_that_is_named_is_there() -> None:
    """
    A test that was renamed or moved takes the table along.
    """
    named = TEST.findall(TABLE.read_text())
    assert len(named) == TABLE.read_text().count("[test_")
    for name, path in named:
        assert name in named_in(ROOT / path), f"{path} has no {name}"


def test_every_test_of_the_folder_is_named() -> None:
    """
    A test that no row names tries nobody knows what.
    """
    named = {name for name, _ in TEST.findall(TABLE.read_text())}
    for path in TESTS.glob("test_*.py"):
        assert named_in(path) <= named, path
