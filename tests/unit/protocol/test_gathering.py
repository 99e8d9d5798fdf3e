import os
from collections.abc import Callable, Iterator

import pytest

from protocol import failpoints
from protocol.calls import CREDIT, WINDOW
from protocol.gathering import HOLD_S, QUICK_S
from protocol.running import DOUBT, is_cancelled
from tests.clock import Clock
from tests.only_plain import only_plain
from tests.unit.protocol.lines_parts import Callee, Peer


class Steps:
    """A service whose method does what the test says, and notes what its caller has been told."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.told: list[int] = []
        self.plan: dict[int, Callable[[], object]] = {}

    def step(self, number: int) -> int:
        """Do it, and see which answers are there before this one."""
        self.plan.get(number, int)()
        self.told += [number for number, _ in self.peer.outcomes()]
        return number


class _Stream:
    """A service of one stream, which notes what has been heard of it before each item."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.heard: list[list[object]] = []

    def rows(self) -> Iterator[int]:
        for number in range(WINDOW + 3):
            if number > WINDOW:
                self.heard.append([parts[2] for parts in self.peer.hear_all()])
            yield number


@pytest.fixture
def peer(callee: Callee) -> Iterator[Peer]:
    peer = callee.peer()
    yield peer
    peer.lane.close()


@pytest.fixture
def steps(callee: Callee, peer: Peer) -> Steps:
    """A method that is known to be quick."""
    steps = Steps(peer)
    callee.servant.offer("math", steps)
    together(callee, peer, *range(1, DOUBT + 2))
    steps.told.clear()
    return steps


def together(callee: Callee, peer: Peer, *numbers: int) -> list[int]:
    """Make calls that come together, and give those of which the answers come behind them all."""
    for number in numbers:
        peer.call(number, "step", number)
    return [number for number, _ in callee.answers(peer)]


class TestGathering:
    @only_plain
    def test_answers_leave_together(
        self, callee: Callee, peer: Peer, steps: Steps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Calls that have come together are answered at once, in their order.
        """
        writes: list[int] = []
        for number in range(100, 110):
            peer.call(number, "step", number)

        def write(fd: int, frames: bytes) -> int:
            writes.append(fd)
            return real(fd, frames)

        real = os.write
        monkeypatch.setattr(os, "write", write)

        assert [number for number, _ in callee.answers(peer)] == [*range(100, 110)]
        assert (len(writes), steps.told) == (1, [])

    def test_no_answer_waits_for_a_method_that_is_not_known(
        self, callee: Callee, peer: Peer
    ) -> None:
        """
        Until a method was quick some times in a row, what is ready leaves before it runs.
        """
        steps = Steps(peer)
        callee.servant.offer("math", steps)

        assert together(callee, peer, 1, 2, 3) == [3]
        assert steps.told == [1, 2]

    def test_no_answer_waits_for_a_method_that_was_slow(
        self, callee: Callee, peer: Peer, steps: Steps, clock: Clock
    ) -> None:
        """
        One slow run holds up what is ready once, and then not before many quick ones.
        """

        def be_slow() -> None:
            clock.now += QUICK_S * 1.1

        steps.plan[101] = be_slow

        assert together(callee, peer, 100, 101, 102, 103) == [103]
        assert steps.told == [100, 101, 102]
        together(callee, peer, *range(200, 200 + DOUBT))
        steps.told.clear()
        assert together(callee, peer, 300, 301) == [300, 301]

    def test_an_answer_waits_for_a_moment_only(
        self, callee: Callee, peer: Peer, steps: Steps, clock: Clock
    ) -> None:
        """
        However quick each handler is, what is ready leaves before many of them have run.
        """

        def take_a_while() -> None:
            clock.now += QUICK_S * 0.9

        steps.plan = dict.fromkeys(range(100, 110), take_a_while)
        count = int(HOLD_S / QUICK_S) + 1

        together(callee, peer, *range(100, 110))

        assert steps.told[:count] == [*range(100, 100 + count)]

    def test_a_handler_that_waits_has_them_sent(
        self, callee: Callee, peer: Peer, steps: Steps
    ) -> None:
        """
        While a thread waits for a call of its own, nobody waits for what it has ready.
        """

        def wait() -> None:
            callee.reactor.wait_for(-1, 0.0)
            steps.told += [number for number, _ in peer.outcomes()]

        steps.plan[101] = wait

        assert together(callee, peer, 100, 101, 102, 103) == [103]
        assert steps.told == [100, 101, 102]

    def test_a_handler_that_looks_for_its_cancel_has_them_sent(
        self, callee: Callee, peer: Peer, steps: Steps
    ) -> None:
        """
        Who asks whether anybody waits means to be a while.
        """
        steps.plan[101] = is_cancelled

        assert together(callee, peer, 100, 101) == [101]
        assert steps.told == [100]

    def test_no_item_waits_for_the_next(self, callee: Callee, peer: Peer, steps: Steps) -> None:
        """
        A stream that goes on among calls says each item as it comes: nobody knows when the next is.
        """
        stream = _Stream(peer)
        callee.servant.offer("rows", stream)
        peer.call(100, "rows", service="rows")
        callee.turn()
        peer.hear_all()
        peer.say(100, CREDIT, 3)
        peer.call(101, "step", 101)
        callee.turn()

        assert stream.heard == [[WINDOW], [WINDOW + 1]]
        assert steps.told == [100]
        assert peer.outcomes() == [(101, 101)]

    def test_a_caller_that_is_gone_ends_its_lane(
        self, callee: Callee, peer: Peer, steps: Steps
    ) -> None:
        """
        Answers for nobody are no trouble of the callee's.
        """
        steps.plan[101] = peer.lane.close
        for number in (100, 101, 102):
            peer.call(number, "step", number)
        steps.peer = callee.peer()

        callee.turn()

        assert callee.closed == [1]
        steps.peer.lane.close()

    def test_a_handler_that_looks_when_its_caller_is_gone(
        self, callee: Callee, peer: Peer, steps: Steps
    ) -> None:
        """
        It is told that nobody waits, and nothing else: that is what it has asked.
        """
        found: list[bool] = []

        def look() -> None:
            peer.lane.close()
            found.append(is_cancelled())

        steps.plan[101] = look
        for number in (100, 101):
            peer.call(number, "step", number)
        steps.peer = callee.peer()

        callee.turn()

        assert found == [True]
        steps.peer.lane.close()

    def test_nothing_is_gathered_while_failpoints_are_armed(
        self, callee: Callee, peer: Peer, steps: Steps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Behind the point `reply.after` the answer has left, as its table says.
        """
        monkeypatch.setattr(failpoints, "hit", str)
        failpoints.ARMED.append("worker")
        try:
            assert together(callee, peer, 100, 101) == [101]
            assert steps.told == [100]
        finally:
            failpoints.ARMED.clear()
