"""The few calls to the kernel that Python has no function for. Decides nothing.

No `ctypes.util.find_library`: it starts a child process. The symbols of the C library are already
in the interpreter.
"""

import array
import ctypes
import fcntl
import os
import platform
import select
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SYSCALL: Final = _LIBC.syscall  # looked up in the zygote, not again in every worker
_PRCTL: Final = _LIBC.prctl
_CAPSET: Final = _LIBC.capset
_POLL: Final = _LIBC.poll

NUMBERS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "x86_64": {"clone": 56, "seccomp": 317},
        "aarch64": {"clone": 220, "seccomp": 277},
        "riscv64": {"clone": 220, "seccomp": 277},
    }
)
"""Numbers that differ between machines. Those given after 2019 are the same on all."""

CLOSE_RANGE: Final = 436
OPENAT2: Final = 437
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446

PR_SET_PDEATHSIG: Final = 1
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39
PR_GET_TID_ADDRESS: Final = 40
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_PIDFD_INFO: Final = struct.Struct("=Q52xi")
"""The first form of `struct pidfd_info`: what is asked for and known, and the wait status."""
_PIDFD_INFO_EXIT: Final = 1 << 3
_PIDFD_GET_INFO: Final = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11

_AT_FDCWD: Final = -100
_RESOLVE_NO_SYMLINKS: Final = 0x04
_CAPABILITY_VERSION_3: Final = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def number(name: str) -> int:
    """Give this machine's number of a system call.

    Raises:
        OSError: Nobody has written it down for this machine.
    """
    machine = platform.machine()
    try:
        return NUMBERS[machine][name]
    except KeyError:
        message = f"no number is known for {name} on {machine}"
        raise OSError(message) from None


def syscall(call: int, *arguments: object) -> int:
    """Make a system call; every argument is an int, a ctypes pointer or None.

    Raises:
        OSError: The kernel refused it.
    """
    words = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result = _SYSCALL(ctypes.c_long(call), *words)
    return _checked(result)


def prctl(option: int, *arguments: object) -> int:
    """Call prctl, with zeros for the arguments that are not given.

    Raises:
        OSError: The kernel refused it.
    """
    given = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    rest = [ctypes.c_ulong(0)] * (4 - len(given))
    return _checked(_PRCTL(ctypes.c_int(option), *given, *rest))


def close_range(first: int, last: int) -> None:
    """Close every descriptor from first to last, both included."""
    syscall(CLOSE_RANGE, first, last, 0)


def open_without_links(path: str) -> int:
    """Take hold of a file or folder, as O_PATH does, by a path with no symbolic link in it.

    Raises:
        OSError: ELOOP where there is a link in it; or it cannot be reached.
    """
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    place = os.fsencode(path)
    return syscall(OPENAT2, _AT_FDCWD, place, ctypes.byref(how), ctypes.sizeof(how))


def count_open(bound: int) -> int:
    """Count the open descriptors below a number, of which the process may have no more.

    In one question for all of them: Python's own poll takes seven times as long to build answers.

    Raises:
        OSError: The kernel refused it.
    """
    asked = array.array("i", bytes(8 * bound))
    asked[::2] = array.array("i", range(bound))
    _checked(_POLL(ctypes.c_void_p(asked.buffer_info()[0]), ctypes.c_ulong(bound), 0))
    answers = memoryview(asked).cast("B").cast("H")[3::4].tolist()
    return bound - sum(1 for answer in answers if answer & select.POLLNVAL)


def wait_status(pidfd: int) -> int | None:
    """Give how a process has ended that is not this one's child, once its parent has reaped it.

    None where the kernel does not tell: before Linux 6.15, or too early.
    """
    answer = bytearray(_PIDFD_INFO.size)
    _PIDFD_INFO.pack_into(answer, 0, _PIDFD_INFO_EXIT, 0)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, answer)
    except OSError:
        return None
    known, status = _PIDFD_INFO.unpack(answer)
    return status if known & _PIDFD_INFO_EXIT else None


def drop_capability_sets() -> None:
    """Empty the effective, permitted and inheritable sets of this thread.

    Raises:
        OSError: The kernel refused it.
    """
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_CAPSET(ctypes.byref(header), ctypes.byref(nothing)))


def _checked(result: int) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
