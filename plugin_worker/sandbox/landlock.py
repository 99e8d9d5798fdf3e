"""Take files and TCP away from this thread, but for the paths and ports that are given.

Also, where the kernel can: abstract unix sockets and signals to processes outside. It does not
cover chmod, utime, inotify, stat, or (before ABI 9) named unix sockets: seccomp does.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from plugin_worker.sandbox import kernel
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.policy import DEVICES, LANDLOCK_MINIMUM, LISTED

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
_IOCTL_DEVICE: Final = 1 << 15

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

_ON_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

_FS_BITS: Final = ((1, 13), (2, 14), (3, 15), (5, 16), (9, 17))
"""(ABI, how many file rights it knows): REFER in 2, TRUNCATE 3, IOCTL_DEV 5, RESOLVE_UNIX 9."""
_NET_TCP: Final = 0b11
_CONNECT_TCP: Final = 0b10
_SCOPE_ABSTRACT_UNIX_AND_SIGNAL: Final = 0b11

_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2
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


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a thread may touch. What is missing is skipped, but where it says that it exists.

    Attributes:
        read: Files and folders; these are followed through symbolic links.
        run: Those it may also start programs from.
        write: Folders that exist, followed as well; nothing in them can be started.
        devices: Device files that exist, to talk to their drivers.
        granted_read: What it may read by permission; it exists, and its path leads through no link.
        granted_write: The same, to write to as well.
        identities: What has been found at granted paths before, and has to be found again.
        ports: TCP ports that it may connect to; since ABI 4.
    """

    read: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    granted_read: tuple[str, ...] = ()
    granted_write: tuple[str, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()


def abi() -> int:
    """Say which Landlock interface this kernel offers; 0 when it has none."""
    with suppress(OSError):
        return kernel.syscall(kernel.LANDLOCK_CREATE_RULESET, None, 0, _ASK_VERSION)
    return 0


def restrict(reach: Reach) -> None:
    """Confine this thread to this and the harmless devices, for ever.

    The thread must have no_new_privs, and be the only one: others would stay free.

    Raises:
        OSError: The kernel has no Landlock, or too old a one; or a path cannot be opened.
        ConfinementError: What was granted cannot be given.
    """
    version = abi()
    if version < LANDLOCK_MINIMUM:
        message = f"this kernel offers Landlock ABI {version}, and {LANDLOCK_MINIMUM} is needed"
        raise OSError(message)
    handled = (1 << max(bits for since, bits in _FS_BITS if since <= version)) - 1
    ruleset = _new_ruleset(version, handled)
    try:
        _allow_own(ruleset, reach, handled)
        for permission, paths, rights in (
            ("read", reach.granted_read, READ),
            ("write", reach.granted_write, WRITE),
        ):
            for path in paths:
                expected = reach.identities.get(path, "")
                _allow_granted(ruleset, permission, path, rights, expected)
        for port in reach.ports:
            rule = _NetPort(_CONNECT_TCP, port)
            kernel.syscall(kernel.LANDLOCK_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(rule), 0)
        kernel.syscall(kernel.LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_own(ruleset: int, reach: Reach, handled: int) -> None:
    """Allow what the policy gives; of one mind with it, so links are followed."""
    for paths, rights in ((reach.read, READ), (reach.run, RUN), (DEVICES, DEVICE)):
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                _allow(ruleset, path, _READ_DIR if path in LISTED else rights)
    for paths, rights in ((reach.write, WRITE), (reach.devices, DEVICE | _IOCTL_DEVICE)):
        for path in paths:
            _allow(ruleset, path, rights & handled)


def _new_ruleset(version: int, handled: int) -> int:
    """Make a ruleset that refuses everything this kernel can refuse; older ones ignore zeros."""
    rules = _Ruleset(
        handled,
        _NET_TCP if version >= 4 else 0,
        _SCOPE_ABSTRACT_UNIX_AND_SIGNAL if version >= 6 else 0,
    )
    size = ctypes.sizeof(rules)
    return kernel.syscall(kernel.LANDLOCK_CREATE_RULESET, ctypes.byref(rules), size, 0)


def open_granted(permission: str, path: str) -> int:
    """Take hold of what the operator granted, by no link, whoever put it there since then.

    Raises:
        ConfinementError: It cannot be given; it names permission, path and cure.
    """
    try:
        return kernel.open_without_links(path)
    except OSError as error:
        raise ConfinementError(permission, f"{path}: {_why_not(error)}") from error


def identity_of(handle: int) -> str:
    """Tell a file or folder from every other of this machine, by whatever path it is opened."""
    status = os.fstat(handle)
    return f"{status.st_dev}:{status.st_ino}"


def _allow_granted(ruleset: int, permission: str, path: str, rights: int, expected: str) -> None:
    handle = open_granted(permission, path)
    try:
        if expected and identity_of(handle) != expected:
            why = f"{path}: it was put in place of what was granted; start the plugin again"
            raise ConfinementError(permission, why)
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        _add(ruleset, handle, rights if is_folder else rights & _ON_FILES)
    finally:
        os.close(handle)


def _why_not(error: OSError) -> str:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return "it does not exist; make it, or revoke the grant"
    if error.errno == errno.ELOOP:
        return (
            "there is a symbolic link in it now; put back what was granted, or grant what it "
            "leads to"
        )
    return f"it cannot be opened ({error.strerror}); let the host's user reach it, or revoke it"


def _allow(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - 40 paths per worker: Path objects show
            rights &= _ON_FILES
        _add(ruleset, handle, rights)
    finally:
        os.close(handle)


def _add(ruleset: int, handle: int, rights: int) -> None:
    rule = _PathBeneath(rights, handle)
    kernel.syscall(kernel.LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
