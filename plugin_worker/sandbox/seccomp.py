"""Turn the policy into a filter program (in the node), and load it (in the worker).

There is one program for each set of permissions that change the filter, its *variant*. It is
compiled once, with a number that no process has in place of the worker's pid; each worker patches
its own pid in. The worker never imports the compiler.
"""

import ctypes
import errno
import os
import struct
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from plugin_worker.sandbox import kernel
from plugin_worker.sandbox.errors import MissingLayer
from plugin_worker.sandbox.policy import (
    ALLOWED,
    ARGUMENT_RULES,
    CHANGES,
    OWN_PID,
    PRETENDED,
    REFUSED,
    Compare,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAYER: Final = "seccomp"
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1
_BINARY_TREE: Final = 2

_INSTRUCTION: Final = struct.Struct("=HBBI")
"""Code, jump if true, jump if false, constant: the kernel's `struct sock_filter`."""
_JUMP_IF_EQUAL: Final = 0x15


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@cache
def compile_program(variant: frozenset[str] = frozenset()) -> bytes:
    """Compile the policy for this machine; runs in the node, takes some milliseconds once.

    Args:
        variant: The permissions in force that change the filter: names of `policy.CHANGES`.

    Raises:
        MissingLayer: The compiler, or the library under it, is not installed.
    """
    compiler = _compiler()
    rules = compiler.SyscallFilter(compiler.ERRNO(errno.ENOSYS))
    try:
        rules.set_attr(compiler.Attr.ACT_BADARCH, compiler.KILL_PROCESS)
    except OSError as error:  # what the library says on a kernel where it finds no filters
        raise MissingLayer(_LAYER, f"this kernel ends no process by a filter: {error}") from None
    with suppress(OSError):  # libseccomp before 2.5 has only the linear form: same answers, slower
        rules.set_attr(compiler.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    for answer, name, conditions in _answers(variant):
        if compiler.resolve_syscall(compiler.Arch.NATIVE, name) >= 0:
            action = compiler.ALLOW if answer is None else compiler.ERRNO(answer)
            arguments = (_argument(compiler, condition) for condition in conditions)
            rules.add_rule_exactly(action, name, *arguments)
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def patch_pid(program: bytes, pid: int) -> bytes:
    """Put the worker's pid where the program compares with `OWN_PID`, and nowhere else.

    Raises:
        ValueError: The program pins nothing to a pid, so it is not one of ours.
    """
    patched = bytearray(program)
    places = list(_places(program))
    for place in places:
        struct.pack_into("=I", patched, place, pid)
    if not places:
        message = f"no place for a pid in a filter program of {len(program)} bytes"
        raise ValueError(message)
    return bytes(patched)


def load_program(program: bytes) -> None:
    """Put every thread of this process under the program, for ever; needs no_new_privs.

    Raises:
        OSError: The kernel refused it, or one thread could not be brought under it.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // _INSTRUCTION.size, ctypes.addressof(code))
    call = kernel.number("seccomp")
    left_out = kernel.syscall(call, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(header))
    if left_out:
        message = f"thread {left_out} did not follow"
        raise OSError(message)


def _compiler() -> Any:  # noqa: ANN401 - it has no types
    try:
        import pyseccomp  # noqa: PLC0415 - starts child processes when imported: node only
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingLayer(_LAYER, str(error)) from None
    return pyseccomp


def _answers(
    variant: frozenset[str],
) -> "Iterator[tuple[int | None, str, tuple[Compare, ...]]]":
    """Give errno (None: let through), call and conditions of every rule, in a fixed order."""
    changes = [CHANGES[word] for word in sorted(variant)]
    now_allowed = frozenset[str]().union(*(change.allowed for change in changes))
    new_rules = [rule for change in changes for rule in change.rules]
    changed = now_allowed | {rule.name for rule in new_rules}
    yield from ((None, name, ()) for name in sorted((ALLOWED - changed) | now_allowed))
    yield from ((errno.EPERM, name, ()) for name in sorted(REFUSED - changed))
    yield from ((0, name, ()) for name in sorted(PRETENDED - changed))
    kept = [rule for rule in ARGUMENT_RULES if rule.name not in changed]
    yield from ((rule.answer or None, rule.name, rule.when) for rule in (*kept, *new_rules))


def _argument(compiler: Any, condition: Compare) -> Any:  # noqa: ANN401 - it has no types
    if condition.op == "masked":
        return compiler.Arg(condition.argument, compiler.MASKED_EQ, condition.mask, condition.value)
    op = compiler.EQ if condition.op == "==" else compiler.NE
    return compiler.Arg(condition.argument, op, condition.value)


def _places(program: bytes) -> "Iterator[int]":
    """Find the offsets of the constants that stand for the pid."""
    wanted = struct.pack("=I", OWN_PID)
    offset = program.find(wanted)
    while offset != -1:
        start = offset - 4
        if start % _INSTRUCTION.size == 0:
            code = _INSTRUCTION.unpack_from(program, start)[0]
            if code == _JUMP_IF_EQUAL:
                yield offset
        offset = program.find(wanted, offset + 1)
