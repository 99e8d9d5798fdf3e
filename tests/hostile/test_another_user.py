"""What holds for root's plugins holds for another user's, in a tree that he may only read.

Root is no common user of a host: its plugins have capabilities to lose, and files that nobody else
may read. So the attacks are tried a second time, by a user that nobody is.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import count
from pathlib import Path
from typing import Final

import psutil
import pytest
from packaging.requirements import Requirement

from tests.zygote_pair import ROOT

NEEDED: Final = (
    *("click", "hypothesis", "msgpack", "numpy", "packaging", "psutil"),
    *("pyseccomp", "pytest", "pyzmq", "rich"),
)
NOBODY: Final = 65534
BY_USER: Final = ("-fs-", "-net- or -info- or -grant-", "-proc-", "-res-")
"""The attacks whose outcome is the kernel's word on a user, and not ours on anybody; in parts, so
that each ends in a test's time on a slow machine, too."""

PATIENCE_S: Final = 100.0
VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def another() -> Iterator["Another"]:
    """A user who may read a copy of the tree, and what it needs."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    user = unused_user()
    python = readable_python(user)
    if python is None:
        pytest.skip(f"no {VERSION} that user {user} may run")
    copy = Path(tempfile.mkdtemp(prefix="sh-other-", dir="/tmp"))
    try:
        interpreter = environment(copy, python)
        for part in ("protocol", "plugin_worker", "spiral_host", "tests", "pyproject.toml"):
            target = copy / "tree" / part
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, target)
        readable(copy)
        own = copy / "own"
        own.mkdir()
        os.chown(own, user, user)
        yield Another(user, interpreter, copy)
    finally:
        shutil.rmtree(copy)


@dataclass(frozen=True, slots=True)
class Another:
    """Who runs what, and where: the tree and a folder of its own."""

    user: int
    python: Path
    copy: Path


@pytest.mark.parametrize("attacks", BY_USER)
def test_attacks_on_another_users_host(another: Another, attacks: str) -> None:
    """
    They get what they get from root's, under the profile that is the default.
    """
    done = tried_by(another, attacks)
    assert not done.returncode, done.stdout[-6000:]
    assert " passed" in done.stdout


def tried_by(another: Another, attacks: str) -> "subprocess.CompletedProcess[str]":
    """Try attacks under the standard profile as another user."""
    own = another.copy / "own"
    command = [
        str(another.python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--basetemp={own}/base",
    ]
    return subprocess.run(
        [*command, "tests/hostile/test_attacks.py", "-k", f"standard and ({attacks})"],
        cwd=another.copy / "tree",
        user=another.user,
        group=another.user,
        extra_groups=[],
        env={"HOME": str(own), "PATH": "/usr/bin:/bin", "PYTHONPYCACHEPREFIX": f"{own}/pycache"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def unused_user() -> int:
    """Give a user that has no processes: what is counted per user then counts for us alone."""
    owners = {process.info["uids"].real for process in psutil.process_iter(["uids"])}
    known = {entry.pw_uid for entry in pwd.getpwall()} - {NOBODY}
    return next(uid for uid in count(NOBODY, -1) if uid not in owners | known)


def readable_python(user: int) -> str | None:
    """Find an interpreter of this version that another user may run."""
    base = getattr(sys, "_base_executable", sys.executable)
    for python in (base, f"/usr/local/bin/{VERSION}", f"/usr/bin/{VERSION}"):
        try:
            code = "import sys, ssl, sqlite3, ctypes; assert sys.version_info[:2] == "
            code += repr(tuple(sys.version_info[:2]))
            subprocess.run(
                [python, "-c", code], user=user, group=user, extra_groups=[], check=True, cwd="/"
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


def environment(copy: Path, python: str) -> Path:
    """Make an environment with what the tests need, taken from our own."""
    subprocess.run([python, "-m", "venv", "--without-pip", copy / "venv"], check=True)
    target = copy / "venv" / "lib" / VERSION / "site-packages"
    for name in everything(NEEDED):
        found = distribution(name)
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            if ".." not in file.parts and source.suffix != ".pyc":
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / file)
    return copy / "venv" / "bin" / "python"


def everything(names: tuple[str, ...]) -> set[str]:
    """Name these distributions and all that they need here."""
    found: set[str] = set()
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        try:
            needs = distribution(name).requires or ()
        except PackageNotFoundError:
            continue
        found.add(name)
        wanted = (Requirement(text) for text in needs)
        here = (w.name for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""}))
        open_names += [name for name in here if name not in found]
    return found


def readable(folder: Path) -> None:
    """Let everybody read a tree."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
