"""What tests of the host's parts share: manifests, and the parts around the one under test."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from protocol.events import PluginEvent
from protocol.messages import (
    TO_WORKER,
    Answer,
    PluginSource,
    Refusal,
    Relay,
    ToNode,
    ToWorker,
)
from protocol.permissions import EVERYONE, Permissions
from protocol.plugin import PluginCapability, PluginMetadata
from spiral_host.crashes import Death
from spiral_host.grants import Grants
from spiral_host.manifest import Manifest
from spiral_host.permits import Permits
from spiral_host.questions import Asker
from spiral_host.real_paths import Grounds
from spiral_host.store import Statement

M = TypeVar("M")


def manifest(name: str, *needs: str, path: str = "") -> Manifest:
    """A plugin in version 1.0.0 that needs others in any version."""
    metadata = PluginMetadata(name, "1.0.0", dependencies=dict.fromkeys(needs, "*"))
    return Manifest(
        metadata=metadata.with_capability(PluginCapability.Custom(name)),
        source=PluginSource(root=f"/p/{name}", entry="module:Class"),
        path=path or f"/p/{name}",
    )


def permits(config_dir: Path = Path("/nowhere")) -> Permits:
    """What every plugin gets where the operator has said nothing, and what was granted there."""
    return Permits(Grants(config_dir), EVERYONE, Grounds(Path("/data")), lambda *_: None)


class FakeNode:
    """A node that is told things."""

    def __init__(self) -> None:
        self.told: list[ToNode] = []

    def tell_node(self, message: ToNode) -> None:
        """Keep what the node is told."""
        self.told.append(message)

    def all_of(self, kind: type[M]) -> list[M]:
        """Give what it was told of one kind."""
        return [message for message in self.told if isinstance(message, kind)]

    def relayed(self) -> list[ToWorker]:
        """Give what workers were told through it."""
        return [TO_WORKER.decode(message.body) for message in self.all_of(Relay)]


class FakeOutside:
    """The rest of a daemon: a store that is quick, and a bus that nobody reads."""

    def __init__(self) -> None:
        self.published: list[PluginEvent] = []
        self.written: list[Statement] = []
        self.deaths: list[Death] = []
        self.listeners: list[Callable[[], None]] = []

    def publish(self, event: PluginEvent) -> None:
        """Keep an event."""
        self.published.append(event)

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Keep a change; it is on disk at once."""
        self.written += statements
        if then is not None:
            then()

    def in_background(self, work: Callable[[], M], then: Callable[[M], None]) -> None:
        """Do it at once."""
        then(work())

    def died(self, death: Death) -> None:
        """Keep a death."""
        self.deaths.append(death)

    def changed(self) -> None:
        """Tell those who wait for a change."""
        for listener in self.listeners:
            listener()


class Client:
    """Somebody who asks, and what it was answered."""

    def __init__(
        self, incarnation: int = 1, name: str = "app", permissions: Permissions | None = None
    ) -> None:
        self.answers: list[Answer | Refusal] = []
        self.asker = Asker(incarnation, name, self.answers.append, permissions)

    @property
    def last(self) -> object:
        """The value of the last answer; a refusal as itself."""
        answer = self.answers[-1]
        return answer.value if isinstance(answer, Answer) else answer

    def refused(self) -> str:
        """Give the text of the refusal that came last."""
        (*_, answer) = self.answers
        assert isinstance(answer, Refusal)
        return f"{answer.kind}: {' '.join(answer.fields)}"
