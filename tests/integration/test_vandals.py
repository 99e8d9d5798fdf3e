"""What a worker leaves or says to harm its node harms nobody but itself."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from protocol.messages import (
    FROM_ENDPOINT,
    TO_WORKER,
    EndWorker,
    Exited,
    LoadPlugin,
    Ping,
    PluginSource,
    Pong,
    Relay,
    StopPlugin,
)
from protocol.packets import Kind, cut
from tests.hosts import eventually
from tests.nodes import NodeRun, Worker, new_node
from tests.unit.protocol.lines_parts import Peer

FOREVER_S = 120.0
TURNS = 3
"""Signs of life that a node gives while there is much to remove; one that waits gives none."""


@pytest.fixture
def node() -> Iterator[NodeRun]:
    """A node of this test's own, with the test as its daemon."""
    with new_node() as run:
        yield run


def have(node: NodeRun, method: str, *arguments: object) -> tuple[Worker, Peer]:
    """Start a vandal and call it; give it and the lane."""
    worker = node.spawn("vandal")
    node.wait_loaded(worker)
    lane = node.lane(worker)
    deadline = time.monotonic() + FOREVER_S
    lane.call(1, method, *arguments, service="vandal", deadline=deadline)
    return worker, lane


def signs_of_life(node: NodeRun, is_over: Callable[[], bool]) -> int:
    """Ask the node for one again and again until something is over; count those before that."""
    for number in count():
        node.daemon.tell(Ping(number))
        node.daemon.next_of(Pong, 0)
        if is_over():
            return number
    raise AssertionError


class TestVandals:
    def test_a_name_that_is_no_text(self, node: NodeRun) -> None:
        """
        The kernel shows it beside what the node looks for before it asks for stacks.
        """
        worker, lane = have(node, "rename", b"\xff\xfe)")
        eventually(lane.hear)
        node.daemon.tell(EndWorker(worker.incarnation, "hang", force=True, stacks=True))
        left, exited = node.end_of(worker)
        assert str(exited.cause) == "SIGKILL (hang)"
        assert left is not None
        assert "Current thread" in left.stacks

    def test_folders_without_end_in_each_other(self, node: NodeRun) -> None:
        """
        They are removed with all that is in them, however deep.
        """
        worker, _ = have(node, "nest", 3000)
        cause = str(node.end_of(worker)[1].cause)
        # On a busy machine the node's watch sees them before their maker is done with them.
        assert cause == "exit status 3" or cause.startswith("SIGKILL (limit disk: folders more")
        assert eventually(lambda: not self.folder_of(node, worker).exists())

    def test_more_files_than_are_removed_in_a_moment(self, node: NodeRun) -> None:
        """
        The node's loop goes on while they are.
        """
        worker, _ = have(node, "litter", 60_000)
        node.daemon.first_of(Exited, worker.incarnation, FOREVER_S)
        folder = self.folder_of(node, worker)
        assert signs_of_life(node, lambda: not folder.exists()) >= TURNS
        assert eventually(lambda: not list(folder.parent.glob("[0-9]*")))

    def test_who_says_too_much_still_hears_what_it_is_told(self, node: NodeRun) -> None:
        """
        While it waits, what is for it waits too; none of that is forgotten.
        """
        (pong,) = cut(Kind.NODE, FROM_ENDPOINT.encode(Pong(0, 0)))
        stop = TO_WORKER.encode(StopPlugin())
        worker, lane = have(node, "talk", pong, 2.0, *cut(Kind.RELAY, stop))
        eventually((worker.data_dir / "talks").exists)
        for _ in range(3):
            node.daemon.tell(Relay(worker.incarnation, TO_WORKER.encode(self.large())))
        node.daemon.tell(Relay(worker.incarnation, stop))
        # Until its call has returned the node has nothing else to tell it, which might help.
        assert eventually(lane.hear, FOREVER_S)[2] is True
        node.daemon.tell(Relay(worker.incarnation, stop))
        assert str(node.end_of(worker)[1].cause) == "exit status 0"

    @staticmethod
    def large() -> LoadPlugin:
        """Give an order that fills a socket, and that a worker which has loaded ignores."""
        return LoadPlugin(
            source=PluginSource(root="", entry="x" * 300_000),
            metadata={},
            data_dir="",
            events=(),
            concurrency=1,
            reentrant=True,
        )

    @staticmethod
    def folder_of(node: NodeRun, worker: Worker) -> Path:
        return node.run_dir / "tmp" / str(worker.incarnation)
