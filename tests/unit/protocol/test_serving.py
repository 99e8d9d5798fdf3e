import os
import socket
from collections.abc import Iterator

import pytest

from protocol.calls import pack_call, unpack_reply
from protocol.codec import new_packer
from protocol.errors import ServiceUnavailable
from protocol.lane import Lane
from protocol.messages import LaneOpened
from protocol.reactor import Reactor
from protocol.servant import Servant
from protocol.serving import LaneServer
from protocol.turn import TURN, Link

FOREVER = 1e12
OWN = 2
PACK = new_packer()


class Counter:
    """Counts nothing."""

    def count_call(self) -> None:
        """Do nothing."""

    def count_error(self) -> None:
        """Do nothing."""


class Math:
    """The service."""

    def add(self, a: int, b: int) -> int:
        """Add."""
        return a + b


class Served:
    """A lane server, its loop, and the callers' ends of two lanes."""

    def __init__(self) -> None:
        self.closed: list[int] = []
        self.reactor = Reactor()
        servant = Servant(Counter())
        servant.offer("math", Math())
        self.server = LaneServer(self.reactor, servant, lambda: OWN, self.closed.append)
        self.lanes = [self._open(number) for number in (1, 2)]

    def _open(self, number: int) -> Lane:
        ours, theirs = socket.socketpair()
        opened = LaneOpened(lane=number, request="", peer=40 + number, peer_name=f"peer {number}")
        self.server.open(opened, theirs.detach())
        return Lane(ours.detach())

    def call(self, lane: Lane, chain: list[Link] | None = None) -> None:
        lane.send(pack_call(PACK, 9, "math", "add", (1, 2), {}, FOREVER, chain or ()))
        self.reactor.turn(0)


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.server.close()
    served.reactor.close()
    for lane in served.lanes:
        lane.close()


@pytest.fixture
def waiting() -> Iterator[None]:
    """This thread waits for its own call 7."""
    TURN.waiting.append(7)
    yield
    TURN.waiting.clear()


def answer(lane: Lane) -> object:
    frame = lane.receive()
    return None if frame is None else unpack_reply(frame)[1]


class TestLaneServer:
    def test_calls_are_answered_on_their_lane(self, served: Served) -> None:
        """
        Each caller gets its own answer.
        """
        for lane in served.lanes:
            served.call(lane)
            assert answer(lane) == 3

    def test_what_is_no_call_ends_its_lane_only(self, served: Served) -> None:
        """
        A caller that sends nonsense loses its lane; the other's goes on.
        """
        served.lanes[0].send(b"\xc0")
        served.reactor.turn(0)

        assert served.closed == [1]
        with pytest.raises(EOFError):
            served.lanes[0].receive()
        served.call(served.lanes[1])
        assert answer(served.lanes[1]) == 3

    @pytest.mark.usefixtures("waiting")
    def test_a_strangers_call_is_held_while_the_thread_waits(self, served: Served) -> None:
        """
        It is answered once the thread waits no longer, and so are those behind it.
        """
        served.call(served.lanes[0])
        served.call(served.lanes[0])
        assert answer(served.lanes[0]) is None
        assert served.server.has_held

        TURN.waiting.clear()
        served.server.serve_held()
        served.reactor.turn(0)

        assert [answer(served.lanes[0]), answer(served.lanes[0])] == [3, 3]

    @pytest.mark.usefixtures("waiting")
    def test_a_call_that_ours_has_led_to_is_answered_at_once(self, served: Served) -> None:
        """
        It could not be answered later: the call that we wait for waits for it.
        """
        served.call(served.lanes[0], chain=[[OWN, 7, "we"]])

        assert answer(served.lanes[0]) == 3

    @pytest.mark.usefixtures("waiting")
    def test_reentry_can_be_refused(self, served: Served) -> None:
        """
        A plugin that asked for it is never entered again; the refusal names the circle.
        """
        served.server.is_reentrant = False
        served.call(served.lanes[0], chain=[[OWN, 7, "we"]])

        frame = served.lanes[0].receive()
        assert frame is not None
        error = unpack_reply(frame)[2]
        assert isinstance(error, ServiceUnavailable)
        assert "we -> peer 1 -> here" in str(error)

    def test_closing_closes_every_lane(self, served: Served) -> None:
        """
        Nothing is left open, and nobody is told.
        """
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all we need
        served.server.close()

        assert len(os.listdir("/proc/self/fd")) == descriptors - 2  # noqa: PTH208
        assert served.closed == []
