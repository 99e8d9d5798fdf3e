"""A host and a door that the commands can be tried on: no process, no socket."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from click.testing import CliRunner, Result

from protocol.errors import NoDaemon, UsageError
from protocol.events import PluginEvent
from protocol.names import Topic
from protocol.subscriptions import Subscription
from spiral_host import Host, Listener, LoadResult, PluginInfo, PluginPermissions, ServiceInfo
from spiral_host.cli import app
from spiral_host.cli.door import DaemonProcess, Door
from spiral_host.config import DaemonConfig

PID = 4242

READY = PluginInfo(
    id="alpha",
    version="1.0.0",
    name="Alpha",
    description="",
    author="",
    state="ready",
    reason="",
    traceback="",
    pid=11,
    incarnation=1,
    restarts=0,
    capabilities=("Operators",),
    dependencies={},
    path="/plugins/alpha",
    services=("math",),
    calls=3,
    errors=1,
    lag=0,
    missed=0,
    memory=1_900_000,
    cpu=0.5,
    threads=1,
    descriptors=9,
    uptime_s=61.0,
    sandbox=("landlock", "seccomp"),
)

FAILED = replace(
    READY,
    id="broken",
    state="failed",
    pid=None,
    reason="on_load raised ValueError: no",
    traceback="Traceback (most recent call last):\nValueError: no\n",
)


def loaded(info: PluginInfo) -> LoadResult:
    """Say how loading this plugin went."""
    return LoadResult(
        path=info.path, id=info.id, state=info.state, reason=info.reason, traceback=info.traceback
    )


class Math:
    """A service; what its methods do is theirs."""

    def __init__(self, **methods: Callable[..., object]) -> None:
        self.__dict__.update(methods)


@dataclass
class FakeHost:
    """Answers from lists and writes down what it was asked to do."""

    infos: list[PluginInfo] = field(default_factory=list)
    results: list[LoadResult] = field(default_factory=list)
    methods: dict[str, Callable[..., object]] = field(default_factory=dict)
    arriving: list[PluginEvent] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    allowed: list[PluginPermissions] = field(default_factory=list)
    asked: list[object] = field(default_factory=list)
    pid: int = PID
    closed: bool = False

    @property
    def is_closed(self) -> bool:
        return self.closed

    def load(self, paths: list[str]) -> list[LoadResult]:
        self.asked.append(("load", *paths))
        return self.results

    def initialize_all(self) -> list[PluginInfo]:
        self.asked.append("initialize_all")
        return self.infos

    def list_plugins(self) -> list[PluginInfo]:
        return self.infos

    def health(self) -> list[PluginInfo]:
        return self.infos

    def get(self, plugin_id: str) -> PluginInfo:
        for info in self.infos:
            if info.id == plugin_id:
                return info
        unknown = f"no plugin {plugin_id}; see: spiral-host plugins"
        raise UsageError(unknown)

    def unload(self, plugin_id: str) -> None:
        self.asked.append(("unload", self.get(plugin_id).id))

    def restart(self, plugin_id: str) -> None:
        self.asked.append(("restart", self.get(plugin_id).id))

    def permissions(self, plugin_id: str) -> PluginPermissions:
        for allowed in self.allowed:
            if allowed.id == plugin_id:
                return allowed
        raise UsageError(f"no plugin {plugin_id} is loaded")

    def list_permissions(self) -> list[PluginPermissions]:
        return self.allowed

    def grant(
        self, plugin_id: str, part: dict[str, object] | None, *, digest: str
    ) -> PluginPermissions:
        self.asked.append(("grant", plugin_id, part, digest))
        return self.permissions(plugin_id)

    def revoke(self, plugin_id: str) -> PluginPermissions | None:
        self.asked.append(("revoke", plugin_id))
        if plugin_id == "gone":
            return None
        return self.permissions(plugin_id)

    def logs(self, plugin_id: str, lines: int) -> list[str]:
        self.get(plugin_id)
        return self.lines[-lines:]

    def status(self) -> dict[str, object]:
        return {"pid": self.pid, "uptime_s": 61.0, "sandbox": {"profile": "standard"}}

    def list_services(self) -> list[ServiceInfo]:
        if not self.methods:
            return []
        return [ServiceInfo(name="math", plugin_id="alpha", methods=tuple(self.methods))]

    def get_service(self, name: str) -> object:
        assert name == "math"
        return Math(**self.methods)

    def publish(self, event: PluginEvent) -> None:
        self.asked.append(event)

    def subscribe(self, topic: str, callback: Callable[[PluginEvent], object]) -> Subscription:
        self.asked.append(("subscribe", topic))
        for event in self.arriving:
            callback(event)
        return Subscription(Topic(topic), 1)

    def unsubscribe(self, subscription: Subscription) -> bool:
        self.asked.append(("unsubscribe", subscription.topic))
        return True

    def listen(self, *event_types: str, maxlen: int) -> Listener:
        listener = Listener(self, maxlen)
        listener.hear(event_types)
        return listener

    def shutdown(self) -> None:
        self.asked.append("shutdown")

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeProcess:
    """A daemon just started: it answers, or it has ended with a status."""

    ended: int | None = None
    pid: int = PID
    terminated: bool = False
    said: list[str] = field(default_factory=list)

    def wait_ended(self, timeout: float) -> int | None:
        return self.ended

    def words(self) -> list[str]:
        return self.said

    def terminate(self) -> None:
        self.terminated = True


@dataclass
class Town:
    """Everything behind the door: at most one daemon, and those that start one.

    Attributes:
        host: What answers, when something does.
        runs: Whether a daemon answers before anything is started.
        process: What starting gives.
        stops: Whether a daemon that is asked to stop does so in time.
    """

    host: FakeHost = field(default_factory=FakeHost)
    runs: bool = True
    process: FakeProcess = field(default_factory=FakeProcess)
    stops: bool = True
    configs: list[DaemonConfig] = field(default_factory=list)
    run_dirs: list[Path] = field(default_factory=list)

    def command(self, *words: str) -> Result:
        """Type one command line."""
        return CliRunner(env={"SPIRAL_HOST_RUN_DIR": "/run/town"}).invoke(
            app, list(words), obj=self._door()
        )

    def _door(self) -> Door:
        return Door(
            connect=self._connect, start=self._start, run=self._run, watch=lambda _: self._watch
        )

    def _connect(self, run_dir: Path, timeout: float) -> Host:
        self.run_dirs.append(run_dir)
        if not self.runs:
            raise NoDaemon(str(run_dir))
        return cast("Host", self.host)

    def _start(self, config: DaemonConfig) -> DaemonProcess:
        self.configs.append(config)
        self.runs = self.process.ended is None
        return self.process

    def _run(self, config: DaemonConfig) -> int:
        self.configs.append(config)
        return 0

    def _watch(self, timeout: float) -> bool:
        return self.stops


def error_lines(result: Result) -> list[str]:
    """Give the lines on stderr."""
    return result.stderr.splitlines()


def one_line(result: Result, status: int, *words: str) -> str:
    """Check that a command failed as it should, in one line that says all these words."""
    (line,) = error_lines(result)
    assert result.exit_code == status, line
    assert line.startswith("spiral-host: ")
    assert not [word for word in words if word not in line], line
    return line
