"""System calls as they are: no Python between the attack and the kernel's answer.

Laid into the folders of the plugins that attack, so it imports nothing of the tests. The numbers
are those of this machine; the test looks them up and sends them.
"""

import ctypes
import errno
import os
from typing import Final

NUMBERS: Final[dict[str, int]] = {}
"""Names of system calls to numbers; calls without one fail as on a kernel that has none."""

CHILD_ENDS: Final = 17
"""SIGCHLD, as the flags of `clone` have it."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str | int, *arguments: object) -> int:
    """Make a system call, named or by its number.

    Raises:
        OSError: It failed, or this machine has no such call.
    """
    number = name if isinstance(name, int) else NUMBERS.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"no number for {name}")
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *given)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def open_file(path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a file, by the kernel alone."""
    return call("openat", -100, path.encode(), flags | os.O_CLOEXEC, mode)


def read(path: str, length: int = 64) -> bytes:
    """Read the beginning of a file."""
    descriptor = open_file(path)
    try:
        return os.read(descriptor, length)
    finally:
        os.close(descriptor)


def write(path: str, text: bytes = b"was here", flags: int = os.O_CREAT) -> int:
    """Write to a file, which is made if there is none."""
    descriptor = open_file(path, os.O_WRONLY | flags)
    try:
        return os.write(descriptor, text)
    finally:
        os.close(descriptor)


def list_folder(path: str) -> list[str]:
    """List a folder."""
    descriptor = open_file(path, os.O_DIRECTORY)
    try:
        return os.listdir(descriptor)  # noqa: PTH208 - by its number, which no path has
    finally:
        os.close(descriptor)


def fork(*arguments: object, name: str = "clone") -> str:
    """Make a process that ends at once; say how it ended."""
    pid = call(name, *arguments)
    if not pid:
        os._exit(7)
    _, status = os.waitpid(pid, 0x40000000)  # __WALL: whatever it sends when it ends
    return f"a process that left with {os.waitstatus_to_exitcode(status)}"


def run(program: str) -> str:
    """Run a program; say how it ended."""
    words = (ctypes.c_char_p * 2)(program.encode(), None)
    pid = call("clone", CHILD_ENDS, 0, 0, 0, 0)
    if not pid:
        try:
            call("execve", program.encode(), words, None)
        finally:
            os._exit(127)
    _, status = os.waitpid(pid, 0)
    return f"exit status {os.waitstatus_to_exitcode(status)}"
