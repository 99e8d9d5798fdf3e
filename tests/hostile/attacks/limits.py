"""Attacks on limits of its own: the manifest asks for very little, and the plugin takes more.

Each goes a few times beyond its limit and no further, so that it harms nobody where there is none.
"""

import hashlib
import mmap
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plugin_worker import PluginEvent

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import PATIENCE_S, Gauntlet, Refused, Scene, attack
else:
    import raw
    from gauntlet import PATIENCE_S, Gauntlet, Refused, Scene, attack

__all__ = ["Gauntlet"]

MIB: Final = 1 << 20
LONG_ENOUGH_S: Final = 3.0
"""For whoever slows it down."""

NOTICED_S: Final = 60.0
"""For whoever watches: one that was idle is looked at every 10 s, and where it takes long to weigh
its folders on a busy machine, that is done seldom. Whoever is ended does not wait for all of it."""


@attack("limit-memory")
def memory(scene: Scene) -> str:
    """Its limit is 1 GiB; it is asked for and never touched."""
    return f"{len(mmap.mmap(-1, 1536 * MIB, flags=mmap.MAP_PRIVATE))} bytes"


@attack("limit-files")
def files(scene: Scene) -> str:
    """Its limit is 64 descriptors."""
    held: list[int] = []
    try:
        while len(held) < 200:
            held.append(os.dup(0))
    finally:
        for number in held:
            os.close(number)
    return "200 descriptors"


@attack("limit-file-size")
def file_size(scene: Scene) -> str:
    """Its limit is 1 MiB."""
    path = f"{scene.data}/long"
    descriptor = raw.open_file(path, os.O_CREAT | os.O_RDWR)
    try:
        return f"{os.pwrite(descriptor, b'x', 2 * MIB)} byte beyond 2 MiB"
    finally:
        os.close(descriptor)
        raw.call("unlinkat", -100, path.encode(), 0)


@attack("limit-disk")
def disk(scene: Scene) -> str:
    """Its limit is 8 MiB in all; it writes 40, in files that are short enough, and waits."""
    folder = Path(scene.data, "many")
    folder.mkdir(exist_ok=True)
    try:
        for number in range(80):
            raw.write(f"{folder}/{number}", bytes(MIB // 2))
        time.sleep(NOTICED_S)
    finally:
        for file in folder.iterdir():
            file.unlink()
    return "40 MiB"


@attack("limit-inodes")
def inodes(scene: Scene) -> str:
    """A byte takes as much room as the disk gives at a time, which is 4 KiB or more."""
    folder = Path(scene.data, "small")
    folder.mkdir(exist_ok=True)
    try:
        for number in range(2500):
            descriptor = raw.open_file(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, b"x")
            os.close(descriptor)
        time.sleep(NOTICED_S)
    finally:
        for file in folder.iterdir():
            file.unlink()
    return "2,500 files"


@attack("limit-threads")
def threads(scene: Scene) -> str:
    """Its limit is 16; these are small, so that its memory does not stop them."""
    threading.stack_size(64 * 1024)
    over = threading.Event()
    started = []
    try:
        for _ in range(100):
            started.append(threading.Thread(target=over.wait, args=(2 * NOTICED_S,), daemon=True))
            started[-1].start()
        time.sleep(NOTICED_S)
    finally:
        threading.stack_size(0)
        over.set()
    return f"{len(started)} threads"


@attack("limit-cpu")
def cpu(scene: Scene) -> str:
    """Its limit is a fifth of a core."""
    until, began = time.monotonic() + LONG_ENOUGH_S, time.process_time()
    while time.monotonic() < until:
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 20_000)
    used = time.process_time() - began
    if used < LONG_ENOUGH_S / 3:
        raise Refused("slowed")
    return f"{used:.1f} s of {LONG_ENOUGH_S:.0f}"


@attack("limit-event-rate")
def events(scene: Scene) -> str:
    """Its limit is 100 a second."""
    scene.ctx.subscribe("Lie", hash)
    began = time.monotonic()
    for number in range(300):
        scene.ctx.event_bus.publish(PluginEvent.custom("Lie", number), wait=True)
    return within_limit(began, "events")


@attack("limit-call-rate")
def calls(scene: Scene) -> str:
    """Its limit is 100 a second."""
    victim = scene.ctx.wait_service("victim", PATIENCE_S)
    began = time.monotonic()
    for _ in range(300):
        victim.add(1, 1)
    return within_limit(began, "calls")


def within_limit(began: float, what: str) -> str:
    """Say that 300 were let through: at 100 a second, and as many at once, that takes 2 s."""
    took = time.monotonic() - began
    if took > LONG_ENOUGH_S / 2:
        raise Refused("slowed")
    return f"300 {what} in {took:.1f} s"
