import os
import queue
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from protocol.crew import ServingThread
from protocol.lane import Lane
from protocol.messages import LaneOpened
from protocol.servant import Servant
from protocol.turn import TURN
from tests.descriptors import count_open
from tests.unit.protocol.lines_parts import Counter, Home, Peer

PATIENCE_S = 20
"""How long a test waits for what must happen, seconds."""


class Crew:
    """A serving thread, and what it tells."""

    def __init__(self) -> None:
        self.closed: queue.Queue[int] = queue.Queue()
        servant = Servant(Counter())
        servant.offer("who", self)
        self.thread = ServingThread("serving", servant, Home(2), self.closed.put)
        self.peers: list[Peer] = []
        self.is_over = False

    def name(self) -> str:
        return threading.current_thread().name

    async def later(self) -> str:
        return threading.current_thread().name

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.thread.close()

    def lane(self) -> Peer:
        ours, theirs = socket.socketpair()
        number = len(self.peers) + 1
        opened = LaneOpened(lane=number, request="", peer=1, peer_name="app")
        self.thread.serve(opened, ours.detach())
        theirs.settimeout(PATIENCE_S)
        self.peers.append(Peer(Lane(theirs.detach())))
        return self.peers[-1]


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew()
    yield crew
    crew.close()
    for peer in crew.peers:
        peer.lane.close()


def answer(peer: Peer) -> object:
    """Wait for the next word of a call."""
    while (parts := peer.hear()) is None:
        assert select.select([peer.lane.fd], [], [], PATIENCE_S)[0], "no answer"
    return parts


class TestServingThread:
    def test_it_serves_lanes_in_a_thread_of_its_own(self, crew: Crew) -> None:
        """
        Plain calls and `async def` alike, of all its lanes.
        """
        first, second = crew.lane(), crew.lane()
        first.call(5, "name", service="who")
        second.call(6, "later", service="who")
        second.call(7, "name", service="who")

        assert answer(first) == [5, 0, "serving"]
        assert {tuple(answer(second)) for _ in range(2)} == {  # type: ignore[arg-type]
            (6, 0, "serving"),
            (7, 0, "serving"),
        }
        assert crew.thread.lanes == 2

    def test_a_lane_that_has_ended_is_told(self, crew: Crew) -> None:
        """
        The node hears of it, and the thread counts one less.
        """
        peer = crew.lane()
        peer.call(5, "name", service="who")
        answer(peer)
        peer.lane.close()

        assert crew.closed.get(timeout=PATIENCE_S) == 1
        assert crew.thread.lanes == 0

    def test_jobs_run_one_after_the_other(self, crew: Crew) -> None:
        """
        In its thread, in their order, each after the one before, inside asyncio too.
        """
        done: queue.Queue[object] = queue.Queue()
        for number in range(3):
            crew.thread.do(lambda number=number: done.put(number))  # type: ignore[misc]
        peer = crew.lane()
        peer.call(6, "later", service="who")
        answer(peer)
        crew.thread.do(lambda: done.put(threading.current_thread().name))

        seen = [done.get(timeout=PATIENCE_S) for _ in range(4)]
        assert seen == [0, 1, 2, "serving"]

    def test_it_watches_what_it_is_given(self, crew: Crew) -> None:
        """
        A descriptor's callback is called in its thread.
        """
        fd = os.eventfd(0)
        done: queue.Queue[str] = queue.Queue()

        def readable() -> None:
            os.eventfd_read(fd)
            done.put(threading.current_thread().name)

        crew.thread.watch(fd, readable)
        os.eventfd_write(fd, 1)

        assert done.get(timeout=PATIENCE_S) == "serving"
        crew.close()
        os.close(fd)

    @pytest.mark.parametrize("is_async", [False, True])
    def test_its_end_closes_its_lanes_and_is_waited_for(self, crew: Crew, is_async: bool) -> None:  # noqa: FBT001
        """
        What belongs to the thread ends in the thread; nobody is told of its lanes.
        """
        peer = crew.lane()
        ended: list[str] = []
        ready = threading.Event()

        def begin() -> None:
            TURN.at_end.append(lambda: ended.append(threading.current_thread().name))
            ready.set()

        crew.thread.do(begin)
        assert ready.wait(PATIENCE_S)
        peer.call(5, "later" if is_async else "name", service="who")
        answer(peer)
        crew.close()

        assert ended == ["serving"]
        assert peer.is_left
        assert crew.closed.empty()

    def test_one_that_never_began_ends_too(self) -> None:
        """
        No thread was started for nothing, and nothing stays open.
        """
        descriptors = count_open()
        crew = Crew()
        crew.close()

        assert count_open() == descriptors

    def test_its_own_code_may_end_it(self, crew: Crew) -> None:
        """
        Without waiting for itself.
        """
        over = threading.Event()

        def end() -> None:
            crew.close()
            over.set()

        crew.thread.do(end)

        assert over.wait(PATIENCE_S)
        crew.thread._thread.join(PATIENCE_S)
        assert not crew.thread._thread.is_alive()

    def test_a_lane_that_comes_too_late_is_closed(self, crew: Crew) -> None:
        """
        While it ends, or behind that: nobody is left waiting at the lane's other end.
        """
        late: list[Peer] = []

        def end() -> None:
            late.append(crew.lane())
            crew.close()

        crew.thread.do(end)
        crew.thread._thread.join(PATIENCE_S)
        late.append(crew.lane())

        assert [peer.is_left for peer in late] == [True, True]

    def test_it_knows_its_own_code(self, crew: Crew) -> None:
        """
        Which may not wait for it; any other thread may, before it has started, too.
        """
        asked: queue.Queue[bool] = queue.Queue()
        assert not crew.thread.is_current

        crew.thread.do(lambda: asked.put(crew.thread.is_current))

        assert asked.get(timeout=PATIENCE_S)
        assert not crew.thread.is_current

    def test_reentry_can_be_refused(self, crew: Crew) -> None:
        """
        It is its lanes' server that refuses.
        """
        crew.thread.refuse_reentry()

        assert not crew.thread._lanes.is_reentrant


def test_what_wakes_it_may_be_heard_in_the_middle_of_something_else(crew: Crew) -> None:
    """
    Two descriptors are ready together; what is called back for the first waits, and hears both.
    """
    busy_end, make_busy = os.pipe()
    waiting_end, make_wait = os.pipe()
    is_busy, may_go_on, done = threading.Event(), threading.Event(), threading.Event()

    def be_busy() -> None:
        os.read(busy_end, 1)
        is_busy.set()
        may_go_on.wait(PATIENCE_S)

    def wait_inside() -> None:
        os.read(waiting_end, 1)
        reactor = TURN.reactor
        assert reactor is not None
        reactor.wait_for(waiting_end, time.monotonic() + 0.2)  # in vain if it was heard before

    crew.thread.watch(busy_end, be_busy)
    crew.thread.watch(waiting_end, wait_inside)
    os.write(make_busy, b"x")
    assert is_busy.wait(PATIENCE_S)
    os.write(make_wait, b"x")
    crew.thread.do(done.set)
    may_go_on.set()
    assert done.wait(PATIENCE_S)
    crew.close()
    for fd in (busy_end, make_busy, waiting_end, make_wait):
        os.close(fd)
