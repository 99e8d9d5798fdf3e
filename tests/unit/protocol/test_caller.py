import asyncio
import os
import random

import pytest

from protocol import caller as caller_module
from protocol.admission import CallRate
from protocol.calls import CREDITS
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    Overloaded,
    RemoteError,
    ServiceUnavailable,
    UsageError,
    WorkerLost,
)
from protocol.reactor import Reactor
from protocol.throttle import ATTEMPTS
from protocol.turn import CURRENT, TURN, Current
from tests.unit.protocol.lines_parts import Callee, Dynamic, Process, Scripted, Wire


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lost calls made again at once."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


class Mortal:
    """A service whose process dies in the middle of a call, so many times."""

    def __init__(self, process: Process, deaths: int) -> None:
        self.process = process
        self.deaths = deaths
        self.calls = 0

    def add(self) -> int:
        self.calls += 1
        if self.deaths:
            self.deaths -= 1
            callee = self.process.callee
            assert callee is not None
            for line in tuple(callee.server._lines):
                line.lose()
        return self.calls


@pytest.fixture
def mortal(callee: Callee, process: Process) -> Mortal:
    mortal = Mortal(process, deaths=0)
    callee.servant.offer("math", mortal)
    return mortal


class TestAtMostOnce:
    def test_a_lost_call_is_not_made_again(self, process: Process, mortal: Mortal) -> None:
        """
        Nobody knows how far it came, so the caller is told, and nothing is repeated.
        """
        mortal.deaths = 1
        math = process.stub()
        with pytest.raises(WorkerLost):
            math.add()
        mortal.deaths = 1
        future = math.add.submit()
        with pytest.raises(WorkerLost):
            future.result()

        assert (mortal.calls, process.opened) == (2, 2)

    def test_a_callee_that_was_gone_before_is_replaced(self, scripted: Scripted) -> None:
        """
        A call that could not leave is made of the successor, unnoticed.
        """
        first, second, third = scripted.wire(), scripted.wire(), scripted.wire()
        math = scripted.stub()
        first.peer.lane.close()
        second.then(second.answer(3))
        assert math.add() == 3
        second.peer.lane.close()
        third.then(third.answer(4))

        assert math.add.submit().result() == 4
        assert first.line.is_lost
        assert second.line.is_lost

    def test_no_successor_is_told(self, scripted: Scripted) -> None:
        """
        When nobody takes over, the call was not carried out and says so.
        """
        wire = scripted.wire()
        math = scripted.stub()
        wire.peer.lane.close()

        with pytest.raises(ServiceUnavailable):
            math.add()
        with pytest.raises(ServiceUnavailable):
            math.add.submit()

    def test_successors_that_are_gone_too_cost_the_deadline_and_no_more(
        self, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A caller does not run after dead callees for ever.
        """
        open_line = scripted.open_line

        def open_dead(service: str, deadline: float, *, wait: bool) -> Dynamic:
            scripted.clock.now += 1
            scripted.wire().peer.lane.close()
            return open_line(service, deadline, wait=wait)

        monkeypatch.setattr(scripted, "open_line", open_dead)
        scripted.wire().peer.lane.close()
        math = scripted.stub()
        for call in (math.add, math.add.submit):
            with pytest.raises(DeadlineExceeded):
                call()

        assert len(scripted.made) <= 64


class TestIdempotent:
    def test_it_is_made_again(self, process: Process, mortal: Mortal) -> None:
        """
        A call that does no harm twice is made again when it was lost, unnoticed.
        """
        process.idempotent = ("add",)
        mortal.deaths = ATTEMPTS - 1

        assert process.stub().add() == ATTEMPTS

    def test_it_is_made_so_often_and_no_more(self, process: Process, mortal: Mortal) -> None:
        """
        Who loses it each time is told in the end.
        """
        process.idempotent = ("add",)
        mortal.deaths = 99
        with pytest.raises(WorkerLost):
            process.stub().add()

        assert mortal.calls == ATTEMPTS

    def test_another_method_is_not(self, process: Process, mortal: Mortal) -> None:
        """
        What one method allows says nothing of the others, nor of another service's of that name.
        """
        process.idempotent = ("sub",)
        mortal.deaths = 1
        with pytest.raises(WorkerLost):
            process.stub().add()

        assert mortal.calls == 1

    def test_a_plugins_own_error_is_an_answer(self, scripted: Scripted) -> None:
        """
        An error that says "lost" about another call does not have this one made again.
        """
        scripted.idempotent = {("math", "add")}
        wire = scripted.wire()
        error = RemoteError("math.add", "WorkerLost", "another was lost")
        wire.then(lambda: wire.peer.fail(wire.peer.hear_call(), error))
        with pytest.raises(RemoteError):
            scripted.stub().add()

        assert wire.peer.hear_all() == []

    def test_a_callee_that_always_dies_is_not_called_much_more_often(
        self, process: Process, mortal: Mortal
    ) -> None:
        """
        A hundred calls to it are at most 1.2 attempts each.
        """
        process.idempotent = ("add",)
        mortal.deaths = 1000
        math = process.stub()
        for _ in range(100):
            with pytest.raises(WorkerLost):
                math.add()

        assert 100 < mortal.calls <= 120

    def test_answers_make_up_for_losses(self, process: Process, mortal: Mortal) -> None:
        """
        A callee that answers again for a while has its lost calls made again.
        """
        process.idempotent = ("add",)
        mortal.deaths = 100
        math = process.stub()
        for _ in range(95):
            with pytest.raises(WorkerLost):
                math.add()
        mortal.deaths = 0
        for _ in range(100):
            math.add()
        mortal.deaths = 1

        assert math.add() == mortal.calls

    def test_not_after_the_deadline(
        self, process: Process, mortal: Mortal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A wait that would outlast the deadline is not begun: the loss is told at once.
        """
        monkeypatch.setattr(caller_module, "delay_s", lambda attempts, chance: 31.0)
        process.idempotent = ("add",)
        mortal.deaths = 1
        with pytest.raises(WorkerLost):
            process.stub().add()

        assert mortal.calls == 1

    def test_a_thread_with_a_loop_does_its_duties_meanwhile(
        self, process: Process, mortal: Mortal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Between two attempts the thread waits as it waits for calls: no new one is begun.
        """
        process.idempotent = ("add",)
        mortal.deaths = 1
        math = process.stub()
        waits: list[tuple[int, bool]] = []

        class Loop(Reactor):
            def wait_for(self, fd: int, deadline: float) -> bool:
                waits.append((fd, bool(TURN.waiting)))
                return False

        reactor = Loop()
        monkeypatch.setattr(TURN, "reactor", reactor)

        def reopened(service: str, deadline: float, *, wait: bool) -> Dynamic:
            monkeypatch.setattr(TURN, "reactor", None)
            return Process.open_line(process, service, deadline, wait=wait)

        monkeypatch.setattr(process, "open_line", reopened)
        assert math.add() == 2
        reactor.close()

        assert waits == [(-1, True)]
        assert not TURN.waiting


class TestSubmit:
    @pytest.fixture
    def wire(self, scripted: Scripted) -> Wire:
        return scripted.wire()

    def test_calls_under_way_are_bounded(self, scripted: Scripted, wire: Wire) -> None:
        """
        Who submits faster than is answered waits, as the callee's next answer lets it go on.
        """
        math = scripted.stub()
        first = math.add.submit()
        for _ in range(CREDITS - 1):
            math.add.submit()
        assert wire.waits == 0
        wire.then(wire.answer(1))
        math.add.submit()

        assert wire.waits == 1
        assert first.done()
        assert len(wire.line.pending) == CREDITS

    def test_a_thread_that_waits_for_room_is_one_that_waits(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        Calls of others are held meanwhile, as in any wait.
        """
        math = scripted.stub()
        futures = [math.add.submit() for _ in range(CREDITS)]
        seen: list[bool] = []

        def look() -> None:
            seen.append(bool(TURN.waiting))
            wire.answer(1)()

        wire.then(look)
        math.add.submit()

        assert seen == [True]
        assert not TURN.waiting
        assert futures[0].result() == 1

    def test_room_that_does_not_come_is_a_deadline(self, scripted: Scripted, wire: Wire) -> None:
        """
        A callee that answers nothing costs the caller its deadline, and the call did not leave.
        """
        math = scripted.stub()
        for _ in range(CREDITS):
            math.add.submit()
        wire.peer.hear_all()
        with pytest.raises(DeadlineExceeded):
            math.add.submit(timeout=1)

        assert wire.peer.hear_all() == []

    def test_calls_that_are_late_make_room(self, scripted: Scripted, wire: Wire) -> None:
        """
        What nobody waits for, and is not answered, does not keep its place for ever.
        """
        math = scripted.stub()
        late = [math.add.submit(timeout=1) for _ in range(CREDITS)]
        wire.peer.hear_all()
        wire.clock.now += 2
        math.add.submit()

        assert len(wire.line.pending) == 1
        assert all(isinstance(one.exception(), DeadlineExceeded) for one in late)

    def test_a_callee_that_dies_meanwhile_is_replaced(self, scripted: Scripted, wire: Wire) -> None:
        """
        The call that waited for room goes to the successor; those under way are lost.
        """
        second = scripted.wire()
        math = scripted.stub()
        futures = [math.add.submit() for _ in range(CREDITS)]
        wire.then(wire.peer.lane.close)
        second.then(second.answer(3))

        assert math.add.submit().result() == 3
        assert all(isinstance(future.exception(), WorkerLost) for future in futures)

    def test_nobody_waits_for_room_for_a_cancelled_call(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        When the call that led to it is cancelled, the wait for room is over, by the call's name.
        """
        math = scripted.stub()
        for _ in range(CREDITS):
            math.add.submit()
        current = Current((), float("inf"), None, 1)
        current.cancel()
        token = CURRENT.set(current)
        try:
            with pytest.raises(Cancelled, match=r"math\.add"):
                math.add.submit()
        finally:
            CURRENT.reset(token)


class TestRate:
    def test_a_call_beyond_the_rate_is_not_made(self, process: Process, mortal: Mortal) -> None:
        """
        Waited for, submitted or awaited: it is refused before it leaves, with the limit's name.
        """
        process.caller.rate = CallRate(0.001)
        math = process.stub()
        assert math.add() == 1
        with pytest.raises(Overloaded, match="call_rate"):
            math.add()
        with pytest.raises(Overloaded, match="call_rate"):
            math.add.submit()
        with pytest.raises(Overloaded, match="call_rate"):
            asyncio.run(awaited(math))

        assert mortal.calls == 1


async def awaited(math: Dynamic) -> object:
    return await math.aio.add()


class TestFork:
    def test_a_child_has_no_stubs(self, process: Process, mortal: Mortal) -> None:
        """
        A forked child that calls is refused, and what it does leaves its parent's lanes alone.
        """
        math = process.stub()
        assert math.add() == 1
        future = math.add.submit()

        code = _in_child(lambda: _refused(math.add) and _refused(math.add.submit))
        assert code == 0
        assert future.result() == 2
        assert math.add() == 3

    def test_a_child_cannot_wait_for_its_parents_calls(
        self, process: Process, mortal: Mortal
    ) -> None:
        """
        A future that was copied by a fork belongs to the parent, and says so in the child.
        """
        math = process.stub()
        future = math.add.submit()

        assert _in_child(lambda: _refused(future.result)) == 0
        assert future.result() == 1

    def test_a_child_that_drops_a_stream_does_not_end_it(self, scripted: Scripted) -> None:
        """
        Nothing that a child lets go of is said on its parent's lanes.
        """
        wire = scripted.wire()
        wire.then(lambda: wire.peer.say(wire.peer.hear_call(), 2))
        stream = scripted.stub().rows()

        assert _in_child(lambda: stream.close() or True) == 0
        assert wire.peer.hear_all() == []


def _refused(call: Dynamic) -> bool:
    try:
        call()
    except UsageError:
        return True
    return False


def _in_child(check: Dynamic) -> int:
    """Run something in a forked child; 0 if it says that it is so."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
