"""A rival's other end: a process that runs its module until nobody needs it any more."""

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def serving(module: str, *arguments: str, fds: tuple[int, ...] = ()) -> Iterator[None]:
    """Have `python -m MODULE ARGUMENT...` running; it says by a line that it is ready."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=fds) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise ConnectionError(f"{module} did not start to serve")
            yield
        finally:
            process.kill()


def say_ready() -> None:
    """Tell who started this process that it serves."""
    print("ready", flush=True)


@contextlib.contextmanager
def serving_on_pair(module: str) -> Iterator[socket.socket]:
    """Have it serving the other end of a socket pair, whose number is its argument."""
    ours, theirs = socket.socketpair()
    with ours, theirs, serving(module, str(theirs.fileno()), fds=(theirs.fileno(),)):
        theirs.close()
        yield ours


@contextlib.contextmanager
def serving_at_path(module: str) -> Iterator[str]:
    """Have it serving at a unix socket, whose path is its argument."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = str(Path(folder) / "socket")
        with serving(module, path):
            yield path
