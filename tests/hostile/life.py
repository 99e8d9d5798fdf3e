"""Attacks at the beginning and the end of a life: plugins that are hostile before anybody calls.

Each is a small plugin of its own, whose service, where it comes so far, says what it got.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from spiral_host import Host, LoadResult, SpiralHostError

Life: TypeAlias = Callable[["Nursery"], str]

LIVES: Final[dict[str, Life]] = {}

AT_ONCE_S: Final = 15.0
"""Far more than the plugins' own patience, far less than that of a test."""

MANIFEST: Final = """[plugin]
id = "{id}"
version = "1"
entry = "{id}:Made"
{more}
[supervision]
start_s = {start_s}
stop_s = 0.2
crashes = 1
backoff_max_s = 0.1
{tables}
"""
CODE: Final = """
import os
from plugin_worker import Plugin, PluginMetadata

{top}

class Service:
    def __init__(self, ctx):
        self.ctx = ctx

    def outcome(self):
        return OUTCOME

    def wait(self):
        import threading
        (self.ctx.data_dir / "waits").touch()
        threading.Event().wait(20)

class Made(Plugin):
    def metadata(self):
        {metadata}

    def on_load(self, ctx):
        {load}
        ctx.register_service(ctx.plugin_id, Service(ctx))

    def on_unload(self, ctx):
        {unload}
"""
TRYING: Final = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def outcome(result):
    return f"got {result}" if result != -1 else f"refused {errno.errorcode[ctypes.get_errno()]}"
"""


class Nursery:
    """Brings hostile plugins up in a house; each call of `born` is one more of them."""

    def __init__(self, host: Host, folder: Path, secret: Path) -> None:
        self.host = host
        self.folder = folder
        self.secret = secret
        self._born: list[str] = []

    def born(
        self,
        plugin_id: str,
        *,
        top: str = "OUTCOME = ''",
        metadata: str = "return None",
        load: str = "pass",
        unload: str = "pass",
        more: str = "",
        tables: str = "",
        start_s: float = 20.0,
    ) -> LoadResult:
        """Write a plugin down and load it; give what came of that."""
        place = self.folder / plugin_id
        place.mkdir(parents=True, exist_ok=True)
        code = CODE.format(top=top, metadata=metadata, load=load, unload=unload)
        (place / f"{plugin_id}.py").write_text(code)
        manifest = MANIFEST.format(id=plugin_id, more=more, tables=tables, start_s=start_s)
        (place / "plugin.toml").write_text(manifest)
        return self.load(place)

    def load(self, place: Path) -> LoadResult:
        """Load what lies there; it has to be decided in time."""
        began = time.monotonic()
        (result,) = self.host.load(place)
        assert time.monotonic() - began < AT_ONCE_S
        if result.id is not None:
            self._born.append(result.id)
        return result

    def clear(self) -> None:
        """Have all of them go, which takes no longer than they may take."""
        began = time.monotonic()
        there = {info.id for info in self.host.list_plugins()} - {"victim"}
        for plugin_id in reversed(dict.fromkeys(self._born)):
            if plugin_id in there:
                self.host.unload(plugin_id)
        self._born.clear()
        assert time.monotonic() - began < AT_ONCE_S


def life(name: str) -> Callable[[Life], Life]:
    """Make a function the life of this name."""

    def add(function: Life) -> Life:
        LIVES[name] = function
        return function

    return add


def fate(result: LoadResult) -> str:
    """Say what became of a plugin that was to be loaded."""
    return "got ready" if result.ok else f"refused {result.state}: {result.reason}"


@life("life-loop-at-import")
def loop_at_import(nursery: Nursery) -> str:
    return fate(nursery.born("looping", top="while True: pass", start_s=1.0))


@life("life-exit-at-import")
def exit_at_import(nursery: Nursery) -> str:
    return fate(nursery.born("leaving", top="os._exit(0)"))


@life("life-crash-for-ever")
def crash_for_ever(nursery: Nursery) -> str:
    return fate(nursery.born("crashing", load="os.abort()"))


@life("life-hang-in-on-load")
def hang_in_on_load(nursery: Nursery) -> str:
    forever = "__import__('threading').Event().wait()"
    return fate(nursery.born("hanging", load=forever, start_s=1.0))


@life("life-raise-in-on-load")
def raise_in_on_load(nursery: Nursery) -> str:
    return fate(nursery.born("raising", load="raise SystemExit(0)"))


@life("life-read-at-import")
def read_at_import(nursery: Nursery) -> str:
    path = str(nursery.secret).encode()
    top = f"import errno{TRYING}OUTCOME = outcome(libc.open({path!r}, 0))"
    assert nursery.born("reading", top=top).ok
    return str(nursery.host.get_service("reading").outcome())


@life("life-fork-at-import")
def fork_at_import(nursery: Nursery) -> str:
    top = f"import errno{TRYING}pid = libc.fork()\nif not pid: os._exit(0)\nOUTCOME = outcome(pid)"
    assert nursery.born("forking", top=top).ok
    return str(nursery.host.get_service("forking").outcome())


@life("life-shadow-modules")
def shadow(nursery: Nursery) -> str:
    """Modules with the names of ours lie beside it, and what Python runs by itself at its start."""
    place = nursery.folder / "shadowing"
    place.mkdir(parents=True)
    names = ("json", "msgpack", "socket", "protocol", "plugin_worker", "sitecustomize")
    for name in (*names, "usercustomize", "threading", "zmq", "numpy"):
        (place / f"{name}.py").write_text("import builtins\nbuiltins.SHADOWED = __name__\n")
    (place / "hostile.pth").write_text("import builtins; builtins.SHADOWED = 'pth'\n")
    top = "import json, msgpack, socket, threading, builtins\n"
    assert nursery.born("shadowing", top=f"{top}OUTCOME = getattr(builtins, 'SHADOWED', '')").ok
    ran = nursery.host.get_service("shadowing").outcome()
    return f"got {ran}" if ran else "nothing"


@life("life-hang-in-on-unload")
def hang_in_on_unload(nursery: Nursery) -> str:
    assert nursery.born("staying", unload="__import__('threading').Event().wait()").ok
    nursery.clear()
    return "ended"


@life("life-raise-in-on-unload")
def raise_in_on_unload(nursery: Nursery) -> str:
    assert nursery.born("sulking", unload="raise KeyboardInterrupt").ok
    nursery.clear()
    return "nothing"


@life("life-claim-anothers-name")
def claim_name(nursery: Nursery) -> str:
    """Its manifest names one, its class another."""
    return fate(nursery.born("claiming", metadata="return PluginMetadata('victim', '1')"))


@life("life-be-anothers-twin")
def twin(nursery: Nursery) -> str:
    result = nursery.born("victim")
    nursery._born.clear()
    return fate(result)


@life("life-metadata-of-no-kind")
def no_kind(nursery: Nursery) -> str:
    return fate(nursery.born("mistaken", metadata="return {'id': '../../x'}"))


SOLE: Final = """
from plugin_worker import Plugin, PluginMetadata

class Made(Plugin):
    def metadata(self):
        return {metadata}
"""


def sole(nursery: Nursery, name: str, metadata: str) -> str:
    """Have a plugin say who it is that has no manifest; give its fate."""
    nursery.folder.mkdir(exist_ok=True)
    file = nursery.folder / f"{name}.py"
    file.write_text(SOLE.format(metadata=metadata))
    return fate(nursery.load(file))


@life("life-name-that-climbs")
def climbing(nursery: Nursery) -> str:
    return sole(nursery, "climbing", "PluginMetadata('../../victim', '1')")


@life("life-metadata-of-10-mb")
def huge(nursery: Nursery) -> str:
    return sole(nursery, "huge", "PluginMetadata('huge', '1', description='x' * (10 << 20))")


@life("life-circle")
def circle(nursery: Nursery) -> str:
    tables = '[plugin.dependencies]\n{} = "*"'
    nursery.born("chicken", tables=tables.format("egg"))
    return fate(nursery.born("egg", tables=tables.format("chicken")))


@life("life-ask-for-less-confinement")
def less(nursery: Nursery) -> str:
    return fate(nursery.born("modest", more='sandbox = "off"'))


@life("life-ask-for-everything")
def everything(nursery: Nursery) -> str:
    tables = "[permissions]\nread = ['/']\nnetwork = [22]\nsubprocess = true"
    return fate(nursery.born("greedy", tables=tables))


@life("life-ask-for-more-after-consent")
def more(nursery: Nursery) -> str:
    """It was granted a port; the next version wants another one."""
    nursery.born("growing", tables="[permissions]\nnetwork = [4444]")
    nursery.host.grant("growing")
    nursery.clear()
    return fate(nursery.born("growing", tables="[permissions]\nnetwork = [22, 4444]"))


@life("life-leave-in-a-call")
def leave_in_a_call(nursery: Nursery) -> str:
    """Who calls has one answer, and has it soon."""
    assert nursery.born("parting").ok
    waits = Path(str(nursery.host.status()["data_dir"])) / "parting" / "waits"
    waits.unlink(missing_ok=True)
    outcomes: list[str] = []

    def call() -> None:
        try:
            outcomes.append(f"got {nursery.host.get_service('parting').wait()}")
        except SpiralHostError as error:
            outcomes.append(f"refused {type(error).__name__}")

    caller = threading.Thread(target=call)
    caller.start()
    until = time.monotonic() + AT_ONCE_S
    while not waits.exists() and time.monotonic() < until:
        time.sleep(0.005)
    nursery.clear()
    caller.join(AT_ONCE_S)
    (outcome,) = outcomes
    return outcome
