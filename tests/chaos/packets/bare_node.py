"""Be a node, with nothing changed but that some of its workers are the test.

A plugin whose id begins with `bare` gets a process that only waits to be killed; the worker's end
of its umbilical goes to whoever listens beside the run directory. So a test says what it likes
to a real node, as fast as sockets are, and the node starts, checks, kills and reaps as always.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import msgpack

from plugin_worker.confine import in_force
from plugin_worker.node.launcher import Order, Started
from plugin_worker.node.node import main
from plugin_worker.node.zygote_link import ZygoteLink
from plugin_worker.sandbox.policy import LAYER_NAMES
from protocol.reactor import Reactor

BARE: Final = "bare"
_WAITS: Final = ("/bin/sleep", "3600")


class BareZygote(ZygoteLink):
    """Forks as the zygote does, but for the bare ones."""

    def __init__(self, reactor: Reactor, lib: Path, tmp: Path) -> None:
        super().__init__(reactor, lib, tmp)
        self.bare: set[int] = set()
        self._test = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._test.connect(f"{lib.parent}.bare")

    def launch(self, order: Order) -> None:
        name = msgpack.unpackb(order.frame)["spec"]["plugin_id"]
        if not name.startswith(BARE):
            super().launch(order)
            return
        pid = os.posix_spawn(_WAITS[0], _WAITS, {})
        self.bare.add(pid)
        said = msgpack.packb([name, order.incarnation])
        socket.send_fds(self._test, [said], order.descriptors[:1])
        order.taken()
        order.started(Started(pid=pid))


def confined(pid: int, *limits: Any) -> tuple[str, ...]:  # noqa: ANN401 - as the original
    """Take a process that waits for one that is confined, as it would be if it were a worker."""
    with Path(f"/proc/{pid}/comm").open() as name:
        is_bare = name.read().strip() == "sleep"
    return LAYER_NAMES if is_bare else in_force(pid, *limits)


if __name__ == "__main__":
    with (
        patch("plugin_worker.node.node.ZygoteLink", BareZygote),
        patch("plugin_worker.node.workers.in_force", confined),
    ):
        sys.exit(main(sys.argv[1:]))
