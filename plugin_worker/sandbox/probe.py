"""Find out which layers this machine has, by laying on each in a child process.

A child, because confinement cannot be undone. Some milliseconds for each layer; once per node,
before it has threads.
"""

import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from plugin_worker.confine import Confinement, confine, in_force
from plugin_worker.sandbox import bwrap, kernel
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.namespaces import try_namespaces
from plugin_worker.sandbox.policy import CURES, LAYER_NAMES, STANDARD
from plugin_worker.sandbox.seccomp import compile_program

_LONGEST_REASON: Final = 4096


def probe(layers: Iterable[str] = STANDARD) -> dict[str, str]:
    """Give for each of these layers "" when it holds on this machine, else reason and cure."""
    return {layer: _with_cure(layer, _try(layer)) for layer in layers}


def _with_cure(layer: str, reason: str) -> str:
    cure = bwrap.cure(reason) if layer == "namespaces" else CURES[layer]
    return f"{reason}; cure: {cure}" if reason else ""


def _try(layer: str) -> str:
    if layer == "namespaces":
        try:
            return try_namespaces()
        except OSError as error:
            return str(error)
    try:
        program = compile_program() if layer == "seccomp" else b""
    except ConfinementError as error:
        return error.why
    confinement = Confinement(
        read=(),
        write=(),
        tmp=os.path.realpath(tempfile.gettempdir()),
        node_pid=os.getpid(),
        layers=tuple(name for name in LAYER_NAMES if name in {layer, "no-new-privs"}),
    )
    return _in_a_child(lambda keep: _reason(layer, confinement, program, keep))


def _reason(layer: str, confinement: Confinement, program: bytes, keep: frozenset[int]) -> str:
    """Runs in the child: say what is wrong with the layer, "" if nothing."""
    try:
        confine(confinement, program, keep)
    except ConfinementError as error:
        return error.why
    return "" if _EFFECTS[layer]() else "the kernel accepted it, and it has no effect"


def _in_a_child(reason: Callable[[frozenset[int]], str]) -> str:
    """Fork, ask there, and give the answer; the child's end is an answer too."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, reason(frozenset({writer})).encode()[:_LONGEST_REASON])
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        return f"a process that tried it died of {signal.Signals(-code).name}"
    return text or ("a process that tried it failed" if code else "")


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


_EFFECTS: Final[Mapping[str, Callable[[], bool]]] = MappingProxyType(
    {
        "rlimits": lambda: resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
        "capabilities": lambda: "capabilities" in in_force(os.getpid()),
        "not-dumpable": lambda: kernel.prctl(kernel.PR_GET_DUMPABLE) == 0,
        "no-new-privs": lambda: kernel.prctl(kernel.PR_GET_NO_NEW_PRIVS) == 1,
        "landlock": lambda: _refused(lambda: os.listdir("/")),  # noqa: PTH208 - the call itself
        "seccomp": lambda: _refused(socket.socket),
    }
)
