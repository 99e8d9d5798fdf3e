import asyncio
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from protocol.calls import CREDITS, ERROR, FREE, VALUE, error_of
from protocol.carrier import FUNCTION
from protocol.codec import MAX_MESSAGE
from protocol.errors import (
    DeadlineExceeded,
    Overloaded,
    PermissionDenied,
    RemoteError,
    ServiceUnavailable,
    UsageError,
)
from protocol.lane import Lane
from protocol.line import MAX_HELD
from protocol.messages import Held, WaitOver
from protocol.running import is_cancelled
from protocol.serving import MAX_QUEUED, MAX_RUNNING
from protocol.turn import CURRENT, MAX_CHAIN, NUMBERS, TURN, Current
from tests.descriptors import count_open
from tests.unit.protocol.lines_parts import FOREVER, OWN, THEIRS, Callee, Dynamic, Peer


class Math:
    """The service."""

    def __init__(self, callee: Callee) -> None:
        self.callee = callee
        self.seen: list[object] = []
        self.gate = asyncio.Event()
        self.running = self.most = 0

    def add(self, a: int, b: int = 0) -> int:
        self.seen.append(a)
        return a + b

    def text(self, length: int) -> str:
        return "x" * length

    def look(self) -> bool:
        self.callee.server  # noqa: B018
        for job in tuple(self.seen):
            job()  # type: ignore[operator]
        found = is_cancelled()
        self.seen.append("looked")
        return found

    def who(self) -> object:
        current = CURRENT.get()
        self.seen.append(current)
        return current.chain

    async def sleep(self, number: int = 0) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        self.seen.append(number)
        return number

    async def boom(self, needed: int) -> None:
        raise ValueError(needed)


@pytest.fixture
def math(callee: Callee) -> Math:
    math = Math(callee)
    callee.servant.offer("math", math)
    return math


@pytest.fixture
def peer(callee: Callee, math: Math) -> Dynamic:
    peer = callee.peer()
    yield peer
    peer.lane.close()


class Waiting:
    """The callee waits for its own call 7 of the process 9."""

    def __init__(self, callee: Callee) -> None:
        self._callee = callee

    def __enter__(self) -> None:
        with self._callee.runs():
            TURN.waiting[7] = 9

    def __exit__(self, *_: object) -> None:
        with self._callee.runs():
            TURN.waiting.clear()


@pytest.fixture
def waiting(callee: Callee) -> Waiting:
    return Waiting(callee)


OURS = [[THEIRS, 7, "we"]]
"""The chain of a call that our call 7 has led to."""


class TestCalls:
    def test_calls_are_answered_on_their_lane(self, callee: Callee, math: Math) -> None:
        """
        Each caller gets its own answers, in the order of its calls.
        """
        peers = [callee.peer(n) for n in (40, 41)]
        for n, peer in enumerate(peers):
            peer.call(5, "add", n, 10)
            peer.call(6, "add", n, 20)
        callee.turn()

        assert [peer.outcomes() for peer in peers] == [[(5, 10), (6, 20)], [(5, 11), (6, 21)]]
        assert callee.server.served == 4
        assert len(callee.server) == 2

    def test_who_called_is_known(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        While a handler runs, the chain ends with its own call, and its deadline is the call's.
        """
        peer.call(5, "who", deadline=1e11, chain=[[8, 3, "far"]])

        assert callee.answers(peer) == [(5, [[8, 3, "far"], [OWN, 5, "app"]])]
        (current,) = math.seen
        assert current.deadline == 1e11  # type: ignore[attr-defined]

    def test_arguments_are_looked_at_each_time(self, callee: Callee, peer: Peer) -> None:
        """
        That some have fitted says nothing of others, nor of those that are given by name.
        """
        for number in (5, 6):
            peer.call(number, "add", 1, 2)
        peer.call(7, "add", 1)
        peer.call(8, "add", 1, True)
        peer.say(9, "math", "add", [1], {"b": "2"}, FOREVER, None)
        *fitting, wrong, named = callee.answers(peer)

        assert fitting == [(5, 3), (6, 3), (7, 1)]
        assert "argument 'b' must be int, not bool (True)" in str(wrong[1])
        assert "argument 'b' must be int, not str ('2')" in str(named[1])

    def test_a_plain_value_may_be_too_large(self, callee: Callee, peer: Peer) -> None:
        """
        Its caller is told of the result; one that is only long arrives.
        """
        peer.call(5, "add", 1 << 63, 1 << 63)
        peer.call(6, "text", 40_000)
        peer.call(7, "text", MAX_MESSAGE)
        large, long, longer = callee.answers(peer)

        assert "result: an integer of more than 64 bits; send text" in str(large[1])
        assert long == (6, "x" * 40_000)
        assert "the limit is" in str(longer[1])

    def test_what_nobody_looks_at_goes_back_with_a_plain_value(
        self, callee: Callee, peer: Peer
    ) -> None:
        """
        As with any other answer: who has lent shared memory may use it again.
        """
        (line,) = callee.server._lines
        line.carrier.freed.append(3)
        peer.call(5, "add", 1)
        callee.turn()

        assert peer.hear_all() == [[0, FREE, [3]], [5, VALUE, 1]]

    def test_what_is_not_there_is_refused(self, callee: Callee, peer: Peer) -> None:
        """
        Unknown services and methods are the caller's mistake, and the lane goes on.
        """
        peer.call(5, "sub")
        peer.call(6, "add", service="more")
        peer.call(7, "add", 1)
        (_, first), (_, second), third = callee.answers(peer)

        assert isinstance(first, UsageError)
        assert isinstance(second, ServiceUnavailable)
        assert third == (7, 1)

    def test_a_call_that_comes_too_late_is_not_carried_out(
        self, callee: Callee, math: Math, peer: Peer
    ) -> None:
        """
        A caller that waits no longer gets no side effects either, of whatever kind the method is.
        """
        peer.call(5, "add", 1, deadline=callee.clock.now - 1)
        peer.call(6, "sleep", 1, deadline=callee.clock.now - 1)
        answers = callee.answers(peer)

        assert [type(error) for _, error in answers] == [DeadlineExceeded] * 2
        assert math.seen == []
        assert (callee.counter.calls, callee.counter.errors) == (0, 0)

    def test_what_is_no_call_ends_its_lane_only(self, callee: Callee, math: Math) -> None:
        """
        A caller that sends nonsense loses its lane; the other's goes on.
        """
        first, second = callee.peer(), callee.peer()
        first.lane.send(b"\xc0")
        second.call(5, "add", 3)

        assert callee.answers(second) == [(5, 3)]
        assert callee.closed == [1]
        assert first.is_left

    def test_one_lane_does_not_starve_the_others(self, callee: Callee, math: Math) -> None:
        """
        After so many frames of one caller it is the next one's turn; nothing is left lying.
        """
        busy, other = callee.peer(), callee.peer()
        for n in range(200):
            busy.call(n, "add", n)
        other.call(0, "add", -1)
        with callee.runs():
            callee.reactor.turn(0)
        assert math.seen.index(-1) < 100
        assert callee.server.has_more
        for _ in range(5):
            callee.turn()

        assert [n for n, _ in busy.outcomes()] == [*range(200)]
        assert not callee.server.has_more

    def test_closing_closes_every_lane(self, callee: Callee, math: Math) -> None:
        """
        Nothing is left open, and nobody is told: this process is leaving.
        """
        peers = [callee.peer(), callee.peer()]
        descriptors = count_open()
        callee.die()

        assert count_open() == descriptors - 2
        assert all(peer.is_left for peer in peers)
        assert callee.closed == []

    def test_an_answer_waits_for_room(self, callee: Callee, peer: Peer) -> None:
        """
        A caller that reads slowly gets its answer whole, and holds up nobody meanwhile.
        """

        class Large:
            def body(self) -> bytes:
                return bytes(900_000)

        callee.servant.offer("large", Large())
        other = callee.peer()
        peer.call(5, "body", service="large")
        callee.turn()
        other.call(6, "add", 1)
        assert callee.answers(other) == [(6, 1)]
        answers: list[Any] = []
        while not answers:
            answers = callee.answers(peer)

        assert answers == [(5, bytes(900_000))]


class TestHeld:
    def test_a_strangers_call_is_held_while_the_thread_waits(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        It is answered once the thread waits no longer, and so are those behind it, in order.
        """
        with waiting:
            for n in (1, 2, 3):
                peer.call(n, "add", n)
                with callee.runs():
                    callee.reactor.turn(0)
            assert peer.hear_all() == []
            assert callee.server.has_more

        assert callee.answers(peer) == [(1, 1), (2, 2), (3, 3)]
        assert math.seen == [1, 2, 3]
        assert not callee.server.has_more

    def test_a_call_that_ours_has_led_to_is_answered_at_once(
        self, callee: Callee, peer: Peer, waiting: Waiting
    ) -> None:
        """
        It could not be answered later: the call that we wait for waits for it. Not even strangers'
        calls that came before it on its lane hold it up.
        """
        with waiting, callee.runs():
            peer.call(5, "add", 1, chain=OURS)
            callee.reactor.turn(0)
            assert peer.outcomes() == [(5, 1)]
            peer.call(6, "add", 2)
            peer.call(7, "add", 3, chain=OURS)
            callee.reactor.turn(0)
            assert peer.outcomes() == [(7, 3)]

        assert callee.answers(peer) == [(6, 2)]

    def test_the_node_is_told_what_it_holds_up(
        self, callee: Callee, peer: Peer, waiting: Waiting
    ) -> None:
        """
        A circle over several processes is for the node to see.
        """
        with waiting, callee.runs():
            peer.call(5, "add", 1)
            callee.reactor.turn(0)
            assert 7 in TURN.told

        assert callee.home.told == [Held(waits=7, waits_for=9, holds=5, holds_of=OWN)]
        with callee.runs():
            TURN.told.clear()
        assert WaitOver(7) not in callee.home.told

    def test_reentry_can_be_refused(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        A plugin that asked for it is never entered again; the refusal names the circle.
        """
        callee.server.is_reentrant = False
        with waiting, callee.runs():
            peer.call(5, "add", 1, chain=OURS)
            callee.reactor.turn(0)
        ((_, error),) = peer.outcomes()

        assert isinstance(error, ServiceUnavailable)
        assert "takes no calls while it waits" in str(error)
        assert "we -> app -> here" in str(error)
        assert math.seen == []

    def test_async_def_cannot_be_entered_by_a_thread_that_waits(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        Its loop stands still, so the call that we wait for would wait for ever.
        """
        with waiting, callee.runs():
            peer.call(5, "sleep", chain=OURS)
            callee.reactor.turn(0)
        ((_, error),) = peer.outcomes()

        assert isinstance(error, ServiceUnavailable)
        assert "math.sleep is `async def`" in str(error)

    def test_a_held_call_can_be_cancelled(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        What nobody wants any more is not begun, whether the cancel came before the thread went on
        or lies in the lane.
        """
        with waiting:
            for n in (1, 2, 3):
                peer.call(n, "add", n)
            peer.say(1, 4)
            with callee.runs():
                callee.reactor.turn(0)
            peer.say(3, 4)

        assert callee.answers(peer) == [(2, 2)]
        assert math.seen == [2]

    def test_a_caller_that_dies_takes_its_held_calls_along(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        Nobody is left who wants them.
        """
        with waiting:
            peer.call(1, "add", 1)
            with callee.runs():
                callee.reactor.turn(0)
            peer.lane.close()
        callee.turn()

        assert math.seen == []
        assert callee.closed == [1]

    def test_a_caller_that_is_found_dead_in_its_turn_takes_its_held_calls_along(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        Also when nobody has read its lane since, and without harm to who finds it.
        """
        with waiting:
            peer.call(1, "add", 1)
            with callee.runs():
                callee.reactor.turn(0)
            peer.lane.close()
        with callee.runs():
            callee.server.go_on()

        assert math.seen == []
        assert callee.closed == [1]

    def test_what_is_held_is_bounded(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        From so many bytes on the lane is not read, and from so many calls on they are refused.
        """
        with waiting:
            body = bytes(MAX_MESSAGE // 2)
            sent = 0
            for n in range(8):
                peer.lane.flush()
                peer.call(n, "add", 0, 0, body)
                for _ in range(20):
                    peer.lane.flush()
                    with callee.runs():
                        callee.reactor.turn(0)
                sent += 1
            (line,) = callee.server._lines
            held = sum(size for size, _ in line.held)
            assert MAX_HELD < held <= MAX_HELD + MAX_MESSAGE
        answers: list[Any] = []
        for _ in range(200):
            peer.lane.flush()
            answers += callee.answers(peer)

        assert [n for n, _ in answers] == [*range(sent)]

    def test_the_number_of_held_calls_is_bounded(
        self, callee: Callee, math: Math, peer: Peer, waiting: Waiting
    ) -> None:
        """
        A caller may have so many calls under way, and one that has more is refused.
        """
        with waiting:
            for n in range(CREDITS + 1):
                peer.call(n, "add", n)
            with callee.runs():
                for _ in range(10):
                    callee.reactor.turn(0)
                    callee.server._read(next(iter(callee.server._lines)))
            ((number, error),) = peer.outcomes()
        for _ in range(9):
            callee.turn()

        assert number == CREDITS
        assert isinstance(error, Overloaded)
        assert [n for n, _ in peer.outcomes()] == [*range(CREDITS)]

    def test_who_looks_for_its_own_cancel_begins_nothing(
        self, callee: Callee, math: Math, peer: Peer
    ) -> None:
        """
        What comes meanwhile is held; the cancel is found behind it.
        """
        math.seen = [lambda: peer.call(6, "add", 1), lambda: peer.say(5, 4)]
        peer.call(5, "look")
        callee.turn()
        callee.turn()

        assert math.seen[2:] == ["looked", 1]
        assert peer.outcomes() == [(6, 1)]


class TestAsync:
    def test_it_runs_in_an_event_loop(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        The first `async def` that is called has the loop moved into asyncio, and is held so long.
        """
        peer.call(5, "add", 1)
        callee.turn()
        assert not callee.reactor.needs_asyncio
        math.gate.set()
        peer.call(6, "sleep", 2)
        peer.call(7, "add", 3)

        assert sorted(callee.answers(peer)[1:]) == [(6, 2), (7, 3)]

    def test_a_plain_call_does_not_overtake_what_waits_for_the_loop(
        self, callee: Callee, math: Math, peer: Peer
    ) -> None:
        """
        Calls of one caller are begun in their order.
        """
        math.gate.set()
        peer.call(6, "sleep", 1)
        peer.call(7, "add", 2)
        with callee.runs():
            callee.reactor.turn(0)
            callee.server.go_on()

        assert callee.reactor.needs_asyncio
        assert math.seen == []

    def test_so_many_run_and_the_others_queue(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        Beyond what runs and what queues, calls are refused, with a time after which to try again.
        """
        count = MAX_RUNNING + MAX_QUEUED
        for n in range(count + 1):
            peer.call(n, "sleep", n)
            if not n % 50:
                callee.turn()
        for _ in range(9):
            callee.turn()
        ((number, error),) = peer.outcomes()
        assert number == count
        assert isinstance(error, Overloaded)
        assert error.retry_after > 0
        math.gate.set()
        answers: list[Any] = []
        for _ in range(9):
            answers += callee.answers(peer)

        assert sorted(answers) == [(n, n) for n in range(count)]
        assert math.most == MAX_RUNNING
        assert callee.server._running == 0

    def test_any_number_may_fail_at_once(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        Places that are free again at once, one after the other, are no deeper and deeper recursion.
        """
        for n in range(MAX_RUNNING):
            peer.call(n, "sleep")
        callee.turn()
        for n in range(MAX_QUEUED):
            peer.call(1000 + n, "boom")  # without its argument: it never becomes a task
        for _ in range(9):
            callee.turn()
        assert len(callee.server._queued) == MAX_QUEUED
        math.gate.set()
        answers: dict[int, object] = {}
        for _ in range(9):
            answers.update(callee.answers(peer))

        assert len(answers) == MAX_RUNNING + MAX_QUEUED
        assert all(isinstance(answers[1000 + n], RemoteError) for n in range(MAX_QUEUED))
        assert callee.server._running == 0

    def test_a_call_that_is_cancelled_before_it_has_begun_frees_its_place(
        self, callee: Callee, math: Math, peer: Peer
    ) -> None:
        """
        A task that was stopped before its first step counts no longer as running.
        """
        peer.call(0, "sleep")
        callee.turn()
        for n in range(1, MAX_RUNNING + 5):
            peer.call(n, "sleep", n)
            peer.say(n, 4)
        for _ in range(9):
            callee.turn()

        (line,) = callee.server._lines
        assert callee.server._running == len(line.running) == 1

    def test_streams_under_way_are_bounded(self, callee: Callee, peer: Peer) -> None:
        """
        A caller that begins more than an honest one may is refused.
        """

        class Rows:
            def rows(self) -> Iterator[int]:
                yield 1

        callee.servant.offer("rows", Rows())
        line = next(iter(callee.server._lines))
        line.running.update(dict.fromkeys(range(1000, 1000 + CREDITS), Current((), 1e12, line, 0)))
        peer.call(5, "rows", service="rows")
        [(number, error)] = callee.answers(peer)
        line.running.clear()

        assert number == 5
        assert isinstance(error, Overloaded)

    def test_a_number_is_used_once(self, callee: Callee, peer: Peer) -> None:
        """
        Else what was begun would be forgotten, and go on for ever.
        """
        closed: list[int] = []

        class Rows:
            def rows(self, number: int) -> Iterator[int]:
                try:
                    while True:
                        yield number
                finally:
                    closed.append(number)

        callee.servant.offer("rows", Rows())
        for n in range(3):
            peer.call(5, "rows", n, service="rows")
        callee.turn()
        refused = [parts for parts in peer.hear_all() if parts[1] == ERROR]
        assert len(refused) == 2
        assert "the number of another that is under way" in str(error_of(refused[0]))
        peer.say(5, 4)
        callee.turn()
        assert closed == [0]
        assert not callee.counter.running

    def test_what_came_with_a_functions_answer_is_served(
        self, callee: Callee, math: Math, peer: Peer
    ) -> None:
        """
        A generator goes on when its thread waits no longer, and calls back. No poll announces what
        came with the answer.
        """
        functions: list[Dynamic] = []

        class Rows:
            def rows(self, function: Dynamic) -> Iterator[int]:
                functions.append(function)
                yield from range(CREDITS)

        callee.servant.offer("rows", Rows())
        function = msgpack.ExtType(FUNCTION, msgpack.packb(55))
        peer.say(5, "rows", "rows", [function], None, FOREVER, None)
        callee.turn()
        peer.hear_all()
        given: list[object] = []
        number = next(NUMBERS) + 1
        call = (8, "math", "add", [1, 2], None, FOREVER, None)
        peer.lane.send_both(msgpack.packb((number, VALUE, "back")), msgpack.packb(call))
        with callee.runs():
            TURN.later.append(lambda: given.append(functions[0](1)))
            callee.server.go_on()
        callee.turn()

        assert given == ["back"]
        assert (8, 3) in peer.outcomes()[1:]
        assert math.seen == [1]

    @pytest.mark.parametrize(("waiting", "answered"), [(MAX_CHAIN, 3), (MAX_CHAIN + 1, None)])
    def test_calls_within_calls_are_bounded(
        self, callee: Callee, peer: Peer, waiting: int, answered: int | None
    ) -> None:
        """
        A caller that hides how long its chain is does not fill the stack of this thread.
        """
        with callee.runs():
            TURN.waiting.update(dict.fromkeys(range(1000, 1000 + waiting), 1))
        peer.call(5, "add", 1, 2, chain=[[callee.home.own(), 1000, "callee"]])
        [(number, answer)] = callee.answers(peer)

        assert number == 5
        if answered is not None:
            assert answer == answered
        else:
            assert isinstance(answer, ServiceUnavailable)
            assert "waits for more than 32 calls" in str(answer)

    def test_a_queued_call_can_be_cancelled(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        What nobody wants any more is not begun, nor counted.
        """
        for n in range(MAX_RUNNING + 2):
            peer.call(n, "sleep", n)
        for _ in range(3):
            callee.turn()
        peer.say(MAX_RUNNING, 4)
        callee.turn()
        math.gate.set()
        for _ in range(3):
            callee.turn()

        assert MAX_RUNNING not in math.seen
        assert MAX_RUNNING + 1 in math.seen
        assert callee.server._running == 0

    def test_queued_calls_of_the_dead_are_not_begun(
        self, callee: Callee, math: Math, peer: Peer
    ) -> None:
        """
        A caller that has died takes them along, running and queued, and frees their places.
        """
        other = callee.peer()
        for n in range(MAX_RUNNING + 2):
            peer.call(n, "sleep", n)
        for _ in range(3):
            callee.turn()
        other.call(500, "sleep", 500)
        callee.turn()
        peer.lane.close()
        math.gate.set()
        for _ in range(5):
            callee.turn()

        assert callee.closed == [1]
        assert other.outcomes() == [(500, 500)]
        assert math.seen == [500]
        assert callee.server._running == 0


class TestAdmission:
    def test_a_lane_serves_what_its_caller_may_call(self, callee: Callee, math: Math) -> None:
        """
        Not all that the callee offers, though there is no other lane; the next call is served.
        """
        callee.servant.offer("admin", Math(callee))
        peer = Peer(Lane(callee.accept(services=("math",))))
        peer.call(5, "add", 1, service="admin")
        peer.call(6, "add", 2)
        (_, refused), (_, value) = callee.answers(peer)

        assert isinstance(refused, PermissionDenied)
        assert (refused.permission, refused.what, refused.plugin_id) == (
            "services",
            "'admin'",
            "app",
        )
        assert (value, math.seen) == (2, [2])
        peer.lane.close()

    def test_a_lane_serves_as_often_as_its_caller_may_call(
        self, callee: Callee, math: Math
    ) -> None:
        """
        A call beyond that is answered at once, and not run.
        """
        peer = Peer(Lane(callee.accept(call_rate=0.001)))
        for number in range(5):
            peer.call(number, "add", number)
        answers = [value for _, value in callee.answers(peer)]

        assert answers[0] == 0
        assert [type(answer) for answer in answers[1:]] == [Overloaded] * 4
        assert math.seen == [0]
        peer.lane.close()
