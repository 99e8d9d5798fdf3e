import msgpack
import pytest

from protocol.errors import WorkerLost
from protocol.lines import IDLE_S, Lines
from protocol.reactor import Reactor
from protocol.turn import TURN
from tests.clock import Clock
from tests.unit.protocol.lines_parts import Callee, Dynamic, Home, Process, Scripted, Wire


class Math:
    """The service."""

    def add(self, a: int, b: int) -> int:
        return a + b


class TestKeep:
    def test_one_line_serves_all_services_of_a_callee(
        self, callee: Callee, process: Process
    ) -> None:
        """
        A second service of the same process needs no second lane, and adds what may be repeated.
        """
        callee.servant.offer("math", Math())
        callee.servant.offer("more", Math())
        process.idempotent = ("add",)
        math, more = process.stub(), process.stub("more")
        callee.turn()

        assert len(callee.server) == 1
        assert more.add(1, 1) == math.add(1, 1) == 2
        (line,) = set(process.caller.lines.by_service.values())
        assert line.idempotent == {("math", "add"), ("more", "add")}

    def test_another_process_has_its_own(self, clock: Clock, process: Process) -> None:
        """
        Each callee has a line.
        """
        other = Callee(clock, incarnation=3)
        lines = Lines()
        first = lines.keep("math", process.open_line("math", 1e12, wait=True))
        second = lines.keep("more", other.line(process, service="more"))

        assert first is not second
        lines.close()
        other.close()

    def test_what_is_not_used_is_closed(self, scripted: Scripted) -> None:
        """
        When another is opened: a line that was idle for long, and not one whose answer is awaited.
        """
        lines = Lines()
        wires = [Wire(scripted.clock, Home()) for _ in range(4)]
        for number, wire in enumerate(wires):
            wire.line.peer = number
        idle, awaited, busy, fresh = wires
        now = scripted.clock.now
        for wire, used in ((idle, now), (awaited, now), (busy, now + 2)):
            lines.keep(f"s{wire.line.peer}", wire.line)
            wire.line.used = used
        awaited.line.pending[1] = None  # type: ignore[assignment]
        scripted.clock.now = now + IDLE_S + 1
        lines.keep("s3", fresh.line)
        awaited.line.pending.clear()

        assert [wire.line.is_lost for wire in wires] == [True, False, False, False]
        assert sorted(lines.by_service) == ["s1", "s2", "s3"]
        lines.close()
        assert not lines.by_service

    def test_a_line_that_was_never_used_is_not_idle(self, scripted: Scripted) -> None:
        """
        A stub that was asked for early keeps its lane until its first call.
        """
        lines = Lines()
        first, second = (Wire(scripted.clock, Home()) for _ in range(2))
        second.line.peer = 9
        lines.keep("math", first.line)
        scripted.clock.now += 10 * IDLE_S
        lines.keep("more", second.line)

        assert not first.line.is_lost
        lines.close()

    def test_a_lost_line_is_forgotten(self, scripted: Scripted) -> None:
        """
        The next call of any of its services opens another.
        """
        lines = Lines()
        wire = Wire(scripted.clock, Home())
        lines.keep("math", wire.line)
        lines.keep("more", wire.line)
        wire.line.lose()

        assert not lines.by_service
        fresh = Wire(scripted.clock, Home())
        assert lines.keep("math", fresh.line) is fresh.line
        lines.close()


class TestServingThread:
    """Lines of a thread that has a loop."""

    @pytest.fixture(autouse=True)
    def reactor(self, monkeypatch: pytest.MonkeyPatch) -> Dynamic:
        """This thread serves calls: it has a loop."""
        reactor = Reactor()
        monkeypatch.setattr(TURN, "reactor", reactor)
        yield reactor
        TURN.at_end.clear()
        reactor.close()

    def test_what_comes_early_is_taken_in(self, scripted: Scripted, reactor: Reactor) -> None:
        """
        A future's answer is heard while the thread does something else.
        """
        wire = scripted.wire()
        future = scripted.stub().add.submit()
        wire.answer(3)()
        reactor.turn(0)

        assert future.done()
        assert future.result() == 3

    def test_its_duties_go_on_while_it_waits(self, scripted: Scripted, reactor: Reactor) -> None:
        """
        A call is waited for in the thread's own loop.
        """
        import os

        wire = scripted.wire()
        fd = os.eventfd(1)

        def duty() -> None:
            os.eventfd_read(fd)
            wire.answer(3)()

        reactor.watch(fd, duty)
        value = scripted.stub().add()
        reactor.forget(fd)
        os.close(fd)

        assert value == 3

    def test_answers_that_come_together_are_all_taken_in(
        self, scripted: Scripted, reactor: Reactor
    ) -> None:
        """
        What came with an answer is no news to the poll, and is taken in with it.
        """
        wire = scripted.wire()
        add = scripted.stub().add
        futures = [add.submit(1), add.submit(2)]
        first, second = (msgpack.packb([wire.peer.hear_call(), 0, 7]) for _ in futures)
        wire.peer.lane.send_both(first, second)
        reactor.turn(0)

        assert [future.done() for future in futures] == [True, True]

    @pytest.mark.parametrize("last", [None, b"\xc1"], ids=["death", "nonsense"])
    def test_an_end_is_noticed(
        self, scripted: Scripted, reactor: Reactor, last: bytes | None
    ) -> None:
        """
        A callee that dies, or lies, while nobody waits for it loses its line at once.
        """
        wire = scripted.wire()
        future = scripted.stub().add.submit()
        if last is None:
            wire.peer.lane.close()
        else:
            wire.peer.lane.send(last)
        reactor.turn(0)

        assert wire.line.is_lost
        assert isinstance(future.exception(), WorkerLost)
        assert not scripted.caller.lines.by_service

    def test_its_lines_end_with_it(self, scripted: Scripted, reactor: Reactor) -> None:
        """
        Whoever ends the thread ends its lines, once however many there were.
        """
        wires = [scripted.wire(), scripted.wire()]
        math = scripted.stub()
        wires[0].line.lose()
        math.add.submit()
        assert len(TURN.at_end) == 1
        for end in TURN.at_end:
            end()

        assert all(wire.peer.is_left for wire in wires)
