"""Compiling: in a small tree of its own, with our `setup.py`."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.compiled import SUFFIX, compiled, stale

ROOT = Path(__file__).resolve().parents[2]

MISSING = [name for name in ("Cython", "setuptools") if not find_spec(name)]
needs_tools = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

WORKED_WITH = sorted(
    {
        name
        for declared in (ROOT / "protocol").glob("*.pxd")
        for name in re.findall(r"^from protocol\.(\w+) cimport", declared.read_text(), re.MULTILINE)
    }
)
"""Modules whose types or functions others are compiled for."""

WHICH = "from protocol import small; print(small.__file__)"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with one module to compile."""
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    protocol = tmp_path / "protocol"
    protocol.mkdir()
    (protocol / "__init__.py").touch()
    (protocol / "small.py").write_text("def twice(n):\n    return n + n\n")
    (protocol / "small.pxd").write_text("cpdef long twice(long n)\n")
    return tmp_path


@pytest.fixture
def tests(tree: Path) -> Path:
    """The same with tests, and with a compiled module that cannot be imported."""
    (tree / "protocol" / f"small{SUFFIX}").touch()
    shutil.copytree(ROOT / "tests/plain", tree / "tests/plain")
    for name in ("compiled.py", "conftest.py"):
        shutil.copy(ROOT / "tests" / name, tree / "tests")
    (tree / "tests/test_small.py").write_text(
        "import subprocess, sys\n"
        "def test_here():\n"
        "    from protocol import small\n"
        "    assert small.__file__.endswith('small.py')\n"
        "def test_in_a_process():\n"
        f"    said = subprocess.check_output([sys.executable, '-c', {WHICH!r}], text=True)\n"
        "    assert said.endswith('small.py\\n')\n"
    )
    return tree


@pytest.fixture
def compiler(tree: Path) -> str:
    """A compiler that finds Python's headers; the test is skipped where there is none."""
    command = (os.environ.get("CC") or str(sysconfig.get_config_var("CC"))).split()
    program = tree / "program.c"
    program.write_text("#include <Python.h>\n")
    include = f"-I{sysconfig.get_path('include')}"
    try:
        subprocess.run(
            [*command, include, "-c", str(program), "-o", str(tree / "program.o")],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        pytest.skip(f"no C compiler: {error}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the C compiler cannot use Python's headers: {error.stderr.strip()}")
    return " ".join(command)


def run(tree: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env=kept | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def compile_in(tree: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(tree, "setup.py", "--quiet", "build_ext", "--inplace", **variables)


def change(file: Path) -> None:
    """Make it newer than all that was compiled."""
    later = file.stat().st_mtime + 10
    os.utime(file, (later, later))


class TestSource:
    @pytest.mark.parametrize(
        "module", sorted(file.stem for file in (ROOT / "protocol").glob("*.pxd"))
    )
    def test_nothing_is_compiled_to_something_else(self, module: str) -> None:
        """Cython turns `not a is b is c` into `a is not b is c`."""
        source = (ROOT / "protocol" / module).with_suffix(".py").read_text()
        wrong = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.Not)
            and isinstance(node.operand, ast.Compare)
            and isinstance(node.operand.ops[0], ast.Is | ast.IsNot | ast.In | ast.NotIn)
            and len(node.operand.ops) > 1
        ]

        assert wrong == [], "say what must not be, or compare one by one"


@needs_tools
class TestCompiling:
    @pytest.mark.usefixtures("compiler")
    def test_a_module_with_types_is_compiled(self, tree: Path) -> None:
        """It is what is imported."""
        done = compile_in(tree)

        assert done.returncode == 0, done.stdout
        assert run(tree, "-c", WHICH).stdout.endswith(f"small{SUFFIX}\n")
        assert stale(tree / "protocol") == []

    def test_a_change_meanwhile_is_seen(self, tree: Path, compiler: str) -> None:
        """Whoever edits while it is compiled does not test what was there before."""
        script = tree / "cc"
        script.write_text(f'#!/bin/sh\ntouch protocol/small.py\nexec {compiler} "$@"\n')
        script.chmod(0o755)

        done = compile_in(tree, CC=str(script))

        assert done.returncode == 0, done.stdout
        assert stale(tree / "protocol") == ["small"]
        (translated,) = (tree / "build").glob("**/small.c")  # which the next build goes by
        (module,) = compiled(tree / "protocol").values()
        assert translated.stat().st_mtime == module.stat().st_mtime

    @pytest.mark.usefixtures("compiler")
    def test_here_all_are_compiled(self) -> None:
        """A module that cannot be compiled is slow where nobody looks: this says so."""
        declared = {file.stem for file in (ROOT / "protocol").glob("*.pxd")}

        assert compiled(ROOT / "protocol").keys() == declared, "say: make setup"

    @pytest.mark.usefixtures("compiler")
    @pytest.mark.parametrize(
        "where", [["--inplace"], ["--build-lib", "."]], ids=["beside", "for a wheel"]
    )
    def test_all_are_compiled_or_none(self, tree: Path, where: list[str]) -> None:
        """A compiled class does not fit a plain one that it was compiled for."""
        (tree / "protocol/wrong.py").write_text("def ask(): pass\n")
        (tree / "protocol/wrong.pxd").write_text(
            'cdef extern from "no_such_header.h":\n    pass\ncpdef ask()\n'
        )

        done = run(tree, "setup.py", "--quiet", "build_ext", *where)

        assert done.returncode == 0, done.stdout
        assert "no_such_header.h" in done.stdout
        assert "plain Python" in done.stdout
        assert not compiled(tree / "protocol")


@needs_tools
class TestWithoutACompiler:
    def test_plain_python_is_left(self, tree: Path) -> None:
        """And nothing of what was compiled earlier. What it means is said."""
        (tree / "protocol" / f"small{SUFFIX}").touch()

        done = compile_in(tree, CC="/nonexistent")

        assert done.returncode == 0, done.stdout
        assert "plain Python, and calls take about one and a half times as long" in done.stdout
        assert not compiled(tree / "protocol")
        assert run(tree, "-c", WHICH).stdout.endswith("small.py\n")

    def test_there_is_a_wheel(self, tree: Path) -> None:
        """It installs, with the source alone."""
        words = "wheel . --quiet --no-index --no-deps --no-build-isolation --wheel-dir out"
        done = run(tree, "-m", "pip", *words.split(), CC="/nonexistent")

        assert done.returncode == 0, done.stdout
        (wheel,) = (tree / "out").iterdir()
        names = zipfile.ZipFile(wheel).namelist()
        assert "protocol/small.py" in names
        assert not [name for name in names if name.endswith(".so")]


class TestMixed:
    @pytest.mark.skipif(not compiled(ROOT / "protocol"), reason="nothing is compiled here")
    @pytest.mark.parametrize("module", WORKED_WITH)
    def test_a_plain_module_is_not_taken_for_a_compiled_one(
        self, tmp_path: Path, module: str
    ) -> None:
        """A build that is being copied, or lost a file: memory would be read as what it is not."""
        protocol = tmp_path / "protocol"
        protocol.mkdir()
        for file in (ROOT / "protocol").glob("*.*"):
            if file.name != f"{module}{SUFFIX}":
                (protocol / file.name).symlink_to(file)

        done = run(tmp_path, "-c", "import protocol.aio, protocol.caller, protocol.serving")

        assert done.returncode == 1
        assert "Error" in done.stdout.splitlines()[-1]


class TestStale:
    @pytest.mark.parametrize("kind", ["py", "pxd"])
    def test_older_than_its_source(self, tree: Path, kind: str) -> None:
        """Whichever of the two was changed."""
        protocol = tree / "protocol"
        (protocol / f"small{SUFFIX}").touch()
        assert stale(protocol) == []

        change(protocol / f"small.{kind}")

        assert stale(protocol) == ["small"]

    def test_left_over_or_missing(self, tree: Path) -> None:
        """A module that is no longer compiled would hide its source."""
        protocol = tree / "protocol"
        assert stale(protocol) == []  # nothing is compiled

        (protocol / f"former{SUFFIX}").touch()

        assert stale(protocol) == ["former", "small"]

    def test_no_test_is_run(self, tests: Path) -> None:
        """What is wrong is named, and the cure."""
        change(tests / "protocol/small.py")

        done = run(tests, "-m", "pytest", "tests")

        assert done.returncode == 1
        assert done.stdout == "not compiled since they were changed: small; say: make setup\n"


class TestPlain:
    @pytest.mark.parametrize("more", [[], ["--numprocesses", "1"]], ids=["here", "elsewhere"])
    def test_only_source_is_seen(self, tests: Path, more: list[str]) -> None:
        """In the processes that run tests, and in those that tests start."""
        done = run(tests, "-m", "pytest", "-p", "tests.plain", *more, "tests")

        assert "2 passed" in done.stdout
        assert "2 failed" in run(tests, "-m", "pytest", *more, "tests").stdout

    def test_a_compiled_module_is_refused(self, tests: Path) -> None:
        """However it came in."""
        (tests / "tests/test_small.py").write_text(
            "import sys, types\n"
            "module = sys.modules['protocol.small'] = types.ModuleType('protocol.small')\n"
            f"module.__file__ = 'small{SUFFIX}'\n"
            "def test_nothing(): pass\n"
        )

        done = run(tests, "-m", "pytest", "-p", "tests.plain", "tests")

        assert done.returncode != 0
        assert "not plain Python: protocol.small" in done.stdout
