"""A daemon's parts around a fake node, store and bus: no process, no socket, no clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from protocol.events import PluginEvent
from protocol.messages import (
    TO_WORKER,
    Answer,
    Broken,
    Cause,
    Exited,
    PluginSource,
    Refusal,
    Relay,
    SpawnWorker,
    ToNode,
    ToWorker,
    WorkerReport,
)
from protocol.permissions import Permissions
from protocol.plugin import PluginCapability, PluginMetadata
from spiral_host.crashes import Death
from spiral_host.lifecycle import State
from spiral_host.manifest import Manifest
from spiral_host.operator import Operator
from spiral_host.questions import Asker, Questions
from spiral_host.registry import Plugin, Registry
from spiral_host.store import Statement
from spiral_host.supervision import Supervision
from spiral_host.supervisor import Supervisor
from spiral_host.worker_orders import WorkerOrders
from tests.clock import Clock, HandReactor
from tests.unit.spiral_host.parts import permits

T = TypeVar("T")

LAYERS = ("landlock", "seccomp")
SEGV = Cause(kind="signal", code=11)
EPOCH = 3


def manifest(
    plugin_id: str,
    needs: Mapping[str, str] | None = None,
    *,
    version: str = "1.0.0",
    capabilities: tuple[str, ...] = (),
    path: str = "",
    supervision: Supervision = Supervision(),
    permissions: Permissions | None = None,
) -> Manifest:
    """Declare a plugin."""
    return Manifest(
        metadata=PluginMetadata(
            plugin_id,
            version,
            dependencies=dict(needs or {}),
            capabilities=tuple(map(PluginCapability.parse, capabilities)),
        ),
        source=PluginSource(root=f"/plugins/{plugin_id}", entry=f"{plugin_id}:Plugin"),
        path=path or f"/plugins/{plugin_id}",
        supervision=supervision,
        permissions=permissions,
    )


@dataclass
class FakeNode:
    """Writes down what it is told; `deaf` while there is none."""

    told: list[ToNode] = field(default_factory=list)
    deaf: bool = False

    def tell_node(self, message: ToNode) -> None:
        if not self.deaf:
            self.told.append(message)

    def take(self, kind: type[T]) -> list[T]:
        """Give what it was told of one kind since the last look, and forget it."""
        found: list[T] = [message for message in self.told if isinstance(message, kind)]
        self.told = [message for message in self.told if not isinstance(message, kind)]
        return found

    def spawned(self) -> list[str]:
        """Name the plugins whose workers it was told to start since the last look."""
        return [spawn.plugin_id for spawn in self.take(SpawnWorker)]

    def relayed(self) -> list[tuple[int, ToWorker]]:
        """Give what it was told to pass on to workers since the last look."""
        return [(relay.incarnation, TO_WORKER.decode(relay.body)) for relay in self.take(Relay)]


@dataclass
class FakeOutside:
    """The rest of the daemon: events and changes of the store as lists.

    Attributes:
        is_slow: Whether changes reach the disk only when the test says so.
        is_away: Whether what is done in the background is only done when the test does it.
    """

    events: list[PluginEvent] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    is_slow: bool = False
    is_away: bool = False
    begun: list[Callable[[], None]] = field(default_factory=list)
    audited: list[dict[str, object]] = field(default_factory=list)
    look_again: list[Callable[[], None]] = field(default_factory=list)
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def publish(self, event: PluginEvent) -> None:
        self.events.append(event)

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        self.statements += statements
        if then is not None:
            self._waiting.append(then)
        if not self.is_slow:
            self.write_all()

    def write_all(self) -> None:
        """Let everything that was written reach the disk."""
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    def in_background(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Nothing waits here, unless the test takes its time."""
        if self.is_away:
            self.begun.append(lambda: then(work()))
        else:
            then(work())

    def died(self, death: Death) -> None:
        self.deaths.append(death)

    def audit(self, kind: str, plugin_id: str, **fields: object) -> None:
        self.audited.append({"kind": kind, "plugin_id": plugin_id, **fields})

    def changed(self) -> None:
        for look in self.look_again:
            look()


class House:
    """A registry, a supervisor and questions, as a daemon ties them together."""

    def __init__(
        self, clock: Clock, epoch: int = EPOCH, config_dir: Path = Path("/nowhere")
    ) -> None:
        self.clock = clock
        self.reactor = HandReactor(clock)
        self.registry = Registry()
        self.node = FakeNode()
        self.outside = FakeOutside()
        workers = WorkerOrders(self.node.tell_node, Path("/data"), Operator(), "standard")
        self.permits = permits(config_dir)
        self.supervisor = Supervisor(
            self.registry, self.node, self.outside, self.reactor, workers, self.permits
        )
        self.supervisor.epoch = epoch
        self.config: dict[str, str] = {}
        self.denied: list[tuple[str, str, str]] = []
        self.questions = Questions(
            self.registry,
            self.reactor,
            self.config,
            self.outside.write,
            self.node.tell_node,
            lambda *denied: self.denied.append(denied),
        )
        self.outside.look_again.append(self.questions.look_again)

    def plugin(self, plugin_id: str) -> Plugin:
        return self.registry.plugins[plugin_id]

    def states(self) -> dict[str, State]:
        return {plugin.id: plugin.state for plugin in self.registry.plugins.values()}

    def incarnation(self, plugin_id: str) -> int:
        return self.plugin(plugin_id).incarnation

    def add(self, *manifests: Manifest) -> None:
        self.supervisor.add(manifests)

    def add_ready(self, *manifests: Manifest) -> None:
        """Want plugins and have each of them load, in this order."""
        self.add(*manifests)
        for one in manifests:
            self.load(one.id)

    def confine(self, plugin_id: str) -> None:
        """The worker has started and is confined."""
        incarnation = self.incarnation(plugin_id)
        self.supervisor.spawned(incarnation, 4000 + (incarnation & 0xFFFF))
        self.supervisor.confined(incarnation, LAYERS)

    def load(self, plugin_id: str) -> None:
        """The worker has started, is confined, and its plugin has loaded."""
        self.confine(plugin_id)
        self.supervisor.loaded(self.incarnation(plugin_id))

    def end(self, plugin_id: str, cause: Cause = SEGV) -> None:
        """The worker is gone."""
        incarnation = self.incarnation(plugin_id)
        self.supervisor.exited(Exited(incarnation=incarnation, plugin_id=plugin_id, cause=cause))

    def break_(self, plugin_id: str) -> None:
        """The plugin's own code has raised while it loaded, and its worker is gone."""
        broken = Broken(stage="on_load", error="ValueError: no", traceback="Traceback ...")
        self.supervisor.broken(self.incarnation(plugin_id), broken)
        self.end(plugin_id, Cause(kind="exit", code=1))

    def report(self, plugin_id: str, incarnation: int, *, confined: bool = True) -> WorkerReport:
        """Report a living worker, as a node does that meets this daemon."""
        return WorkerReport(
            incarnation=incarnation,
            plugin_id=plugin_id,
            pid=77,
            start_time=1,
            confined=confined,
            layers=LAYERS if confined else (),
        )


@dataclass
class Desk:
    """Someone who asks and gets answers."""

    incarnation: int = 9
    name: str = "app:test"
    replies: list[Answer | Refusal] = field(default_factory=list)
    permissions: Permissions | None = None

    @property
    def asker(self) -> Asker:
        return Asker(self.incarnation, self.name, self.replies.append, self.permissions)

    def take(self) -> Answer | Refusal:
        """Give the one reply since the last look."""
        (reply,) = self.replies
        self.replies.clear()
        return reply

    def value(self) -> object:
        """Give the value of the one answer since the last look."""
        reply = self.take()
        assert isinstance(reply, Answer), reply
        return reply.value

    def refusal(self) -> str:
        """Give the one refusal since the last look, as one text."""
        reply = self.take()
        assert isinstance(reply, Refusal), reply
        return " ".join((reply.kind, *reply.fields))
