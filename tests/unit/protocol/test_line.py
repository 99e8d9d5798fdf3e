import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import caller, future, lines
from protocol import line as line_module
from protocol import waits as waits_module
from protocol.arena import Lie
from protocol.calls import WINDOW
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    WorkerLost,
)
from protocol.future import Future, Made, Stream
from protocol.kernel import head_of
from protocol.lane import PeerGone
from protocol.line import MAX_LOOKED, Line, Pending
from protocol.listen import read
from protocol.turn import NOBODY, TURN, Current
from tests.clock import Clock
from tests.unit.protocol.lines_parts import Dynamic, Scripted, Wire


class Waiter(Pending):
    """Waits for one call, and writes down what it is told."""

    def __init__(self, *, is_stream: bool = False) -> None:
        self.told: list[object] = []
        self._is_stream = is_stream
        self.call: Made | None = None

    @property
    def made(self) -> Made:
        assert self.call is not None
        return self.call

    def feed(self, parts: list[Any]) -> bool:
        self.told.append(parts[1:])
        return not self._is_stream

    def lose(self, error: SpiralHostError) -> None:
        self.told.append(error)


def made_on(wire: Wire) -> Made:
    """Give a call whose time is up now."""
    return Made(wire.line, 1, ("math", "add", "math.add", None), wire.clock.now)


def read_all(wire: Wire) -> None:
    """Take in what the peer is going to say."""
    while wire.plan or wire.line.lane.has_more():
        read(wire.line, wire.clock.now, NOBODY)


class TestHear:
    def test_a_word_reaches_whoever_waits(self, wire: Wire) -> None:
        """
        Each of several calls gets its own answer, in whatever order they come.
        """
        first, second = Waiter(), Waiter()
        wire.line.pending = {1: first, 2: second}
        wire.then(lambda: wire.peer.say(2, 0, "b"), lambda: wire.peer.say(1, 0, "a"))
        read_all(wire)

        assert (first.told, second.told) == ([[0, "a"]], [[0, "b"]])
        assert not wire.line.pending

    def test_a_cancel_reaches_the_call_it_is_about(self, wire: Wire) -> None:
        """
        A call that is being served learns that nobody wants it; another does not.
        """
        one, other = (Current((), 1.0, wire.line, number) for number in (1, 2))
        wire.line.running = {1: one, 2: other}
        wire.then(lambda: wire.peer.say(1, 4))
        read_all(wire)

        assert one.is_cancelled
        assert not other.is_cancelled

    def test_credit_reaches_the_stream_it_is_for(self, wire: Wire) -> None:
        """
        A stream's writer learns how much more is wanted.
        """
        given_credit: list[int] = []
        current = Current((), 1.0, wire.line, 1)
        current.more = given_credit.append
        wire.line.running = {1: current}
        wire.then(lambda: wire.peer.say(1, 5, 16))
        read_all(wire)

        assert given_credit == [16]

    @pytest.mark.parametrize("count", ["x", None, -5, 1.5, True, 1 << 70, [1]], ids=repr)
    def test_credit_that_is_no_number_ends_the_line(self, wire: Wire, count: object) -> None:
        """
        A peer that asks for no number of items breaks the protocol, and nothing else breaks.
        """
        current = Current((), 1.0, wire.line, 1)
        current.more = lambda count: [None] * min(count, 5)
        wire.line.running = {1: current}
        if type(count) is int and count > 1 << 64:
            wire.then(lambda: wire.peer.lane.send(b"\x93\x01\x05\xc4\x00"))
        else:
            wire.then(lambda: wire.peer.say(1, 5, count))

        with pytest.raises(RemoteProtocolError):
            read_all(wire)
        assert wire.line.is_lost

    def test_words_about_calls_that_are_over_are_not_wanted(self, wire: Wire) -> None:
        """
        They come late, from an honest peer too; nothing is kept of them.
        """
        for parts in ([7, 0, 1], [7, 1, "UsageError", []], [7, 2], [7, 3, 1], [7, 4], [7, 5, 3]):
            wire.then(lambda parts=parts: wire.peer.say(*parts))  # type: ignore[misc]
        read_all(wire)

        assert not wire.line.early
        assert not wire.line.held
        assert not wire.line.is_lost

    def test_a_call_where_none_is_served_is_refused(self, wire: Wire) -> None:
        """
        Nobody can call a line that offers nothing.
        """
        line = Line(wire.line.lane, 9, 2, "calculator", wire.wait, wire.home)
        wire.peer.call(3, "add")
        frame = line.lane.receive()
        assert frame is not None
        line.take(frame)

        ((number, error),) = wire.peer.outcomes()
        assert number == 3
        assert isinstance(error, ServiceUnavailable)

    @pytest.mark.parametrize(
        "frame",
        [b"", b"\xc1", b"\xc0", b"\x93\x01\xc0\xc0", b"\x91\x01", b"\x01" * 9],
        ids=repr,
    )
    def test_nonsense_ends_the_line(self, wire: Wire, frame: bytes) -> None:
        """
        What is no frame of ours is the peer's fault, and its lane's end.
        """
        wire.then(lambda: wire.peer.lane.send(frame))

        with pytest.raises(RemoteProtocolError):
            read_all(wire)
        assert wire.peer.is_left

    def test_a_peer_that_lies_again_loses_its_lane(self, wire: Wire) -> None:
        """
        Each time costs the wait for what it names; other nonsense ends the one call.
        """

        def extension(code: int, _: bytes) -> object:
            raise Lie if code else RemoteProtocolError

        wire.line.carrier.extension = extension
        wire.peer.say(7, 0, msgpack.ExtType(0, b""))
        wire.line.came()
        assert not wire.line.is_lost
        wire.peer.say(7, 0, msgpack.ExtType(1, b""))
        wire.line.came()
        assert wire.line.is_lost

    def test_memory_that_was_not_lent_is_not_given_back(self, wire: Wire) -> None:
        """
        A peer that gives back what it was not lent breaks the protocol.
        """
        wire.then(lambda: wire.peer.say(0, 6, [1]))
        with pytest.raises(RemoteProtocolError):
            read_all(wire)


class TestNested:
    """A call is made while this thread waits for another on the same line."""

    def test_the_outer_answer_is_kept(self, scripted: Scripted) -> None:
        """
        An answer that comes while a later call is waited for is there when its own turn comes.
        """
        wire = scripted.wire()
        math = scripted.stub()

        def inner() -> None:
            outer = wire.peer.hear_call()
            wire.then(lambda: wire.peer.say(outer, 0, "outer"), wire.answer("inner"))
            assert math.add() == "inner"

        wire.then(inner)

        assert math.add() == "outer"
        assert not wire.line.early
        assert wire.line.is_lost is False

    def test_of_two_outcomes_the_first_counts(self, scripted: Scripted) -> None:
        """
        A peer cannot change what it has said.
        """
        wire = scripted.wire()
        math = scripted.stub()

        def inner() -> None:
            outer = wire.peer.hear_call()
            wire.peer.say(outer, 0, "first")
            wire.peer.say(outer, 0, "second")
            wire.then(wire.answer("inner"))
            assert math.add() == "inner"

        wire.then(inner)

        assert math.add() == "first"
        assert not wire.line.early

    def test_the_items_of_an_outer_stream_are_kept(self, scripted: Scripted) -> None:
        """
        A generator that yields and then calls back has its items read after that call.
        """
        wire = scripted.wire()
        math = scripted.stub()

        def inner() -> None:
            outer = wire.peer.hear_call()
            for parts in ([outer, 2], [outer, 3, "a"], [outer, 3, "b"], [outer, 0, None]):
                wire.peer.say(*parts)
            wire.then(wire.answer("inner"))
            assert math.add() == "inner"

        wire.then(inner)

        assert list(math.rows()) == ["a", "b"]
        assert not wire.line.early
        assert not wire.line.pending

    def test_an_outer_stream_is_bounded_too(self, scripted: Scripted) -> None:
        """
        A peer that sends more items than were asked for loses its lane, whoever waits for what.
        """
        wire = scripted.wire()
        math = scripted.stub()

        def inner() -> None:
            outer = wire.peer.hear_call()
            wire.peer.say(outer, 2)
            for number in range(WINDOW + 1):
                wire.peer.say(outer, 3, number)
            with pytest.raises(RemoteProtocolError):
                math.add()

        wire.then(inner)

        stream = math.rows()
        assert wire.line.is_lost
        assert [next(stream) for _ in range(WINDOW)] == [*range(WINDOW)]
        with pytest.raises(WorkerLost):
            next(stream)

    def test_an_item_is_no_outcome(self, scripted: Scripted) -> None:
        """
        A peer that yields before it has said that it will breaks the protocol.
        """
        wire = scripted.wire()
        wire.then(lambda: wire.peer.say(wire.peer.hear_call(), 3, "item"))

        with pytest.raises(RemoteProtocolError):
            scripted.stub().add()
        second = scripted.wire()
        future = scripted.stub().add.submit()
        second.then(lambda: second.peer.say(second.peer.hear_call(), 3, "item"))
        with pytest.raises((RemoteProtocolError, WorkerLost)):
            future.result()


class TestSend:
    def test_what_another_thread_has_dropped_is_cancelled_before_the_next_call(
        self, wire: Wire
    ) -> None:
        """
        Only the line's own thread sends on it.
        """
        wire.line.abandoned.append(3)
        wire.line.send((4, 0, None))

        assert wire.peer.hear_all() == [[3, 4], [4, 0, None]]

    def test_what_is_dropped_while_a_frame_is_packed_is_said_after_it(
        self, scripted: Scripted
    ) -> None:
        """
        A stream may be dropped anywhere, even by an argument of a call that is being packed.
        """
        wire = scripted.wire()
        math = scripted.stub()
        wire.then(lambda: wire.peer.say(wire.peer.hear_call(), 2))
        streams = [math.rows()]
        number = next(iter(wire.line.pending))

        @dataclass
        class Dropping:
            field: int

            def __getattribute__(self, name: str) -> Dynamic:
                if name == "field":
                    streams.clear()
                return object.__getattribute__(self, name)

        math.add.submit(1, [Dropping(2)], 3)
        math.add.submit()

        first, *others = wire.peer.hear_all()
        assert first[3] == [1, [{"field": 2}], 3]
        assert others[0] == [number, 4]
        assert not wire.line.is_lost

    def test_a_word_for_a_peer_that_is_gone_is_dropped(self, wire: Wire) -> None:
        """
        The line ends, and whoever speaks next is not told so: it waits for no answer.
        """
        wire.peer.lane.close()
        wire.line.say(1, 0, None)
        wire.line.say(2, 0, None)

        assert wire.line.is_lost

    def test_a_word_that_cannot_travel_is_refused(self, wire: Wire) -> None:
        """
        Nothing of it is sent, and the line goes on.
        """
        with pytest.raises(LocalProtocolError):
            wire.line.say(1, 0, {1})

        assert not wire.line.is_lost
        assert wire.peer.hear_all() == []

    def test_who_drives_it_is_told_when_there_is_no_room(self, wire: Wire) -> None:
        """
        The rest is sent when the peer reads, and then what waited for that goes on.
        """
        blocked: list[Line] = []
        went_on: list[bool] = []
        wire.line.blocked = blocked.append
        wire.line.when_flushed.append(lambda: went_on.append(True))
        wire.line.say(1, 0, bytes(900_000))
        assert blocked == [wire.line]
        assert not wire.line.flush()
        assert not went_on
        while (parts := wire.peer.hear()) is None:
            wire.line.flush()

        assert parts == [1, 0, bytes(900_000)]
        assert wire.line.flush()
        assert went_on == [True]

    def test_a_peer_that_reads_nothing_is_given_up(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A word waits for its peer a moment; then the line ends.
        """
        monkeypatch.setattr(line_module, "MAX_WORD_S", 0.01)
        wire.line.say(1, 0, bytes(900_000))

        assert wire.line.is_lost


class TestRead:
    def test_a_dead_peer_is_gone(self, wire: Wire) -> None:
        """
        Its end ends the line, and whoever reads again is told the same.
        """
        wire.then(wire.peer.lane.close)
        for _ in range(2):
            with pytest.raises(PeerGone):
                read(wire.line, wire.clock.now + 1, NOBODY)

        assert wire.line.is_lost

    def test_a_line_that_is_lost_while_it_is_waited_for_is_gone(self, wire: Wire) -> None:
        """
        What the thread's other duties find out counts here too.
        """
        wire.then(wire.line.lose)
        with pytest.raises(PeerGone):
            read(wire.line, wire.clock.now + 1, NOBODY)

    def test_time_is_up(self, wire: Wire) -> None:
        """
        Nothing came, and nothing is lost.
        """
        with pytest.raises(TimeoutError):
            read(wire.line, wire.clock.now + 1, NOBODY)

        assert not wire.line.is_lost

    def test_nobody_waits_for_a_cancelled_call(self, wire: Wire) -> None:
        """
        What is here is still heard; then it is over.
        """
        current = Current((), 1.0, None, 1)
        current.cancel()
        with pytest.raises(Cancelled):
            read(wire.line, wire.clock.now + 1, current)

        assert wire.waits == 0


class TestLook:
    def test_a_peer_that_floods_is_looked_at_for_a_while(self, wire: Wire) -> None:
        """
        What it says beyond that is for the next look: nobody keeps a thread by speaking.
        """
        word = msgpack.packb([5, 5, 1])
        os.write(wire.peer.lane.fd, (head_of(word) + word) * (MAX_LOOKED + 5))
        wire.line.look()

        assert wire.line.lane.has_more()
        wire.line.look()
        assert not wire.line.lane.has_more()

    def test_it_takes_in_what_is_here(self, wire: Wire) -> None:
        """
        Without waiting: a call that is being served finds its own cancel.
        """
        current = Current((), 1.0, wire.line, 1)
        wire.line.running = {1: current}
        wire.peer.say(9, 4)
        wire.peer.say(1, 4)
        wire.line.look()

        assert current.is_cancelled
        assert wire.waits == 0

    @pytest.mark.parametrize("frame", [None, b"\xc1"])
    def test_the_end_of_the_peer_is_a_cancel(self, wire: Wire, frame: bytes | None) -> None:
        """
        Who has died, or talks nonsense, waits for nothing.
        """
        current = Current((), 1.0, wire.line, 1)
        wire.line.running = {1: current}
        if frame is not None:
            wire.peer.lane.send(frame)
        else:
            wire.peer.lane.close()
        wire.line.look()
        wire.line.look()

        assert current.is_cancelled
        assert wire.line.is_lost

    def test_only_its_own_thread_looks(self, wire: Wire) -> None:
        """
        Another thread reads nothing: a lane belongs to one.
        """
        wire.peer.say(1, 4)
        thread = threading.Thread(target=wire.line.look)
        thread.start()
        thread.join()

        assert wire.line.lane.receive() == msgpack.packb([1, 4])


class TestLose:
    def test_everybody_is_told_once(self, wire: Wire) -> None:
        """
        What waited is lost, with the cause; what was asked for is cancelled; its owner hears of it.
        """
        lost: list[Line] = []
        waiters = [Waiter(), Waiter()]
        for waiter in waiters:
            waiter.call = made_on(wire)
        current = Current((), 1.0, wire.line, 9)
        wire.line.pending = dict(enumerate(waiters))
        wire.line.running = {9: current}
        wire.line.lost = lost.append
        wire.line.lose()
        wire.line.lose()

        for waiter in waiters:
            (error,) = waiter.told
            assert isinstance(error, WorkerLost)
            assert (error.plugin_id, error.cause) == ("calculator", "2 died")
        assert current.is_cancelled
        assert lost == [wire.line]

    def test_a_child_that_was_forked_lets_go(self, wire: Wire) -> None:
        """
        Nothing is said, nobody is told, and the peer sees no end as long as the parent is there.
        """
        parents = os.dup(wire.line.lane.fd)
        waiter = Waiter()
        waiter.call = made_on(wire)
        wire.line.pending = {1: waiter}
        wire.line.leave()
        wire.line.look()

        assert wire.peer.hear_all() == []
        assert waiter.told == []
        os.close(parents)


WORDS = st.one_of(
    st.tuples(st.just("value"), st.integers(0, 4)),
    st.tuples(st.just("error"), st.integers(0, 4)),
    st.tuples(st.just("stream"), st.integers(0, 4)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 4)),
    st.tuples(st.just("late"), st.integers(0, 4)),
)


class TestInterleavings:
    @given(st.lists(WORDS, max_size=12), st.lists(st.integers(0, 4), max_size=5))
    def test_every_call_has_one_outcome(
        self, words: list[tuple[str, int]], waits: list[int]
    ) -> None:
        """
        Values, errors, streams, cancels, deadlines, late answers and the end, in any order: each
        future has exactly one outcome, tells of it once, and nothing is left of it.
        """
        with pytest.MonkeyPatch.context() as patch:
            clock = Clock()
            for module in (caller, future, line_module, lines, waits_module):
                patch.setattr(module, "monotonic", clock.monotonic)
            five = Five(Scripted(clock))
            for what, which in words:
                five.hears(what, which)
            five.have_one_outcome_each([*waits, *range(5)])
            five.scripted.close()


class Five:
    """Five calls under way at once, and what has to come of each."""

    def __init__(self, scripted: Scripted) -> None:
        self.scripted = scripted
        self.wire = scripted.wire()
        math = scripted.stub()
        self.futures: list[Future] = [math.add.submit() for _ in range(5)]
        self.told: list[tuple[Future, object]] = []
        for one in self.futures:
            one.add_done_callback(lambda done: self.told.append((done, _outcome(done))))
        self.numbers = [self.wire.peer.hear_call() for _ in self.futures]
        self.due: dict[int, object] = {}
        self.is_over = self.is_known = False

    def hears(self, what: str, which: int) -> None:
        """Have something happen to a call."""
        if what == "cancel":
            if self.futures[which].cancel():
                self.due[which] = Cancelled
                self.is_known = self.is_over  # saying so shows that the peer is gone
        elif what == "end":
            self.wire.peer.lane.close()
            self.is_over = True
        elif not self.is_over:
            self._says(what, which)

    def _says(self, what: str, which: int) -> None:
        peer, number = self.wire.peer, self.numbers[which]
        outcome: object = None
        if what == "value":
            outcome = "value"
            peer.say(number, 0, outcome)
        elif what == "error":
            outcome = DeadlineExceeded
            peer.fail(number, DeadlineExceeded("math.add", 1))
        elif what == "stream":
            outcome = Stream
            peer.say(number, 2)
        else:
            peer.say(number + 1000, 0, "late")
            return
        self.due.setdefault(which, outcome)

    def have_one_outcome_each(self, order: list[int]) -> None:
        """Look at all outcomes, each more than once."""
        otherwise = WorkerLost if self.is_over else DeadlineExceeded
        for which in order:
            outcome = _outcome(self.futures[which])
            # What was said before an end that another word has shown may be heard no more.
            assert outcome == self.due.get(which, otherwise) or (
                self.is_known and outcome is WorkerLost
            )
        assert sorted(map(id, self.futures)) == sorted(id(future) for future, _ in self.told)
        assert all(outcome == _outcome(future) for future, outcome in self.told)
        self.futures.clear()
        self.told.clear()
        if not self.is_over:
            self.wire.line.send((0, 4))
        assert not self.wire.line.early
        assert not TURN.in_flight
        assert not TURN.waiting


def _outcome(future: Future) -> object:
    try:
        value = future.result()
    except SpiralHostError as error:
        return type(error)
    return Stream if isinstance(value, Stream) else value


@pytest.fixture(autouse=True)
def quiet_turn() -> Iterator[None]:
    """This thread waits for nothing when a test is over."""
    yield
    assert not TURN.waiting
