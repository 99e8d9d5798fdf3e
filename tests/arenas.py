"""The shared memory of two endpoints in one process, over the node's real segments.

Messages and descriptors are handed over by hand: what a reader has not read waits in its inbox.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from plugin_worker.node.segments import Request, Segments
from protocol.arena import Arena
from protocol.carrier import Carrier
from protocol.errors import from_wire
from protocol.messages import Allocated, FromEndpoint, Ready, Refusal, Shared, ToEndpoint, Unshared

LANE: Final = 7
WRITER: Final = 1
READER: Final = 2


class Endpoint:
    """One endpoint as its arena sees the node; reads only when it waits."""

    def __init__(self, machine: "Machine", number: int) -> None:
        self.number = number
        self.inbox: deque[tuple[ToEndpoint, list[int]]] = deque()
        self.arena = Arena(self)
        self.waited = 0
        self._machine = machine
        self._answers: list[Any] = []

    def ask_node(self, build: Callable[[str], FromEndpoint], timeout: float) -> Any:  # noqa: ANN401
        self._tell(build("q"))
        self.read()
        answer = self._answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell_node_soon(self, message: FromEndpoint) -> None:
        self._tell(message)

    def wait_for_news(self, deadline: float) -> bool:
        self.waited += 1
        is_there = bool(self.inbox)
        self.read()
        return is_there

    def _tell(self, message: FromEndpoint) -> None:
        assert isinstance(message, Request)
        self._machine.segments.told(self.number, message)

    def read(self) -> None:
        """Take in what the node has sent."""
        while self.inbox:
            message, descriptors = self.inbox.popleft()
            if isinstance(message, Shared | Unshared):
                self.arena.told(message, descriptors)
            elif isinstance(message, Allocated):
                self._answers.append((message.segment, descriptors[0]))
            elif isinstance(message, Ready):
                self._answers.append(None)
            elif isinstance(message, Refusal):
                self._answers.append(from_wire(message.kind, message.fields))


class Machine:
    """A node's segments, two endpoints, and lanes between them."""

    def __init__(self, *lanes: int, most: int | None = None) -> None:
        self.lanes = set(lanes or (LANE,))
        self.behind: set[int] = set()
        self.segments = Segments(self._send, self._other_end, self.behind.__contains__, most)
        self.ends = {number: Endpoint(self, number) for number in (WRITER, READER)}
        self.writer, self.reader = (end.arena for end in self.ends.values())

    def carriers(self, lane: int = LANE) -> tuple[Carrier, Carrier]:
        """Give both ends of a lane."""
        return Carrier(self.writer, lane, READER), Carrier(self.reader, lane, WRITER)

    def lane_over(self, lane: int = LANE) -> None:
        """Have the node see a lane's end."""
        self.lanes.discard(lane)
        self.segments.lane_over(lane, (WRITER, READER))
        for end in self.ends.values():
            end.read()

    def _other_end(self, lane: int, end: int) -> int | None:
        return WRITER + READER - end if lane in self.lanes else None

    def _send(self, to: int, message: ToEndpoint, descriptors: tuple[int, ...]) -> bool:
        if to not in self.ends:
            return False
        self.ends[to].inbox.append((message, [*map(os.dup, descriptors)]))
        return True
