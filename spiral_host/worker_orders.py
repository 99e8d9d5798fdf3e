"""Say to the node what is to become of a worker, and through it to the worker. Decides nothing."""

from collections.abc import Callable
from pathlib import Path

from protocol import failpoints
from protocol.messages import (
    TO_WORKER,
    DescribePlugin,
    EndWorker,
    LoadPlugin,
    PluginSource,
    Relay,
    SpawnWorker,
    StopPlugin,
    ToNode,
    ToWorker,
)
from spiral_host.manifest import Manifest


class WorkerOrders:
    """The orders of one daemon; lives as long as its supervisor.

    Args:
        tell_node: Tells the node.
        data: Holds one folder for each plugin's data.
    """

    def __init__(self, tell_node: Callable[[ToNode], None], data: Path) -> None:
        self._tell_node = tell_node
        self._data = data

    def spawn(self, incarnation: int, manifest: Manifest) -> None:
        """Have a worker started for a plugin."""
        self._tell_node(
            SpawnWorker(
                incarnation=incarnation,
                plugin_id=manifest.id,
                source=manifest.source,
                data_dir=str(self._data / manifest.id),
                concurrency=manifest.concurrency,
            )
        )
        if failpoints.ARMED:
            failpoints.hit("spawn.ordered")

    def spawn_to_ask(self, incarnation: int, source: PluginSource) -> None:
        """Have one started that is only asked for its plugin's metadata."""
        name = f"describe.{incarnation & 0xFFFF_FFFF}"
        data_dir = str(self._data / name)
        self._tell_node(
            SpawnWorker(incarnation=incarnation, plugin_id=name, source=source, data_dir=data_dir)
        )

    def load(self, incarnation: int, manifest: Manifest) -> None:
        """Have a confined worker load its plugin; done once however often it is said."""
        self.tell(
            incarnation,
            LoadPlugin(
                source=manifest.source,
                metadata=manifest.metadata.to_wire(),
                data_dir=str(self._data / manifest.id),
                events=manifest.events,
                concurrency=manifest.concurrency,
                reentrant=manifest.reentrant,
            ),
        )
        if failpoints.ARMED:
            failpoints.hit("load.ordered")

    def stop(self, incarnation: int) -> None:
        """Ask a worker to finish what it has, run `on_unload` and leave."""
        self.tell(incarnation, StopPlugin())
        if failpoints.ARMED:
            failpoints.hit("stop.ordered")

    def terminate(self, incarnation: int, rule: str) -> None:
        """Send it SIGTERM."""
        self._tell_node(EndWorker(incarnation, rule, force=False))

    def kill(self, incarnation: int, rule: str, *, stacks: bool = False) -> None:
        """Send it SIGKILL, perhaps once it has written down its stacks."""
        self._tell_node(EndWorker(incarnation, rule, force=True, stacks=stacks))

    def tell(self, incarnation: int, message: ToWorker | DescribePlugin) -> None:
        """Send a lifecycle message, which the node passes on unread."""
        self._tell_node(Relay(incarnation, TO_WORKER.encode(message)))
