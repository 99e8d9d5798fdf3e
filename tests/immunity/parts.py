"""Plugins that wait where a test wants them to, and the processes of a run seen from outside."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from spiral_host import Host
from tests.hosts import Watch

MANIFEST = '[plugin]\nid = "{id}"\nversion = "1"\nentry = "{id}:Made"\n'

GATED = """
import os
import time
from plugin_worker import Plugin


def wait_at(gate):
    until = time.monotonic() + 30
    while gate.exists() and time.monotonic() < until:
        time.sleep(0.002)


class Service:
    def __init__(self, ctx):
        self.ctx = ctx

    def pid(self):
        return os.getpid()

    def wait(self):
        (self.ctx.data_dir / "waits").touch()
        wait_at(self.ctx.data_dir / "hold-call")
        return os.getpid()


class Made(Plugin):
    def on_load(self, ctx):
        with (ctx.data_dir / "lives").open("a") as lives:
            lives.write("x")
        if (ctx.data_dir / "hold-birth").exists():
            os._exit(7)
        if (ctx.data_dir / "hold-reason").exists():
            raise ValueError("no reason")
        wait_at(ctx.data_dir / "hold-load")
        ctx.register_service(ctx.plugin_id, Service(ctx))

    def on_unload(self, ctx):
        wait_at(ctx.data_dir / "hold-unload")
"""
"""Comes and goes as files in its folder let it, and counts its lives in another."""


def write_plugin(folder: Path, plugin_id: str, code: str, supervision: str = "") -> str:
    """Make a plugin whose class is called `Made`; give its path.

    Args:
        supervision: Lines of that table of its manifest.
    """
    place = folder / plugin_id
    place.mkdir()
    (place / f"{plugin_id}.py").write_text(code)
    manifest = f"{MANIFEST.format(id=plugin_id)}[supervision]\n{supervision}\n"
    (place / "plugin.toml").write_text(manifest)
    return str(place)


class Gated:
    """One such plugin, and the files that it looks at."""

    def __init__(
        self, host: Host, folder: Path, plugin_id: str = "gated", supervision: str = ""
    ) -> None:
        self.path = write_plugin(folder, plugin_id, GATED, supervision)
        self._data = data_of(host) / plugin_id
        self._data.mkdir(parents=True)

    def hold(self, hook: str) -> None:
        """Let `load`, `call` or `unload` wait, 30 s at most; at `birth` die, at `reason` raise."""
        (self._data / f"hold-{hook}").touch()

    def let_go(self, hook: str) -> None:
        """Let it go on."""
        (self._data / f"hold-{hook}").unlink()

    @property
    def is_called(self) -> bool:
        """Whether a call has begun to wait."""
        return (self._data / "waits").exists()

    @property
    def lives(self) -> int:
        """How many processes have begun to load it."""
        lives = self._data / "lives"
        return lives.stat().st_size if lives.exists() else 0


def data_of(host: Host) -> Path:
    """Give the folder that the data of a host's plugins lies in."""
    return Path(str(host.status()["data_dir"]))


def node_of(host: Host) -> int:
    """Give the pid of the host's node."""
    pid: int = host.status()["node_pid"]
    return pid


def children(pid: int) -> list[psutil.Process]:
    """Give a process's children, the dead ones that nobody has reaped among them."""
    return psutil.Process(pid).children()


def descriptors(pid: int) -> dict[str, str]:
    """Give a process's descriptors and what they lead to."""
    names = {}
    for name in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just closed that one
            names[name.name] = os.readlink(name)  # noqa: PTH115 - no path, but `socket:[...]`
    return names


@contextmanager
def stopped(pid: int) -> Iterator[Watch]:
    """Stop a process for a while."""
    watch = Watch(pid)
    watch.kill(signal.SIGSTOP)
    try:
        yield watch
    finally:
        with suppress(ProcessLookupError):
            watch.kill(signal.SIGCONT)
