"""Prepare one worker: its folders, its descriptors, and what the zygote is told of it."""

import os
import socket
import sysconfig
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgpack

from plugin_worker.confine import scrubbed_environment
from plugin_worker.node.folder import hold
from plugin_worker.node.logs import Log
from plugin_worker.node.worker import WorkerProcess
from plugin_worker.sandbox.bwrap import in_namespaces
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.permitted import identify, permit, this_machine
from plugin_worker.sandbox.policy import rlimits
from plugin_worker.zygote import MAX_PACKET
from protocol.flight import make_page
from protocol.limits import Limits, parse_limits
from protocol.messages import PluginSource, SpawnWorker
from protocol.permissions import parse_permissions
from protocol.process import check_room, descriptors
from protocol.umbilical import Umbilical


class Spawner:
    """What every worker of this machine gets; lives as long as the node.

    Args:
        has_groups: Whether each gets a group of its own, by which all its processes end.
    """

    def __init__(self, run_dir: Path, *, has_groups: bool) -> None:
        self._has_groups = has_groups
        self._run_dir = run_dir
        self._here = hold(run_dir)
        self._site = _site_packages()

    def prepare(self, order: SpawnWorker) -> tuple[WorkerProcess, socket.socket]:
        """Make a worker's folders and descriptors; give it, and its own end of the umbilical.

        Raises:
            OSError: The disk or the descriptors are used up; nothing is left behind.
            UsageError: The order names a limit that nobody knows.
        """
        check_room()
        with ExitStack() as undone:
            worker, theirs = self._prepare(order, undone)
            undone.pop_all()
        return worker, theirs

    def _prepare(
        self, order: SpawnWorker, undone: ExitStack
    ) -> tuple[WorkerProcess, socket.socket]:
        """Do it; whatever is left in `undone` is to be done when it fails."""
        limits = _limits(order)
        tmp = self._here / "tmp" / str(order.incarnation)
        tmp.mkdir(mode=0o700, parents=True)
        undone.callback(tmp.rmdir)
        if order.data_dir:
            Path(order.data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undone.enter_context(ours)
        undone.enter_context(theirs)
        flight_fd = make_page(f"flight.{order.plugin_id}")
        undone.callback(os.close, flight_fd)
        worker = WorkerProcess(
            incarnation=order.incarnation,
            plugin_id=order.plugin_id,
            umbilical=Umbilical(ours, takes_descriptors=False),
            log=Log(self._here / "logs" / f"{order.plugin_id}.log", limits.log_rate),
            flight_fd=flight_fd,
            tmp=tmp,
            root=order.source.root,
            concurrency=order.concurrency,
            permissions=parse_permissions(order.permissions),
            limits=limits,
            data_dir=order.data_dir or str(tmp),
            may_fork=may_fork(order),
        )
        return worker, theirs

    def confinement(self, order: SpawnWorker, layers: tuple[str, ...]) -> Confinement:
        """Say what a worker may touch, its plugin's permissions included.

        Raises:
            ConfinementError: One of them cannot be given on this machine.
        """
        limits = _limits(order)
        own = Confinement(
            read=(*_own_code(order.source), *self._site),
            write=(order.data_dir,) if order.data_dir else (),
            tmp=str(self._run_dir / "tmp" / str(order.incarnation)),
            node_pid=os.getpid(),
            layers=layers,
            limits=rlimits(limits),
        )
        permissions = parse_permissions(order.permissions)
        machine = this_machine(permissions, has_cgroup=self._has_groups)
        permitted = identify(permit(own, permissions, machine))
        if "namespaces" not in layers:
            return permitted
        return in_namespaces(permitted, limits.processes + limits.threads)

    def environment(self, order: SpawnWorker) -> dict[str, str]:
        """Give a worker's whole environment."""
        tmp = str(self._run_dir / "tmp" / str(order.incarnation))
        return scrubbed_environment(tmp, order.data_dir or tmp)

    def frame(self, order: SpawnWorker, worker: WorkerProcess, confinement: Confinement) -> bytes:
        """Give the order as it is said to a zygote.

        Raises:
            ConfinementError: So much is permitted that it does not fit in a frame.
        """
        spec = {
            "incarnation": order.incarnation,
            "plugin_id": order.plugin_id,
            "layers": list(confinement.layers),
            "site": list(self._site),
            "permissions": worker.permissions.of_names().to_wire(),
            "limits": worker.limits.to_wire(),
        }
        frame: bytes = msgpack.packb(
            {
                "kind": "spawn",
                "incarnation": order.incarnation,
                "confinement": confinement.to_wire(),
                "environment": self.environment(order),
                "spec": spec,
            }
        )
        if len(frame) > MAX_PACKET:
            why = f"the paths need {len(frame)} bytes, and {MAX_PACKET} can be said"
            raise ConfinementError("read", f"{why}; grant the folders that they are in")
        return frame


def may_fork(order: SpawnWorker) -> bool:
    """Say whether a plugin was granted processes of its own."""
    return bool(order.permissions.get("subprocess"))


def _limits(order: SpawnWorker) -> Limits:
    """Give its limits; of descriptors at most half of what the node may have.

    The kernel counts those that are on their way between processes by user, and refuses to send
    more to whoever has sent as many as it may have open. A worker that fills its own sockets with
    them reaches its own limit first, and the node can still send.
    """
    limits = parse_limits(order.limits)
    return replace(limits, files=min(limits.files, descriptors()[1] // 2))


def _own_code(source: PluginSource) -> tuple[str, ...]:
    """The plugin's own folder, or its one file."""
    if source.entry.endswith(".py"):
        return (str(Path(source.root) / source.entry),)
    return (source.root,) if source.root else ()


def _site_packages() -> tuple[str, ...]:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return tuple(sorted(path for path in paths if path and Path(path).is_dir()))
