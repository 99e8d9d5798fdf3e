import pytest

from protocol.errors import DeadlineExceeded, ServiceUnavailable
from protocol.messages import Held, WaitOver
from protocol.turn import CURRENT, TURN, Current
from protocol.waits import DOOMED, PATIENCE_S, owe
from tests.unit.protocol.lines_parts import THEIRS, Dynamic, Scripted, Wire


@pytest.fixture
def wire(scripted: Scripted) -> Wire:
    return scripted.wire()


@pytest.fixture
def math(scripted: Scripted, wire: Wire) -> Dynamic:
    return scripted.stub()


@pytest.fixture
def serving(wire: Wire) -> Dynamic:
    """This thread is in the middle of call 31 of the process 8."""
    caller = Wire(wire.clock, wire.home)
    caller.line.peer = 8
    token = CURRENT.set(Current((), float("inf"), caller.line, 31))
    yield
    CURRENT.reset(token)
    caller.close()


def pass_patience(wire: Wire) -> None:
    """Let the caller wait until it has no patience any more, and has told the node so."""
    plan = list(wire.plan)
    wire.plan.clear()
    wait = wire.line._wait
    assert wait is not None

    def wait_long(deadline: float) -> bool:
        if deadline > wire.clock.now + 1:
            wire.plan.extend(plan)
            plan.clear()
        return wait(deadline)

    wire.line._wait = wait_long


class TestTold:
    def test_a_short_wait_is_nobodys_business(
        self, scripted: Scripted, math: Dynamic, wire: Wire, serving: None
    ) -> None:
        """
        Nearly all are: the node is told nothing.
        """
        wire.then(wire.answer(1))
        math.add()

        assert scripted.told == []

    def test_a_longer_one_is_told_with_what_it_holds_up(
        self, scripted: Scripted, math: Dynamic, wire: Wire, serving: None
    ) -> None:
        """
        Which call waits for whom, and whose call waits for it; and when that is over.
        """
        began = scripted.clock.now
        TURN.held.append((5, 6))
        wire.then(wire.answer(1))
        pass_patience(wire)
        assert math.add() == 1
        TURN.held.clear()

        assert PATIENCE_S <= scripted.clock.now - began < 3 * PATIENCE_S
        *held, over = scripted.told
        assert isinstance(over, WaitOver)
        assert held == [
            Held(waits=over.waits, waits_for=THEIRS, holds=6, holds_of=5),
            Held(waits=over.waits, waits_for=THEIRS, holds=31, holds_of=8),
        ]
        assert not TURN.told

    def test_who_holds_up_nobody_says_nothing(
        self, scripted: Scripted, math: Dynamic, wire: Wire
    ) -> None:
        """
        An application that waits is in nobody's way.
        """
        with pytest.raises(DeadlineExceeded):
            math.add()

        assert scripted.told == []

    def test_the_end_is_told_however_it_comes(
        self, scripted: Scripted, math: Dynamic, wire: Wire, serving: None
    ) -> None:
        """
        A wait that was told of is over when its deadline has passed, too.
        """
        with pytest.raises(DeadlineExceeded):
            math.add()

        assert [type(message) for message in scripted.told] == [Held, WaitOver]
        assert not TURN.told
        assert not TURN.waiting

    @pytest.mark.parametrize("form", ["call", "call at once", "future"])
    def test_what_is_held_later_is_told_at_once(
        self, scripted: Scripted, math: Dynamic, wire: Wire, form: str
    ) -> None:
        """
        A call that comes in the middle of a wait waits for it from then on, and no longer.
        """

        def hold() -> None:
            owe(wire.line, 44)
            if form == "call at once":
                wire.plan.popleft()()

        wire.then(hold, wire.answer(1))
        assert (math.add.submit().result() if form == "future" else math.add()) == 1

        held, over = scripted.told
        assert isinstance(over, WaitOver)
        assert held == Held(waits=over.waits, waits_for=THEIRS, holds=44, holds_of=THEIRS)

    def test_a_moments_rest_is_no_wait_for_anybody(self, scripted: Scripted, wire: Wire) -> None:
        """
        A thread that lets time pass owes answers, but to no circle.
        """
        TURN.waiting[0] = 0
        owe(wire.line, 44)
        TURN.waiting.clear()

        assert scripted.told == []
        assert not TURN.told


class TestDoomed:
    def test_a_future_that_waits_for_itself_fails(self, math: Dynamic, wire: Wire) -> None:
        """
        The circle is named, the callee told, and the next call is not concerned.
        """
        future = math.add.submit()
        number = wire.peer.hear_call()
        DOOMED[number] = "a -> b -> a"
        with pytest.raises(ServiceUnavailable, match="a -> b -> a"):
            future.result()

        assert not DOOMED
        assert wire.peer.hear_all() == [[number, 4]]
        wire.then(wire.answer(2))
        assert math.add() == 2

    def test_an_answer_that_is_there_counts(self, math: Dynamic, wire: Wire, serving: None) -> None:
        """
        The node's word may come too late; nothing is left of it.
        """

        def answer() -> None:
            number = wire.peer.hear_call()
            DOOMED[number] = "a -> b -> a"
            wire.peer.say(number, 0, 1)

        wire.then(answer)
        pass_patience(wire)

        assert math.add() == 1
        assert not DOOMED
