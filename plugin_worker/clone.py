"""Fork a process whose parent is this one's own parent. Confines nothing.

`clone(CLONE_PARENT)` instead of `fork`: the node, which started the zygote, is then the worker's
real parent, reaps it with its exact status, and the worker outlives the zygote.
"""

import ctypes
import os
import platform
import signal
from typing import Final

from plugin_worker.sandbox import kernel

_CLONE_PARENT: Final = 0x00008000
_CLONE_CHILD_CLEARTID: Final = 0x00200000
_CLONE_CHILD_SETTID: Final = 0x01000000

_HOLDING_THE_GIL: Final = ctypes.PyDLL(None, use_errno=True)
_CTID_IS_LAST: Final = frozenset({"aarch64", "riscv64"})
"""Where the order is flags, stack, ptid, tls, ctid; on x86-64 the last two are swapped."""


def clone_sibling() -> int:
    """Fork this process, which has one thread, into a child of its own parent.

    Returns:
        0 in the child, the child's pid in the caller. Only the parent of both can wait for it.

    Raises:
        OSError: This kernel or this machine cannot do it; nothing was forked.
    """
    number = kernel.number("clone")
    arguments = _arguments()
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _HOLDING_THE_GIL.syscall(ctypes.c_long(number), *arguments)
    code = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, os.strerror(code))
    return int(pid)


def _arguments() -> list[ctypes.c_long]:
    """Ask for what the C library's own fork asks for, and for the parent's parent.

    The C library keeps each thread's id in memory and uses it in `raise` and `abort`; the kernel
    writes the child's there when told where.
    """
    flags = _CLONE_PARENT | signal.SIGCHLD
    thread_id = _thread_id_address()
    if thread_id:
        flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    last = [0, thread_id] if platform.machine() in _CTID_IS_LAST else [thread_id, 0]
    return [ctypes.c_long(word) for word in (flags, 0, 0, *last)]


def _thread_id_address() -> int:
    """Give where the C library keeps this thread's id; 0 when this kernel does not tell."""
    address = ctypes.c_void_p()
    try:
        kernel.prctl(kernel.PR_GET_TID_ADDRESS, ctypes.byref(address))
    except OSError:
        return 0
    return address.value or 0
