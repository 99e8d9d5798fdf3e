"""Try what a confined process must not be able to do. Runs in the worker, before any plugin code.

Landlock leaves no trace that the node could see from outside; this is what its word rests on. All
of it takes less than 0.1 ms.
"""

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.errors import ConfinementError

_HIDDEN: Final = (errno.EACCES, errno.ENOENT)
"""Refused, or in a mount namespace of its own not there at all."""


def sing(confinement: Confinement) -> None:
    """Try a file, a socket and a signal, each where a layer that refuses it is asked for.

    Raises:
        ConfinementError: One of them works; the process must end without running plugin code.
    """
    if "landlock" in confinement.layers:
        for path in _out_of_reach(confinement):
            _expect("landlock", f"opening {path}", _HIDDEN, partial(_open, path))
    if "seccomp" in confinement.layers:
        refusal = errno.EAFNOSUPPORT if confinement.ports else errno.EPERM
        _expect("seccomp", "making a socket", (refusal,), _make_socket)
        if not confinement.subprocess:  # else it is Landlock or a pid namespace that refuses
            _expect("seccomp", "signalling", (errno.EPERM,), lambda: os.kill(os.getppid(), 0))


def _out_of_reach(confinement: Confinement) -> Iterable[str]:
    """Give the root, a file of the system and the run directory, where they were not granted."""
    run_dir = os.path.dirname(os.path.dirname(confinement.tmp))  # noqa: PTH120 - start-up counts
    given = [path.rstrip("/") for path in confinement.all_paths()]
    for path in ("/", "/etc/passwd", run_dir):
        if not any(f"{path}/".startswith(f"{folder}/") for folder in given):
            yield path


def _open(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _make_socket() -> None:
    socket.socket(socket.AF_UNIX).close()


def _expect(
    layer: str, what: str, refusals: Collection[int | None], attempt: Callable[[], None]
) -> None:
    try:
        attempt()
    except OSError as error:
        if error.errno in refusals:
            return
        raise ConfinementError(layer, f"{what} failed otherwise than it should: {error}") from None
    raise ConfinementError(layer, f"the kernel accepted it, and {what} still works")
