"""A real host under one profile, with one attacking plugin for each group, and a victim."""

import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import psutil
import pyseccomp

from plugin_worker.sandbox.policy import ALLOWED, ARGUMENT_RULES, PRETENDED, REFUSED
from protocol.errors import RemoteProtocolError
from spiral_host import DeadlineExceeded, Host, PluginEvent, RemoteError, WorkerLost
from spiral_host.rundir import LOGS
from tests.hostile.life import LIVES, Nursery
from tests.hostile.scene import SECRET, Scene, new_scene
from tests.hostile.table import Case
from tests.hosts import Run, all_ready, eventually, new_run

ATTACKS: Final = Path(__file__).parent / "attacks"
SHARED: Final = ("raw.py", "gauntlet.py")
MANIFEST: Final = """[plugin]
id = "{group}"
version = "1"
entry = "{group}:{kind}"
[supervision]
stop_s = 0.2
crashes = 1000
backoff_max_s = 0.1
{asks}
"""
ASKS: Final = {
    "permissions": "[permissions]",
    "limits": """[limits]
memory = "1 GiB"
cpu = 0.2
threads = 16
files = 64
file_size = "1 MiB"
disk = "8 MiB"
event_rate = 100
call_rate = 100""",
    "grants": "[permissions]\nnetwork = [{tcp}]\nread = ['{granted}']",
}
"""What else stands in the manifests of some groups; the others get what everybody gets."""
LIFECYCLE: Final = "lifecycle"
"""The group whose attacks are whole plugins, each of its own."""

PATIENCE_S: Final = 80.0
HANG_S: Final = 1.0
"""How long an attack that is expected to hang is waited for."""

AT_ONCE_S: Final = 20.0
"""How long the victim may take for a call that takes 100 us, on a machine that is busy."""

GROWTH: Final = 32 << 20
"""Bytes by which daemon and node may grow while everybody attacks."""

SPOILS: Final = frozenset({"ipc-answer-twice"})
"""Attacks after which the attacker itself cannot be called as before: its words are under way. So
are those that end with a deadline: what they would call by may be broken."""


class House:
    """The host and what is in it; lives as long as one profile is tried."""

    def __init__(self, run: Run, host: Host, scene: Scene, folder: Path) -> None:
        self.host = host
        self._run = run
        self._scene = scene
        self._folder = folder
        self._load("victim", "Victim")
        secret = self._data_of("victim") / "secret"
        secret.write_text(SECRET)
        host.set_config("secret", SECRET)
        self._heard: list[PluginEvent] = []
        host.subscribe("Forbidden", self._heard.append)
        self._before = self._others()
        self._sizes = self._measure()

    def attack(self, case: Case, profile: str) -> str:
        """Have an attack tried; give its outcome, which is `got` whenever it did harm."""
        self._need(case.group)
        self._set_up()
        self._empty(case.group)
        if case.group == LIFECYCLE:
            outcome = self._live(case)
            harm = self._harm() if profile != "off" else []
            return f"got away with harm: {'; '.join(harm)}" if harm else outcome
        hangs = case.expected[profile].startswith("ended")
        outcome = self._try(case, HANG_S if hangs else PATIENCE_S)
        harm = self._harm() if profile != "off" else []
        return f"got away with harm: {'; '.join(harm)}" if harm else outcome

    def names(self, group: str) -> list[str]:
        """Name the attacks of a group."""
        if group == LIFECYCLE:
            return list(LIVES)
        self._need(group)
        return list(self.host.get_service(group).names())

    def _need(self, group: str) -> None:
        if group != LIFECYCLE and group not in {info.id for info in self.host.list_plugins()}:
            self._load(group, "Gauntlet")

    def grown(self) -> dict[str, int]:
        """Say how many bytes daemon and node have more than at the beginning."""
        return {name: size - self._sizes[name] for name, size in self._measure().items()}

    def _try(self, case: Case, timeout: float) -> str:
        stub = self.host.wait_service(case.group, PATIENCE_S)
        life = self.host.get(case.group).incarnation
        outcome = "ended"
        try:
            outcome = str(stub.attack(case.id, numbers(), self._told(case.group), timeout=timeout))
            is_spoilt = case.id in SPOILS or "DeadlineExceeded" in outcome
            if not is_spoilt:
                return outcome
        except RemoteError as error:
            return f"refused {error.type_name}"
        except WorkerLost as error:
            outcome = f"died {self._cause(case.group, life, error)}"
        except RemoteProtocolError as error:
            outcome = f"refused RemoteProtocolError: {error}"
        except DeadlineExceeded:
            pass
        assert self.host.restart(case.group).ok
        return outcome

    def _cause(self, group: str, incarnation: int, error: WorkerLost) -> str:
        """Say how a worker ended, by its report where a busy node told its caller nothing."""
        if error.cause != "unknown cause":
            return error.cause
        return str(eventually(lambda: self._reported(group, incarnation)))

    def _reported(self, group: str, incarnation: int) -> str:
        report = self.host.report(group)
        return report.cause if report is not None and report.incarnation == incarnation else ""

    def _live(self, case: Case) -> str:
        nursery = Nursery(self.host, self._folder.parent / "nursery", self._scene.key)
        try:
            return LIVES[case.id](nursery)
        finally:
            nursery.clear()
            shutil.rmtree(nursery.folder, ignore_errors=True)

    def _told(self, group: str) -> Mapping[str, object]:
        status = self.host.status()
        node = psutil.Process(status["node_pid"])
        # The eldest: numbers begin anew some day, and the least might be one that is to end.
        zygote = min(node.children(), key=lambda it: (it.create_time(), it.pid), default=node).pid
        victim = self.host.get("victim").pid
        return {
            **self._scene.told(),
            "hosts": [status["pid"], node.pid, zygote, psutil.Process().pid, victim],
            "run_dir": status["run_dir"],
            "victim_data": str(self._data_of("victim")),
            "victim_log": str(Path(status["run_dir"]) / LOGS / "victim.log"),
            "bait": str(self._folder / group / "bait"),
            "site": sysconfig.get_path("purelib"),
            "cgroup": cgroup(),
        }

    def _set_up(self) -> None:
        self._scene.set_up()
        self.host.set_config("secret", SECRET)
        assert self._scene.bystander.poll() is None
        secret = self._data_of("victim") / "secret"
        if not secret.exists() or secret.read_text() != SECRET:
            secret.write_text(SECRET)
        for group in self._folder.iterdir():
            for name in {path.name for path in group.iterdir()} - self._belongs(group.name):
                (group / name).unlink()
            bait = group / "bait"
            if not bait.exists() or bait.read_text() != SECRET:
                bait.write_text(SECRET)
            bait.chmod(0o600)

    def _empty(self, group: str) -> None:
        """Remove what an attacker that was ended had no time to: its next life would end of it."""
        data = self._data_of(group)
        for path in data.iterdir() if data.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _harm(self) -> list[str]:
        """Say what is no longer as it was: decoys, host, the victim and its work."""
        found = [*self._scene.harm(), *(f"{event.source} was heard" for event in self._heard)]
        self._heard.clear()
        if self.host.get_config("secret") != SECRET:
            found.append("a setting is another")
        if self._others() != self._before:
            found.append(f"somebody else died: {self._before} -> {self._others()}")
        elif self.host.get_service("victim").add(1, 1, timeout=AT_ONCE_S) != 2:
            found.append("the victim gives wrong answers")
        if [path.name for path in self._data_of("victim").iterdir()] != ["secret"]:
            found.append("something is in the victim's folder")
        elif (self._data_of("victim") / "secret").read_text() != SECRET:
            found.append("the victim's secret is another")
        for group in self._folder.iterdir():
            names = {path.name for path in group.iterdir()}
            if names != self._belongs(group.name) or (group / "bait").read_text() != SECRET:
                found.append(f"the folder of {group.name} is not as it was: {names}")
        return found

    @staticmethod
    def _belongs(group: str) -> set[str]:
        """Name the files of one plugin's folder."""
        return {*SHARED, "bait", "plugin.toml", f"{group}.py"}

    def _others(self) -> dict[str, object]:
        status = self.host.status()
        victim = self.host.get("victim")
        return {"daemon": status["pid"], "node": status["node_pid"], "victim": victim.pid}

    def _measure(self) -> dict[str, int]:
        status = self.host.status()
        pids = {"daemon": status["pid"], "node": status["node_pid"]}
        return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}

    def _data_of(self, plugin_id: str) -> Path:
        return Path(str(self.host.status()["data_dir"])) / plugin_id

    def _load(self, group: str, kind: str) -> None:
        place = self._folder / group
        place.mkdir(parents=True)
        for file in (f"{group}.py", *SHARED):
            shutil.copy(ATTACKS / file, place)
        asks = ASKS.get(group, "").format(tcp=self._scene.tcp, granted=self._scene.granted)
        (place / "plugin.toml").write_text(MANIFEST.format(group=group, kind=kind, asks=asks))
        (place / "bait").write_text(SECRET)
        if group == "grants":
            self.host.load(place)
            self.host.grant(group)
            eventually(lambda: self.host.get(group).state == "ready")
        else:
            assert all_ready(self.host.load(place))


@contextmanager
def new_house(profile: str, folder: Path) -> Iterator[House]:
    """Start a host under a profile, and end it."""
    with new_scene(folder) as scene, new_run() as run:
        yield House(run, run.embed(sandbox=profile, best_effort=False), scene, folder / "plugins")


@cache
def numbers() -> dict[str, int]:
    """Give this machine's numbers of every system call that the policy or an attack names."""
    rules = (rule.name for rule in ARGUMENT_RULES)
    known = {*ALLOWED, *REFUSED, *PRETENDED, *rules, *_UNNAMED}
    found = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in known}
    return {name: number for name, number in found.items() if number >= 0}


_UNNAMED: Final = frozenset({"clone3", "openat2", "mlockall", "munlockall"})
"""What the policy does not name: it is refused like a call that there is not."""


def cgroup() -> str:
    """Give the list of processes of the group that all others are in, or nothing."""
    roots = (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/"))
    return next(
        (str(root / "cgroup.procs") for root in roots if (root / "cgroup.procs").is_file()), ""
    )
