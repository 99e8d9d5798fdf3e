import builtins
import os
from dataclasses import dataclass

import msgpack
import pytest

from protocol.deaths import WORD_S
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    LocalProtocolError,
    RemoteError,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
)
from protocol.future import Stream
from protocol.line import Line
from protocol.listen import finish
from protocol.messages import Deadlock
from protocol.turn import CURRENT, MAX_CHAIN, TURN, Current
from protocol.waits import DOOMED
from tests.unit.protocol.lines_parts import OWN, Scripted, Wire


@dataclass
class Empty:
    """A dataclass with one field, of which there is nothing yet."""

    content: object


class Lazy(Empty):
    """An argument that cannot fetch its content."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def content(self) -> object:  # type: ignore[override]
        raise self._error


@pytest.fixture
def wire(scripted: Scripted) -> Wire:
    """The wire that the stub's line is on."""
    return scripted.wire()


class TestOutcome:
    def test_a_value_is_given(self, scripted: Scripted, wire: Wire) -> None:
        """
        The answer to a call is its value.
        """
        wire.then(wire.answer([1, {"a": None}]))

        assert scripted.stub().add(1, 2) == [1, {"a": None}]
        assert not wire.line.early

    @pytest.mark.parametrize(
        "error", [RemoteError("math.add", "MyError", "no"), UsageError("no"), Cancelled("x")]
    )
    def test_an_error_is_raised(
        self, scripted: Scripted, wire: Wire, error: SpiralHostError
    ) -> None:
        """
        The answer to a call may be an error, of the class that the callee gave it.
        """
        wire.then(lambda: wire.peer.fail(wire.peer.hear_call(), error))
        with pytest.raises(type(error), match="no" if error.args != ("x",) else "x"):
            scripted.stub().add(1, 2)

        assert not wire.line.is_lost

    @pytest.mark.parametrize(
        "builtin",
        ["OSError", "BrokenPipeError", "TimeoutError", "EOFError", "ConnectionResetError"],
    )
    def test_a_plugins_error_is_not_taken_for_ours(
        self, scripted: Scripted, wire: Wire, builtin: str
    ) -> None:
        """
        A plugin that raises what a dead socket raises has answered: nothing is closed, nothing is
        made again, and the lane goes on.
        """
        error = RemoteError("math.add", builtin, "no", "", builtin)
        math = scripted.stub()
        for call in (math.add, lambda: math.add.submit().result()):
            wire.then(lambda: wire.peer.fail(wire.peer.hear_call(), error))
            with pytest.raises(RemoteError) as raised:
                call()
            assert isinstance(raised.value, getattr(builtins, builtin))

        assert not wire.line.is_lost
        assert wire.peer.hear_all() == []

    def test_who_raised_is_known(self, scripted: Scripted, wire: Wire) -> None:
        """
        An error names the plugin and the call that it came of.
        """
        error = RemoteError("math.add", "ValueError", "no")
        numbers: list[int] = []

        def answer() -> None:
            numbers.append(wire.peer.hear_call())
            wire.peer.fail(numbers[0], error)

        wire.then(answer)
        with pytest.raises(RemoteError) as raised:
            scripted.stub().add()

        assert raised.value.plugin == "calculator"
        assert raised.value.call_id == f"{OWN}:{numbers[0]}"

    def test_a_stream_is_given(self, scripted: Scripted, wire: Wire) -> None:
        """
        Where the callee has a generator, the value is what it yields.
        """
        wire.then(lambda: wire.peer.say(wire.peer.hear_call(), 2))

        assert isinstance(scripted.stub().rows(), Stream)

    def test_a_late_answer_is_not_mistaken(self, scripted: Scripted, wire: Wire) -> None:
        """
        The answer to a call whose time had run out is not the next call's answer.
        """
        math = scripted.stub()
        with pytest.raises(DeadlineExceeded, match=r"math\.add: no answer after 5 s"):
            math.add(timeout=5)
        number = wire.peer.hear_call()
        assert wire.peer.hear() == [number, 4]
        for parts in ([number, 0, "late"], [number, 2], [number, 3, "late"], [number, 0, None]):
            wire.then(lambda parts=parts: wire.peer.say(*parts))  # type: ignore[misc]
        wire.then(wire.answer("in time"))

        assert math.add() == "in time"
        assert not wire.line.early
        assert not wire.line.pending

    def test_the_first_outcome_counts(self, scripted: Scripted, wire: Wire) -> None:
        """
        What is said of a call after its outcome is not heard.
        """

        def answer() -> None:
            number = wire.peer.hear_call()
            wire.peer.say(number, 0, "first")
            wire.peer.say(number, 0, "second")

        math = scripted.stub()
        wire.then(answer, lambda: None, wire.answer("third"))

        assert math.add() == "first"
        assert math.add() == "third"

    def test_an_answer_in_pieces_is_waited_for(self, scripted: Scripted, wire: Wire) -> None:
        """
        Half a frame is no answer yet.
        """

        def begin() -> None:
            body = msgpack.packb([wire.peer.hear_call(), 0, "x" * 9])
            frame = len(body).to_bytes(4, "big") + body
            pieces.extend([frame[:3], frame[3:6], frame[6:]])
            more()

        def more() -> None:
            os.write(wire.peer.lane.fd, pieces.pop(0))

        pieces: list[bytes] = []
        wire.then(begin, more, more)

        assert scripted.stub().add() == "x" * 9


class TestEnd:
    def test_a_death_during_the_call_is_told_with_its_cause(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        When the callee dies with the call, the caller learns how, and the call is not repeated.
        """
        scripted.wire()
        wire.then(wire.peer.lane.close)

        with pytest.raises(WorkerLost, match="calculator was lost during .*: 2 died"):
            scripted.stub().add(1, 2)
        assert len(scripted.wires) == 1
        assert wire.line.is_lost

    @pytest.mark.parametrize(("timeout", "waits_s"), [(2.0, 2.0), (60.0, WORD_S)])
    def test_the_cause_is_waited_for_until_the_call_s_deadline(
        self, scripted: Scripted, wire: Wire, timeout: float, waits_s: float
    ) -> None:
        """
        A node that says nothing makes no outcome late, and keeps nobody for ever.
        """
        wire.then(wire.peer.lane.close)

        with pytest.raises(WorkerLost):
            scripted.stub().add(1, 2, timeout=timeout)
        assert wire.home.mourned == [(2, wire.clock.now + waits_s)]

    def test_what_was_said_before_a_death_counts(self, scripted: Scripted, wire: Wire) -> None:
        """
        A callee that answered and died has answered.
        """

        def answer_and_die() -> None:
            wire.answer(3)()
            wire.peer.lane.close()

        wire.then(answer_and_die)

        assert scripted.stub().add(1, 2) == 3

    @pytest.mark.parametrize("form", ["call", "future"])
    def test_a_death_while_the_call_leaves_is_a_death_too(
        self, scripted: Scripted, wire: Wire, monkeypatch: pytest.MonkeyPatch, form: str
    ) -> None:
        """
        A callee that dies while it reads a large call has had a part of it: it is not sent again.
        """

        def die(line: Line, deadline: float) -> None:
            wire.peer.lane.close()
            finish(line, deadline)

        monkeypatch.setattr("protocol.exchange.finish", die)
        monkeypatch.setattr("protocol.caller.finish", die)
        scripted.wire()
        add = scripted.stub().add

        with pytest.raises(WorkerLost, match="2 died"):
            add(bytes(900_000)) if form == "call" else add.submit(bytes(900_000)).result()
        assert len(scripted.wires) == 1
        assert wire.line.is_lost
        assert not TURN.in_flight

    def test_time_runs_out_and_the_callee_is_told(self, scripted: Scripted, wire: Wire) -> None:
        """
        A callee that does not answer costs the caller its deadline, and hears that it may stop.
        """
        with pytest.raises(DeadlineExceeded, match=r"math\.add: no answer after 30 s"):
            scripted.stub().add()

        number = wire.peer.hear_call()
        assert wire.peer.hear_all() == [[number, 4]]

    def test_a_lying_callee_is_dropped(self, scripted: Scripted, wire: Wire) -> None:
        """
        Nonsense ends the lane; the next call takes another one.
        """
        second = scripted.wire()
        wire.then(lambda: wire.peer.lane.send(b"\xc1"))
        second.then(second.answer(3))
        math = scripted.stub()
        with pytest.raises(RemoteProtocolError):
            math.add()

        assert wire.peer.is_left
        assert math.add() == 3


class TestCancel:
    def test_an_interrupt_tells_the_callee(self, scripted: Scripted, wire: Wire) -> None:
        """
        Ctrl-C in the caller's wait cancels the call.
        """

        def interrupt() -> None:
            raise KeyboardInterrupt

        wire.then(interrupt)
        with pytest.raises(KeyboardInterrupt):
            scripted.stub().add(1, 2)
        number = wire.peer.hear_call()

        assert wire.peer.hear_all() == [[number, 4]]
        assert not TURN.waiting

    def test_nobody_waits_for_a_cancelled_calls_calls(self, scripted: Scripted, wire: Wire) -> None:
        """
        When the call that led to this one is cancelled, this one is too, and its callee is told.
        """
        current = Current((), float("inf"), None, 1)
        wire.then(current.cancel)
        token = CURRENT.set(current)
        try:
            with pytest.raises(Cancelled, match=r"math\.add: cancelled"):
                scripted.stub().add()
        finally:
            CURRENT.reset(token)

        number = wire.peer.hear_call()
        assert wire.peer.hear() == [number, 4]
        assert not TURN.waiting

    def test_a_call_never_outlasts_the_one_that_led_to_it(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        Its deadline is the earlier of the two, and the chain says where it came from.
        """
        link: list[object] = [7, 8, "app"]
        current = Current((link,), scripted.clock.now + 2, None, 1)
        token = CURRENT.set(current)
        try:
            with pytest.raises(DeadlineExceeded, match="no answer after 2 s"):
                scripted.stub().add()
        finally:
            CURRENT.reset(token)

        *_, deadline, chain = wire.peer.hear()
        assert (deadline, chain) == (current.deadline, [link])

    def test_a_call_that_waits_for_itself_fails(self, scripted: Scripted, wire: Wire) -> None:
        """
        What the node has found to be a circle is told to the one that closed it.
        """

        def doom() -> None:
            number = wire.peer.hear_call()
            told = Deadlock(number=number, circle="a -> b -> a")
            DOOMED[told.number] = told.circle
            wire.peer.say(0, 0, None)

        wire.then(doom)
        with pytest.raises(ServiceUnavailable, match="wait for itself: a -> b -> a"):
            scripted.stub().add()

        assert not DOOMED
        assert wire.peer.hear()[1] == 4


class TestRefused:
    def test_what_cannot_travel_is_not_sent(self, scripted: Scripted, wire: Wire) -> None:
        """
        An argument without a plain form fails here, by name and place, and the lane goes on.
        """
        math = scripted.stub()
        with pytest.raises(LocalProtocolError, match=r"math\.add: arguments\[1\]: a set"):
            math.add(1, {2})
        with pytest.raises(LocalProtocolError, match=r"math\.add: .*'x'.*set"):
            math.add.submit(x=[{2}])
        assert wire.peer.hear_all() == []
        wire.then(wire.answer(3))

        assert math.add() == 3

    def test_a_function_of_a_call_that_was_not_sent_is_let_go(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        Nothing can call it: the number that it had is known to nobody.
        """
        with pytest.raises(LocalProtocolError):
            scripted.stub().add(print, {1})

        assert not wire.line.functions
        assert not wire.line.exported

    def test_an_argument_that_cannot_be_read_is_not_a_callee_that_is_gone(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        What an argument raises when it is asked for its content is told, whatever it is.
        """
        with pytest.raises(LocalProtocolError):
            scripted.stub().add(Lazy(FileNotFoundError()))
        with pytest.raises(RuntimeError):
            scripted.stub().add(len, Lazy(RuntimeError()))

        assert not wire.line.is_lost
        assert not wire.line.functions
        assert wire.peer.hear_all() == []

    def test_calls_do_not_go_round_for_ever(self, scripted: Scripted, wire: Wire) -> None:
        """
        A chain of so many calls has one call more refused, and says who was in it.
        """
        links = tuple([n, n, f"p{n}"] for n in range(MAX_CHAIN))
        token = CURRENT.set(Current(links, float("inf"), None, 1))
        try:
            with pytest.raises(ServiceUnavailable, match="p0 -> p1 -> .* -> p31 -> "):
                scripted.stub().add()
        finally:
            CURRENT.reset(token)

        assert wire.peer.hear_all() == []
