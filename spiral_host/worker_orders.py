"""Say to the node what is to become of a worker, and through it to the worker. Decides nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from protocol import failpoints
from protocol.limits import DEFAULTS, capped
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
from protocol.permissions import Permissions
from spiral_host.manifest import Manifest
from spiral_host.operator import Operator

ASKED: Final = ".describe"
"""What all workers are called that are only asked for metadata; no plugin can be."""


class WorkerOrders:
    """The orders of one daemon; lives as long as its supervisor.

    Args:
        tell_node: Tells the node.
        data: Holds one folder for each plugin's data.
        operator: Says the most that any plugin gets.
        sandbox: The operator's profile.
    """

    def __init__(
        self, tell_node: Callable[[ToNode], None], data: Path, operator: Operator, sandbox: str
    ) -> None:
        self._tell_node = tell_node
        self._data = data
        self._operator = operator
        self._sandbox = sandbox

    def spawn(self, incarnation: int, manifest: Manifest, in_force: Permissions) -> None:
        """Have a worker started for a plugin, with the permissions that are in force."""
        self._tell_node(
            SpawnWorker(
                incarnation=incarnation,
                plugin_id=manifest.id,
                source=manifest.source,
                data_dir=str(self._data / manifest.id),
                concurrency=manifest.concurrency,
                permissions=in_force.to_wire(),
                limits=capped(manifest.limits, self._operator.caps).to_wire(),
                profile=self._profile(manifest),
            )
        )
        if failpoints.ARMED:
            failpoints.hit("spawn.ordered")

    def spawn_to_ask(self, incarnation: int, source: PluginSource) -> None:
        """Have one started that is only asked for its plugin's metadata."""
        self._tell_node(
            SpawnWorker(
                incarnation=incarnation,
                plugin_id=ASKED,
                source=source,
                data_dir="",
                limits=capped(DEFAULTS, self._operator.caps).to_wire(),
                profile=self._sandbox,
            )
        )

    def load(self, incarnation: int, manifest: Manifest, in_force: Permissions) -> None:
        """Have a confined worker load its plugin; done once however often it is said."""
        events = in_force.subscribe if manifest.events is None else manifest.events
        self.tell(
            incarnation,
            LoadPlugin(
                source=manifest.source,
                metadata=manifest.metadata.to_wire(),
                data_dir=str(self._data / manifest.id),
                events=events,
                concurrency=manifest.concurrency,
                reentrant=manifest.reentrant,
            ),
        )
        if failpoints.ARMED:
            failpoints.hit("load.ordered")

    def _profile(self, manifest: Manifest) -> str:
        """Give the stricter of what the operator chose and what the manifest asks for."""
        asked = {self._sandbox, manifest.sandbox}
        return "off" if "off" in asked else "strict" if "strict" in asked else "standard"

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
