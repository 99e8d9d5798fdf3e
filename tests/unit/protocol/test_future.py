import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from protocol.calls import WINDOW
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    RemoteError,
    RemoteProtocolError,
    UsageError,
    WorkerLost,
)
from protocol.future import Future, Stream
from protocol.stub import Options
from protocol.turn import TURN
from tests.unit.protocol.lines_parts import Callee, Dynamic, Gives, Process, Scripted, Wire


@pytest.fixture
def wire(scripted: Scripted) -> Wire:
    return scripted.wire()


@pytest.fixture
def math(scripted: Scripted, wire: Wire) -> Dynamic:
    return scripted.stub()


def elsewhere(work: Callable[[], object]) -> BaseException | None:
    """Run something in another thread; give what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


class TestFuture:
    def test_nothing_is_waited_for(self, math: Dynamic, wire: Wire) -> None:
        """
        Submitting sends the call, and no more.
        """
        future = math.add.submit(1)

        assert wire.waits == 0
        assert wire.peer.hear()[3] == [1]
        assert (future.done(), future.cancelled()) == (False, False)

    def test_answers_may_come_in_any_order(self, math: Dynamic, wire: Wire) -> None:
        """
        Each future has its own; waiting for one takes in the others'.
        """
        first, second = math.add.submit(), math.add.submit()
        one, two = wire.peer.hear_call(), wire.peer.hear_call()
        wire.then(lambda: wire.peer.say(two, 0, "2"), lambda: wire.peer.say(one, 0, "1"))

        assert first.result() == "1"
        assert second.done()
        assert second.result(timeout=0.001) == "2"
        assert second.exception() is None
        assert not wire.plan

    def test_an_error_is_given_or_raised(self, math: Dynamic, wire: Wire) -> None:
        """
        As often as it is asked for, also one that is a TimeoutError of the plugin's.
        """
        future = math.add.submit()
        error = RemoteError("math.add", "TimeoutError", "no", "", "TimeoutError")
        wire.then(lambda: wire.peer.fail(wire.peer.hear_call(), error))

        for _ in range(2):
            with pytest.raises(RemoteError):
                future.result()
        assert isinstance(future.exception(), RemoteError)
        assert not future.cancelled()

    def test_a_wait_may_be_shorter_than_the_call(self, math: Dynamic, wire: Wire) -> None:
        """
        The call goes on, and nobody is told anything.
        """
        future = math.add.submit()
        with pytest.raises(TimeoutError):
            future.result(timeout=1)
        assert not future.done()
        number = wire.peer.hear_call()
        assert wire.peer.hear_all() == []
        wire.then(lambda: wire.peer.say(number, 0, 3))

        assert future.result() == 3

    def test_the_deadline_is_an_outcome(self, math: Dynamic, wire: Wire) -> None:
        """
        A late answer changes nothing any more, and the callee has been told.
        """
        future = math.add.submit()
        number = wire.peer.hear_call()
        with pytest.raises(DeadlineExceeded):
            future.result(timeout=1000)
        assert wire.peer.hear_all() == [[number, 4]]
        wire.then(lambda: wire.peer.say(number, 0, 3), wire.answer(4))

        assert math.add() == 4
        assert isinstance(future.exception(), DeadlineExceeded)

    def test_it_can_be_cancelled_once(self, math: Dynamic, wire: Wire) -> None:
        """
        The callee is told, and what it says all the same is not heard.
        """
        future = math.add.submit()
        assert future.cancel()
        assert not future.cancel()
        number = wire.peer.hear_call()
        assert wire.peer.hear_all() == [[number, 4]]
        wire.then(lambda: wire.peer.say(number, 0, 3), wire.answer(4))
        assert math.add() == 4

        assert future.cancelled()
        with pytest.raises(Cancelled):
            future.result()
        assert not TURN.in_flight

    def test_what_is_there_cannot_be_cancelled(self, math: Dynamic, wire: Wire) -> None:
        """
        It stays what it is, and nobody is told.
        """
        future = math.add.submit()
        wire.then(wire.answer(3))
        future.result()

        assert not future.cancel()
        assert future.result() == 3
        assert wire.peer.hear_all() == []

    def test_a_death_is_told_to_each(self, math: Dynamic, wire: Wire) -> None:
        """
        Those that had their answer keep it.
        """
        futures = [math.add.submit() for _ in range(3)]
        wire.then(wire.answer("in time"), wire.peer.lane.close)
        wire.then()

        with pytest.raises(WorkerLost):
            futures[2].result()
        assert futures[0].result() == "in time"
        assert isinstance(futures[1].exception(), WorkerLost)
        assert not TURN.in_flight

    def test_the_cause_is_waited_for_until_the_first_deadline(
        self, math: Dynamic, wire: Wire
    ) -> None:
        """
        None of them is told late; the node is asked once for all.
        """
        futures = [math.add.submit(timeout=timeout) for timeout in (4.0, 2.0, 3.0)]
        wire.then(wire.peer.lane.close)

        for future in futures:
            assert isinstance(future.exception(), WorkerLost)
        assert wire.home.mourned == [(2, wire.clock.now + 2.0)]

    def test_who_listens_is_told_once(self, math: Dynamic, wire: Wire) -> None:
        """
        When the outcome comes, in the thread that waits; at once if it is there.
        """
        future = math.add.submit()
        seen: list[tuple[str, object]] = []
        future.add_done_callback(lambda done: seen.append(("early", done.result())))
        wire.then(wire.answer(3))
        assert seen == []
        future.result()
        future.add_done_callback(lambda done: seen.append(("late", done.result())))
        future.result()

        assert seen == [("early", 3), ("late", 3)]

    def test_what_a_listener_raises_is_its_own_trouble(
        self, math: Dynamic, wire: Wire, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """
        Whoever waits meanwhile gets what it waits for, and so do the other listeners.
        """
        futures = [math.add.submit() for _ in range(3)]
        told: list[Future] = []

        def bad(_: Future) -> None:
            raise ValueError("a listener's own")

        for future in futures:
            future.add_done_callback(bad)
            future.add_done_callback(told.append)
        wire.then(wire.answer(1), wire.peer.lane.close)

        assert futures[0].result() == 1
        assert isinstance(futures[1].exception(), WorkerLost)
        assert isinstance(futures[2].exception(), WorkerLost)
        assert told == futures
        assert capfd.readouterr().err.count("a listener's own") >= 3

    def test_it_belongs_to_its_thread(self, math: Dynamic, wire: Wire) -> None:
        """
        Another thread that waits for it is refused, and it is none the worse for it.
        """
        future = math.add.submit()

        assert isinstance(elsewhere(future.result), UsageError)
        assert not future.done()
        wire.then(wire.answer(3))
        assert future.result() == 3
        assert elsewhere(future.result) is None

    def test_a_result_of_another_type_is_an_error(self, scripted: Scripted) -> None:
        """
        What was asked for by annotations is held to them, and the next answer is heard.
        """

        class Adds:
            def add(self) -> int:
                return 0

        wire = scripted.wire()
        future = scripted.stub(Options(kind=Adds)).add.submit()
        wire.then(wire.answer("3"))

        with pytest.raises(RemoteProtocolError):
            future.result()
        assert not wire.line.is_lost

    def test_what_a_results_constructor_raises_is_its_own(self, scripted: Scripted) -> None:
        """
        The line goes on, and whoever waits for another call meanwhile hears nothing of it.
        """

        wire = scripted.wire()
        stub = scripted.stub(Options(kind=Gives))
        future = stub.give.submit()
        wire.then(wire.answer({"value": -1}), wire.answer(3))

        assert stub.add() == 3
        assert future.done()
        with pytest.raises(ArithmeticError, match="negative"):
            future.result()

    def test_it_may_be_a_stream(self, math: Dynamic, wire: Wire) -> None:
        """
        A future of a generator gives what it yields.
        """
        future = math.rows.submit()
        number = wire.peer.hear_call()
        for parts in ([number, 2], [number, 3, "a"], [number, 0, None]):
            wire.peer.say(*parts)

        assert list(future.result()) == ["a"]


class Rows:
    """A service of generators."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = 0

    def rows(self, count: int) -> Iterator[int]:
        try:
            for number in range(count):
                self.given += 1
                yield number
        finally:
            self.closed += 1

    def fail(self) -> Iterator[int]:
        yield 1
        raise OSError("no")

    def add(self, a: int) -> int:
        return a


@pytest.fixture
def rows(callee: Callee) -> Rows:
    rows = Rows()
    callee.servant.offer("math", rows)
    return rows


class TestStream:
    def test_all_that_is_yielded_comes(self, rows: Rows, process: Process) -> None:
        """
        In order and once, however many windows it takes; the writer is never far ahead.
        """
        taken = 0
        for number in process.stub().rows(10 * WINDOW):
            assert number == taken
            taken += 1
            assert rows.given <= taken + WINDOW

        assert taken == 10 * WINDOW
        assert rows.closed == 1

    def test_calls_may_be_made_meanwhile(self, rows: Rows, process: Process) -> None:
        """
        Two streams and a call share a lane.
        """
        math = process.stub()
        pairs = []
        for one, other in zip(math.rows(50), math.rows(50), strict=True):
            pairs.append((one, other, math.add(one)))

        assert pairs == [(n, n, n) for n in range(50)]
        assert process.opened == 1

    @pytest.mark.parametrize("how", ["close", "drop", "drop in another thread"])
    def test_one_that_is_abandoned_closes_its_generator(
        self, rows: Rows, process: Process, callee: Callee, how: str
    ) -> None:
        """
        However it is let go, the generator's `finally` runs; from another thread, with the next
        call, for only its own thread speaks on a lane.
        """
        math = process.stub()
        held = [math.rows(1000)]
        assert next(held[0]) == 0
        if how == "close":
            held[0].close()
            held[0].close()
            assert list(held[0]) == []
        elif how == "drop":
            held.clear()
            gc.collect()
        else:
            elsewhere(held.clear)
            math.add(1)
        callee.turn()

        assert rows.closed == 1
        assert math.add(2) == 2

    def test_one_that_was_never_begun_is_closed_too(
        self, rows: Rows, process: Process, callee: Callee
    ) -> None:
        """
        A stream that nobody looked at has a generator all the same.
        """
        process.stub().rows(1000)
        gc.collect()
        callee.turn()

        assert rows.closed == 1

    def test_its_error_comes_last(self, rows: Rows, process: Process) -> None:
        """
        What was yielded before is given; an OSError of the plugin's is the plugin's.
        """
        math = process.stub()
        stream = math.fail()

        assert next(stream) == 1
        with pytest.raises(OSError, match="no") as raised:
            next(stream)
        assert isinstance(raised.value, RemoteError)
        assert list(stream) == []
        assert math.add(1) == 1

    def test_a_death_is_told_after_what_came(self, math: Dynamic, wire: Wire) -> None:
        """
        A stream that breaks off never looks like one that has ended.
        """
        stream = begun(math, wire)
        wire.peer.say(number_of(stream), 3, "a")
        wire.then(wire.peer.lane.close)

        assert next(stream) == "a"
        with pytest.raises(WorkerLost):
            next(stream)
        assert len(wire.home.mourned) == 1

    def test_a_death_that_another_call_found_out_is_told_too(
        self, math: Dynamic, wire: Wire
    ) -> None:
        """
        Whoever noticed it.
        """
        stream = begun(math, wire)
        wire.line.lose()

        with pytest.raises(WorkerLost):
            next(stream)

    def test_the_deadline_is_for_all_of_it(self, math: Dynamic, wire: Wire) -> None:
        """
        A writer that falls silent is given up, and told; then it is over.
        """
        stream = begun(math, wire)
        with pytest.raises(DeadlineExceeded):
            next(stream)

        assert wire.peer.hear_all() == [[number_of(stream), 4]]
        assert list(stream) == []

    def test_a_writer_that_sends_more_than_was_asked_for_loses_its_lane(
        self, math: Dynamic, wire: Wire
    ) -> None:
        """
        What waits for a slow reader is bounded by the reader.
        """
        stream = begun(math, wire)
        for number in range(WINDOW + 1):
            wire.peer.say(number_of(stream), 3, number)
        other = math.add.submit()
        with pytest.raises((RemoteProtocolError, WorkerLost)):
            other.result()

        assert wire.line.is_lost
        assert [next(stream) for _ in range(WINDOW)] == [*range(WINDOW)]
        with pytest.raises(WorkerLost):
            next(stream)

    def test_credit_is_given_by_halves(self, math: Dynamic, wire: Wire) -> None:
        """
        One word for many items, before the writer runs dry.
        """
        stream = begun(math, wire)
        number = number_of(stream)
        for n in range(WINDOW):
            wire.peer.say(number, 3, n)
        for _ in range(WINDOW // 2 - 1):
            next(stream)
        assert wire.peer.hear_all() == []
        next(stream)

        assert wire.peer.hear_all() == [[number, 5, WINDOW // 2]]

    def test_it_belongs_to_its_thread(self, math: Dynamic, wire: Wire) -> None:
        """
        Another thread cannot read it.
        """
        stream = begun(math, wire)

        assert isinstance(elsewhere(lambda: next(stream)), UsageError)

    def test_items_are_held_to_annotations(self, scripted: Scripted) -> None:
        """
        An item of another type is the callee's fault.
        """

        class Kind:
            def rows(self) -> Iterator[int]:
                raise NotImplementedError

        wire = scripted.wire()
        stream = begun(scripted.stub(Options(kind=Kind)), wire)
        wire.peer.say(number_of(stream), 3, 1)
        wire.peer.say(number_of(stream), 3, "x")

        assert next(stream) == 1
        with pytest.raises(RemoteProtocolError, match="gave something else"):
            next(stream)


def begun(math: Dynamic, wire: Wire) -> Stream:
    wire.then(lambda: wire.peer.say(wire.peer.hear_call(), 2))
    stream = math.rows()
    assert isinstance(stream, Stream)
    return stream


def number_of(stream: Stream) -> int:
    return stream._inbox.made.number
