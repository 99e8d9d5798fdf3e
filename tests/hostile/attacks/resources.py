"""Attacks on what there is only so much of. Each has a bound of its own, besides the host's."""

import hashlib
import mmap
import os
import resource
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from plugin_worker import PluginEvent, SpiralHostError

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import (
        Gauntlet,
        Nothing,
        Refused,
        Scene,
        attack,
        name_of,
        tried,
    )
else:
    import raw
    from gauntlet import Gauntlet, Nothing, Refused, Scene, attack, name_of, tried

__all__ = ["Gauntlet"]

GIB: Final = 1 << 30
MIB: Final = 1 << 20
NO_RESERVE: Final = 0x4000


@attack("res-memory")
def memory(scene: Scene) -> str:
    """Asked for and never touched, so that it costs nothing even where it is given."""

    def private() -> int:
        return len(mmap.mmap(-1, 5 * GIB, flags=mmap.MAP_PRIVATE | NO_RESERVE))

    def shared() -> int:
        return len(mmap.mmap(-1, 5 * GIB, flags=mmap.MAP_SHARED | NO_RESERVE))

    def in_parts() -> int:
        parts = [mmap.mmap(-1, GIB // 4, flags=mmap.MAP_PRIVATE) for _ in range(20)]
        return sum(map(len, parts))

    return tried(private, shared, in_parts)


@attack("res-memory-in-python")
def memory_in_python(scene: Scene) -> str:
    return f"{len(bytes(5 * GIB))} bytes"


@attack("res-memory-without-a-name")
def memfd(scene: Scene) -> str:
    """Shared memory that is no part of what a process has counts for nobody."""
    return tried(
        partial(raw.call, "memfd_create", b"hostile", 0),
        partial(raw.call, "memfd_secret", 0),
    )


@attack("res-files-in-memory")
def files_in_memory(scene: Scene) -> str:
    """Where it may make any at all, it has to end somewhere; no byte is written."""
    held = []
    try:
        for number in range(4):
            path = f"/dev/shm/hostile-{os.getpid()}-{number}"
            held.append(raw.open_file(path, os.O_CREAT | os.O_EXCL | os.O_RDWR))
            raw.call("unlinkat", -100, path.encode(), 0)
            raw.call("fallocate", held[-1], 0, 0, GIB // 2)
    finally:
        for number in held:
            os.close(number)
    return "2 GiB"


@attack("res-locked-memory")
def locked(scene: Scene) -> str:
    page = mmap.mmap(-1, 16 * MIB)
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return tried(
        partial(raw.call, "mlock", ctypes.c_void_p(address), 16 * MIB),
        partial(raw.call, "mlock2", ctypes.c_void_p(address), 16 * MIB, 1),
        partial(raw.call, "mlockall", 1),
    )


@attack("res-descriptors")
def descriptors(scene: Scene) -> str:
    held: list[int] = []
    try:
        while len(held) < 3000:
            held.append(os.dup(0))
    finally:
        for number in held:
            os.close(number)
    return f"{len(held)} descriptors"


@attack("res-pipes-full-of-bytes")
def pipes(scene: Scene) -> str:
    """The kernel's memory, not the process's; a user has 64 MiB of it in all."""
    held: list[int] = []
    bytes_in = 0
    try:
        while bytes_in < 1100 * MIB // 4 and len(held) < 2100:
            held += os.pipe2(os.O_NONBLOCK)
            with suppress(OSError):  # there is no more room than usual
                raw.call("fcntl", held[-1], 1031, MIB)
            with suppress(BlockingIOError):
                bytes_in += os.write(held[-1], bytes(MIB))
    except OSError as error:
        if bytes_in <= 128 * MIB:
            raise Refused(name_of(error)) from error
    finally:
        for number in held:
            os.close(number)
    return f"{bytes_in >> 20} MiB"


@attack("res-timers")
def timers(scene: Scene) -> str:
    event = struct.pack("Qii", 0, int(signal.SIGALRM), 1) + bytes(48)
    number = bytes(8)
    made = []
    try:
        for _ in range(3000):
            raw.call("timer_create", 1, event, number)
            made.append(struct.unpack_from("i", number)[0])
    finally:
        for timer in made:
            raw.call("timer_delete", timer)
    return f"{len(made)} timers"


@attack("res-real-time")
def real_time(scene: Scene) -> str:
    fifo = 1

    def ask(name: str, *rest: object) -> str:
        raw.call(name, 0, *rest)
        if raw.call("sched_getscheduler", 0) != fifo:
            raise Refused("unchanged")
        raw.call("sched_setscheduler", 0, 0, bytes(4))
        return "first of all"

    return tried(
        lambda: ask("sched_setscheduler", fifo, struct.pack("i", 1)),
        lambda: ask("sched_setattr", struct.pack("IIQiIQQQ", 48, fifo, 0, 0, 1, 0, 0, 0), 0),
        partial(raw.call, "setpriority", 0, 0, -20),
        partial(raw.call, "ioprio_set", 1, 0, 1 << 13),
    )


@attack("res-forks")
def forks(scene: Scene) -> str:
    for number in range(32):
        try:
            raw.fork(raw.CHILD_ENDS, 0, 0, 0, 0)
        except OSError as error:
            if number:
                return f"{number} processes"
            raise error from None
    return "32 processes"


@attack("res-busy-threads")
def busy_threads(scene: Scene) -> str:
    """As many as this machine has processors, and some; it is seen from outside who can work."""

    def work() -> None:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 20_000)

    for _ in range((os.cpu_count() or 1) + 2):
        threading.Thread(target=work, daemon=True).start()
    raise Nothing("it is busy")


@attack("res-endless-line")
def endless_line(scene: Scene) -> str:
    """It waits where the host reads no faster; what is kept of it is bounded."""
    for _ in range(160):
        os.write(1, b"\x1b[2J\0endless " * 5000)
    os.write(1, b"\n")
    raise Nothing("8 MB in one line")


@attack("res-settings-without-end")
def settings(scene: Scene) -> str:
    for number in range(100_000):
        scene.ctx.set_config(f"hoard.{number}", "x" * 1000)
    return "100,000 settings"


@attack("res-arrays-without-end")
def arrays(scene: Scene) -> str:
    """Never written to, so that they take no memory even where they are given."""
    held: list[object] = []
    try:
        while len(held) < 80:
            held += [scene.ctx.empty(64 * MIB, "u1")]
    except SpiralHostError:
        if not held:
            raise
        raise Refused("LocalProtocolError") from None
    return f"{len(held)} arrays of 64 MiB"


@attack("res-types-without-end")
def types(scene: Scene) -> str:
    """Somebody has to want them, or they are not even sent."""
    scene.ctx.subscribe("*", hash)
    for number in range(6000):
        scene.ctx.event_bus.publish(PluginEvent.custom(f"Lie{number}", None))
    return "6,000 types of events"


@attack("res-folders-in-folders")
def folders(scene: Scene) -> str:
    """Whoever clears away has to climb down 2,000 steps, unless the watch comes by before that."""
    os.chdir(os.environ["TMPDIR"])
    for _ in range(2000):
        raw.call("mkdirat", -100, b"folder", 0o700)
        raw.call("chdir", b"folder")
    os._exit(3)


@attack("res-files-in-the-way")
def files(scene: Scene) -> str:
    os.chdir(os.environ["TMPDIR"])
    for number in range(3000):
        os.close(raw.open_file(str(number), os.O_CREAT, 0o000))
    os._exit(3)


@attack("res-one-huge-file")
def huge_file(scene: Scene) -> str:
    descriptor = raw.open_file(f"{scene.data}/huge", os.O_CREAT | os.O_RDWR)
    try:
        return f"{os.pwrite(descriptor, b'x', 2 * GIB)} byte beyond 2 GiB"
    finally:
        os.close(descriptor)
        raw.call("unlinkat", -100, f"{scene.data}/huge".encode(), 0)


@attack("res-deep-recursion")
def recursion(scene: Scene) -> str:
    def deeper(depth: int) -> int:
        return deeper(depth + 1)

    sys.setrecursionlimit(10_000)
    return str(deeper(0))


@attack("res-own-limits")
def own_limits(scene: Scene) -> str:
    """What it may not raise it may not lower either: a limit that it sets is no limit of ours."""
    return tried(
        partial(raw.call, "setrlimit", resource.RLIMIT_NOFILE, struct.pack("QQ", 1 << 20, 1 << 20)),
        partial(
            raw.call,
            "prlimit64",
            0,
            resource.RLIMIT_AS,
            struct.pack("QQ", 2**64 - 1, 2**64 - 1),
            None,
        ),
    )
