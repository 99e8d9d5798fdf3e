"""Take the file system away from this thread, but for the paths that are given.

Also, where the kernel can: TCP, abstract unix sockets and signals to processes outside. It does
not cover chmod, utime, inotify, stat, or (before ABI 9) named unix sockets: seccomp does.
"""

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from plugin_worker.sandbox import kernel
from plugin_worker.sandbox.policy import DEVICES, LANDLOCK_MINIMUM

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_MAKE_SYM: Final = 1 << 12
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14

READ: Final = _READ_FILE | _READ_DIR
RUN: Final = READ | _EXECUTE
DEVICE: Final = _READ_FILE | _WRITE_FILE
WRITE: Final = (
    READ
    | _WRITE_FILE
    | _TRUNCATE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SYM
    | _REFER
)
"""No sockets, pipes or devices (they could hang a host that reads the folder), nothing runnable."""

_ON_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

_FS_BITS: Final = ((1, 13), (2, 14), (3, 15), (5, 16), (9, 17))
"""(ABI, how many file rights it knows): REFER in 2, TRUNCATE 3, IOCTL_DEV 5, RESOLVE_UNIX 9."""
_NET_TCP: Final = 0b11
_SCOPE_ABSTRACT_UNIX_AND_SIGNAL: Final = 0b11

_PATH_BENEATH: Final = 1
_ASK_VERSION: Final = 1


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Say which Landlock interface this kernel offers; 0 when it has none."""
    with suppress(OSError):
        return kernel.syscall(kernel.LANDLOCK_CREATE_RULESET, None, 0, _ASK_VERSION)
    return 0


def restrict(*, read: Iterable[str], run: Iterable[str], write: Iterable[str]) -> None:
    """Confine this thread to these paths and the harmless devices, for ever.

    Paths are followed through symbolic links; what is missing is skipped, except in `write`.
    The thread must have no_new_privs, and be the only one: others would stay free.

    Raises:
        OSError: The kernel has no Landlock, or too old a one; or a path cannot be opened.
    """
    version = abi()
    if version < LANDLOCK_MINIMUM:
        message = f"this kernel offers Landlock ABI {version}, and {LANDLOCK_MINIMUM} is needed"
        raise OSError(message)
    handled = (1 << max(bits for since, bits in _FS_BITS if since <= version)) - 1
    ruleset = _new_ruleset(version, handled)
    try:
        for paths, rights in ((read, READ), (run, RUN), (DEVICES, DEVICE)):
            for path in paths:
                with suppress(FileNotFoundError, NotADirectoryError):
                    _allow(ruleset, path, rights)
        for path in write:
            _allow(ruleset, path, WRITE)
        kernel.syscall(kernel.LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _new_ruleset(version: int, handled: int) -> int:
    """Make a ruleset that refuses everything this kernel can refuse; older ones ignore zeros."""
    rules = _Ruleset(
        handled,
        _NET_TCP if version >= 4 else 0,
        _SCOPE_ABSTRACT_UNIX_AND_SIGNAL if version >= 6 else 0,
    )
    size = ctypes.sizeof(rules)
    return kernel.syscall(kernel.LANDLOCK_CREATE_RULESET, ctypes.byref(rules), size, 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - 40 paths per worker: Path objects show
            rights &= _ON_FILES
        rule = _PathBeneath(rights, handle)
        kernel.syscall(kernel.LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(handle)
