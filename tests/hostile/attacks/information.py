"""Attacks on what a plugin is not to know: secrets, other processes, the machine."""

import ctypes
import os
import re
import socket
import stat
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from plugin_worker import SpiralHostError

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import PATIENCE_S, Gauntlet, Refused, Scene, attack, tried
else:
    import raw
    from gauntlet import PATIENCE_S, Gauntlet, Refused, Scene, attack, tried

__all__ = ["Gauntlet"]

STACK = 128 * 1024
"""Bytes above the environment that are looked through: arguments and environment lie there."""


def secret_in(scene: Scene, text: str | bytes) -> str:
    """Give the secret if the text has it."""
    known = text if isinstance(text, bytes) else text.encode()
    if scene.secret.encode() not in known:
        raise Refused("nothing")
    return "the secret"


@attack("info-environment")
def environment(scene: Scene) -> str:
    def from_kernel() -> str:
        return secret_in(scene, raw.read("/proc/self/environ", 1 << 16))

    return tried(lambda: secret_in(scene, repr(os.environ)), from_kernel)


@attack("info-environment-in-memory")
def environment_in_memory(scene: Scene) -> str:
    """What a process was started with stays at the top of its stack, and of its children's."""
    known = above(ctypes.c_void_p.in_dll(ctypes.CDLL(None), "__libc_stack_end").value or 0)
    if b"LANG=C.UTF-8" not in known:
        raise Refused("blind")
    return secret_in(scene, known)


def above(address: int) -> bytes:
    """Give memory from an address on, as far as there is some."""
    found = b""
    reader, writer = os.pipe()
    try:
        while len(found) < STACK:
            size = 4096 - address % 4096
            raw.call("write", writer, ctypes.c_void_p(address), size)
            found += os.read(reader, size)
            address += size
    except OSError:
        return found  # there is no more
    finally:
        os.close(reader)
        os.close(writer)
    return found


@attack("info-arguments")
def arguments(scene: Scene) -> str:
    return tried(
        lambda: secret_in(scene, " ".join([*sys.argv, *sys.orig_argv])),
        lambda: secret_in(scene, raw.read("/proc/self/cmdline", 1 << 16)),
    )


@attack("info-descriptors")
def descriptors(scene: Scene) -> str:
    """Standard streams, umbilical, flight page, interest page, and lanes of calls under way."""
    found = []
    for number in range(1024):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        own = stat.S_ISSOCK(status.st_mode) or not stat.S_IFMT(status.st_mode)  # or an eventfd
        odd = number > 2 and not own and status.st_nlink
        if odd or stat.S_ISDIR(status.st_mode):
            found.append(f"{number}: {stat.filemode(status.st_mode)}")
    if not found:
        raise Refused("nothing")
    return ", ".join(found)


@attack("info-list-processes")
def list_processes(scene: Scene) -> str:
    pids = (scene.bystander, *scene.hosts)
    return tried(
        partial(raw.list_folder, "/proc"),
        partial(raw.list_folder, "/proc/self/task"),
        *(partial(raw.read, f"/proc/{pid}/{file}") for pid in pids for file in FILES),
    )


FILES = ("cmdline", "status", "stat", "comm", "cgroup", "limits")


@attack("info-machine-in-proc")
def machine(scene: Scene) -> str:
    names = ("net/unix", "net/tcp", "self/mountinfo", "kallsyms", "version", "cmdline", "modules")
    return tried(
        *(partial(raw.read, f"/proc/{name}") for name in names),
        partial(raw.read, "/proc/sys/kernel/random/boot_id"),
        partial(raw.list_folder, "/sys/class/net"),
        partial(raw.read, "/etc/machine-id"),
        partial(raw.read, "/etc/hostname"),
    )


@attack("info-shared-memory-by-name")
def shared_by_name(scene: Scene) -> str:
    def names() -> list[str]:
        found = raw.list_folder("/dev/shm")
        if not found:
            raise Refused("nothing")
        return found

    return tried(
        names, partial(raw.read, scene.shared), partial(raw.open_file, scene.shared, os.O_RDWR)
    )


@attack("info-host-name")
def host_name(scene: Scene) -> str:
    name = socket.gethostname()
    if name in {"plugin", "localhost"}:
        raise Refused("nothing")
    return name


@attack("info-user-name")
def user_name(scene: Scene) -> str:
    import getpass

    return tried(
        partial(raw.read, "/etc/passwd"),
        lambda: secret_in(scene, getpass.getuser() + str(Path.home())),
    )


@attack("info-paths-in-errors")
def paths_in_errors(scene: Scene) -> str:
    """What another plugin's failure says of where it lies."""
    victim = scene.ctx.wait_service("victim", PATIENCE_S)
    try:
        victim.fail()
    except SpiralHostError as error:
        said = f"{error} {error.args}"
        if "fail" not in said:
            raise Refused("blind") from None
        found = re.findall(r"/\w+/[\w./-]+", said)
        if not found:
            raise Refused("nothing") from None
        return " ".join(found)
    raise Refused("blind")


@attack("info-page-cache")
def page_cache(scene: Scene) -> str:
    library = raw.open_file(os.__file__)
    cachestat = 451
    return tried(partial(raw.call, cachestat, library, bytes(16), bytes(40), 0))


@attack("info-old-bytes-in-shared-memory")
def old_bytes(scene: Scene) -> str:
    """What it is given to write arrays into may be anybody's memory of before."""
    import numpy as np

    empty = getattr(scene.ctx, "empty", None)
    if empty is None:
        raise Refused("absent")
    if not np.asarray(empty((1 << 20,), "u1")).any():
        raise Refused("nothing")
    return "bytes that it did not write"


@attack("info-layout-of-others")
def layout(scene: Scene) -> str:
    """Where another plugin's process has its C library, by where one's own is."""
    own = ctypes.cast(ctypes.CDLL(None).system, ctypes.c_void_p).value
    if own != scene.ctx.wait_service("victim", PATIENCE_S).layout():
        raise Refused("another")
    return f"{own:#x}"
