"""Find out whether bubblewrap works here, by running Python in it; say what its workers need.

It costs some 20 ms and is asked only where somebody wants the namespaces.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from plugin_worker.sandbox import bwrap
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.policy import PROGRAMS, SYSTEM_READ

_LONGEST_S: Final = 10.0
_IS_SECOND: Final = "import os; assert os.getpid() == 2, 'it has no process ids of its own'"


def try_namespaces() -> str:
    """Run Python as a worker is run; give "" when that works, else what is in the way.

    Raises:
        OSError: It could not be run, or not to its end: that says nothing of bubblewrap.
    """
    program = shutil.which(bwrap.PROGRAM)
    if program is None:
        return f"{bwrap.PROGRAM} is not on the PATH"
    tmp = os.path.realpath(tempfile.gettempdir())
    confinement = Confinement(read=interpreter_files(), write=(), tmp=tmp, node_pid=os.getpid())
    arguments = bwrap.arguments(confinement, system_links())
    code, said = _run(program, *arguments, interpreter(), "-I", "-S", "-c", _IS_SECOND)
    if code == 0:
        return ""
    version = _run(program, "--version")[1].strip()
    if () < bwrap.version_of(version) < bwrap.MINIMUM:
        return f"{version} is too old"
    return bwrap.complaint(said, code)


def _run(*command: str) -> tuple[int, str]:
    """Give the exit status of a program, and all that it has printed.

    Raises:
        OSError: It could not be run, or does not end.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own program, our arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"{command[0]} did not end within {_LONGEST_S:g} s"
        raise TimeoutError(what) from None
    return done.returncode, done.stdout.decode("utf-8", "replace")


@cache
def interpreter() -> str:
    """Give the Python that this environment is made from: it runs no `.pth` of the environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@cache
def interpreter_files() -> tuple[str, ...]:
    """Give what has to be readable for it to start."""
    return (sys.base_prefix, os.path.realpath(sys.base_prefix), interpreter())


@cache
def system_links() -> dict[str, str]:
    """Give which of the system's folders are links on this machine, and where they lead."""
    paths = map(Path, {*SYSTEM_READ, *PROGRAMS})
    links = (path for path in paths if path.is_dir() and path.is_symlink())
    return {str(link): str(link.readlink()) for link in links}
