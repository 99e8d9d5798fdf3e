import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MARK = re.compile(r"  # (type|pyright): ignore\[(?P<rules>[^\]]*)\]")
Found = set[tuple[int, str]]


def marked(tool: str) -> Found:
    """Give the errors that the file announces, by line and rule."""
    lines = (HERE / "stubs.py").read_text().splitlines()
    return {
        (number, rule)
        for number, line in enumerate(lines, 1)
        for mark in MARK.finditer(line)
        if mark[1] == tool
        for rule in mark["rules"].split(", ")
    }


@pytest.fixture
def unmarked(tmp_path: Path) -> Path:
    """Write the file without its marks, so that every error shows."""
    path = tmp_path / "unmarked.py"
    path.write_text(MARK.sub("", (HERE / "stubs.py").read_text()))
    return path


def run(*command: str | Path) -> str:
    """Run a tool of this environment and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def test_mypy_knows_a_stub_by_its_protocol(unmarked: Path) -> None:
    """In strict mode it finds every marked mistake, and nothing else."""
    printed = run("mypy", "--no-error-summary", "--hide-error-context", unmarked)
    errors = re.findall(r"^[^\n:]*:(\d+): error: .*\[([a-z-]+)\]$", printed, re.MULTILINE)
    assert {(int(line), rule) for line, rule in errors} == marked("type"), printed
    assert len(errors) == printed.count(": error: ")


def test_pyright_knows_a_stub_by_its_protocol(unmarked: Path) -> None:
    """It finds every marked mistake, and nothing else."""
    pytest.importorskip("basedpyright", reason="it is not installed here")
    config = unmarked.with_name("pyrightconfig.json")
    config.write_text(
        json.dumps(
            {
                "include": [unmarked.name],
                "extraPaths": [str(ROOT)],
                "pythonVersion": "3.11",
                "typeCheckingMode": "standard",
            }
        )
    )
    printed = run(
        "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", config
    )
    found = json.loads(printed)["generalDiagnostics"]
    errors = {(one["range"]["start"]["line"] + 1, one["rule"]) for one in found}
    assert errors == marked("pyright"), printed
