from collections.abc import Iterator

import pytest

from protocol.calls import WINDOW
from protocol.flight import label_of
from protocol.running import is_cancelled
from protocol.turn import CURRENT, TURN
from tests.unit.protocol.lines_parts import THEIRS, Callee, Dynamic, Peer


class Rows:
    """A service of generators."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.given = 0

    def rows(self, count: int, size: int = 0) -> Iterator[object]:
        try:
            for number in range(count):
                self.given += 1
                yield bytes(size) or number
        finally:
            self.seen.append("closed")

    def fail(self) -> Iterator[int]:
        yield 1
        raise ValueError("no")

    def stubborn(self) -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("not so")

    def odd(self) -> Iterator[object]:
        try:
            yield 1
            yield {2}
        finally:
            self.seen.append("closed")

    def who(self) -> Iterator[object]:
        while True:
            yield [*CURRENT.get().chain]


@pytest.fixture
def service(callee: Callee) -> Rows:
    service = Rows()
    callee.servant.offer("math", service)
    return service


@pytest.fixture
def peer(callee: Callee, service: Rows) -> Dynamic:
    peer = callee.peer()
    yield peer
    peer.lane.close()


def items(peer: Peer) -> list[object]:
    return [parts[2] for parts in peer.hear_all() if parts[1] == 3]


class TestWriter:
    def test_a_stream_begins_and_ends(self, callee: Callee, service: Rows, peer: Peer) -> None:
        """
        What is yielded is said, between the beginning and the end; it counts as one call.
        """
        peer.call(5, "rows", 2)
        callee.turn()

        assert peer.hear_all() == [[5, 2], [5, 3, 0], [5, 3, 1], [5, 0, None]]
        assert service.seen == ["closed"]
        assert (callee.counter.calls, callee.counter.errors) == (1, 0)
        assert (callee.counter.labels, callee.counter.streaming) == ([label_of("math.rows")], {0})

    def test_a_slow_reader_stops_it(self, callee: Callee, service: Rows, peer: Peer) -> None:
        """
        It goes no further than its reader's credit reaches, and others are served meanwhile.
        """
        peer.call(5, "rows", 1000)
        callee.turn()
        assert len(items(peer)) == WINDOW
        assert service.given == WINDOW
        peer.call(6, "rows", 1)
        peer.say(5, 5, 3)
        callee.turn()

        heard = peer.hear_all()
        assert [6, 0, None] in heard
        assert [parts for parts in heard if parts[0] == 5] == [[5, 3, WINDOW + n] for n in range(3)]

    def test_credit_is_bounded(self, callee: Callee, service: Rows, peer: Peer) -> None:
        """
        A reader cannot ask for more at once than a window.
        """
        peer.call(5, "rows", 1000)
        callee.turn()
        peer.say(5, 5, 1 << 60)
        callee.turn()

        assert service.given == 2 * WINDOW

    @pytest.mark.parametrize("how", ["cancel", "leave"])
    def test_an_abandoned_generator_is_closed(
        self, callee: Callee, service: Rows, peer: Peer, how: str
    ) -> None:
        """
        When its reader wants no more or has died, its `finally` runs, and nothing more is said.
        """
        peer.call(5, "rows", 1000)
        callee.turn()
        peer.hear_all()
        if how == "cancel":
            peer.say(5, 4)
        else:
            peer.lane.close()
        callee.turn()

        assert service.seen == ["closed"]
        assert service.given == WINDOW
        if how == "cancel":
            peer.say(5, 5, 16)
            assert callee.answers(peer) == []
        assert callee.counter.errors == 0

    def test_the_deadline_closes_it(self, callee: Callee, service: Rows, peer: Peer) -> None:
        """
        A reader that has gone to sleep does not keep a generator for ever.
        """
        peer.call(5, "rows", 1000, deadline=callee.clock.now + 1e-3)
        while not service.seen:
            callee.turn()

        assert service.given <= WINDOW

    def test_its_error_comes_after_its_items(self, callee: Callee, peer: Peer) -> None:
        """
        What was yielded before counts.
        """
        peer.call(5, "fail")
        callee.turn()
        *before, last = peer.hear_all()

        assert before == [[5, 2], [5, 3, 1]]
        assert last[:3] == [5, 1, "RemoteError"]
        assert callee.counter.errors == 1

    def test_an_item_that_cannot_travel_ends_it(
        self, callee: Callee, service: Rows, peer: Peer
    ) -> None:
        """
        The reader is told, and the generator is closed.
        """
        peer.call(5, "odd")
        callee.turn()
        *_, last = peer.hear_all()

        assert last[:3] == [5, 1, "RemoteError"]
        assert service.seen == ["closed"]

    def test_a_generator_that_does_not_want_to_be_closed_harms_nobody(
        self, callee: Callee, service: Rows, peer: Peer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """
        What its `finally` raises is for its author's log.
        """
        peer.call(5, "stubborn")
        (line,) = callee.server._lines
        callee.turn()
        assert [parts[1] for parts in peer.hear_all()] == [2, 3, 1]
        line.lane.unsent += b"\0"  # no room: the generator is left suspended
        peer.call(6, "stubborn")
        callee.turn()
        line.lane.unsent.clear()
        peer.say(6, 4)
        peer.call(7, "rows", 0)
        callee.turn()

        callee.turn()
        assert not line.running
        assert not callee.counter.running

    def test_it_waits_for_room(self, callee: Callee, service: Rows, peer: Peer) -> None:
        """
        Large items do not pile up for a reader that reads slowly, whatever credit it gives.
        """
        peer.call(5, "rows", 20, 400_000)
        callee.turn()
        assert service.given <= 2
        count = 0
        while count < 20:
            heard = items(peer)
            count += len(heard)
            callee.turn()
            if heard:
                assert service.given <= count + 3

        assert service.given == 20

    def test_each_step_runs_in_its_own_call(
        self, callee: Callee, service: Rows, peer: Peer
    ) -> None:
        """
        Whatever else was served in between, a generator that goes on is in its own call.
        """
        for number in (5, 6):
            peer.call(number, "who")
        callee.turn()
        peer.hear_all()
        for number in (5, 6):
            peer.say(number, 5, 1)
        callee.turn()

        assert peer.hear_all() == [[n, 3, [[1, n, "app"]]] for n in (5, 6)]

    def test_a_thread_that_waits_goes_on_with_no_strangers_generator(
        self, callee: Callee, service: Rows, peer: Peer
    ) -> None:
        """
        It goes on when the thread waits no longer.
        """
        peer.call(5, "rows", 1000)
        callee.turn()
        with callee.runs():
            TURN.waiting[7] = 9
            peer.say(5, 5, 4)
            callee.reactor.turn(0)
            assert service.given == WINDOW
            TURN.waiting.clear()
            assert callee.server.has_more
        callee.turn()

        assert service.given == WINDOW + 4

    def test_a_reader_that_asks_without_end_costs_nothing(
        self, callee: Callee, service: Rows, peer: Peer
    ) -> None:
        """
        A generator that has to wait is noted once, however often its reader gives credit.
        """
        peer.call(5, "rows", 1000)
        callee.turn()
        with callee.runs():
            TURN.waiting[7] = 9
            for _ in range(9):
                peer.say(5, 5, 1)
            callee.reactor.turn(0)
            assert len(TURN.later) == 1
            TURN.waiting.clear()
        callee.turn()

        assert service.given == WINDOW + 9

    def test_a_generator_that_our_own_call_led_to_goes_on(
        self, callee: Callee, service: Rows, peer: Peer
    ) -> None:
        """
        Whoever we wait for may be the one who reads it.
        """
        with callee.runs():
            TURN.waiting[7] = 9
            peer.call(5, "rows", 3, chain=[[THEIRS, 7, "we"]])
            callee.reactor.turn(0)
            TURN.waiting.clear()

        assert peer.hear_all()[-1] == [5, 0, None]

    def test_no_step_runs_inside_another(self, callee: Callee, service: Rows, peer: Peer) -> None:
        """
        A generator that looks for its own cancel, or has credit come in the middle of a step, is
        not entered again; a cancel found there ends it after that step.
        """

        class Looker:
            def rows(self) -> Iterator[bool]:
                for _ in range(9):
                    peer.say(5, 5, 1)
                    yield is_cancelled()
                peer.say(5, 4)
                yield is_cancelled()

        callee.servant.offer("looker", Looker())
        peer.call(5, "rows", service="looker")
        callee.turn()
        callee.turn()

        heard = peer.hear_all()
        assert [parts[2] for parts in heard if parts[1] == 3] == [False] * 9
        assert {parts[1] for parts in heard} == {2, 3}
        (line,) = callee.server._lines
        assert not line.running
        assert not callee.counter.running
