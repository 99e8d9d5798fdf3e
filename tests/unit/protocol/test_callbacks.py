import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from protocol.calls import WINDOW
from protocol.errors import (
    LocalProtocolError,
    RemoteError,
    RemoteProtocolError,
    UsageError,
    WorkerLost,
)
from protocol.turn import TURN
from tests.unit.protocol.lines_parts import Callee, Dynamic, Process, Scripted


class Service:
    """Calls what it is given."""

    def __init__(self) -> None:
        self.kept: list[Callable[..., Any]] = []

    def each(self, function: Callable[..., Any], count: int) -> list[Any]:
        return [function(number) for number in range(count)]

    def named(self, *, function: Callable[..., Any]) -> Dynamic:
        return function(x=1)

    def keep(self, function: Callable[..., Any]) -> None:
        self.kept.append(function)

    def use_kept(self) -> str:
        try:
            self.kept[0]()
        except UsageError as error:
            return str(error)
        return "it was called"

    def elsewhere(self, function: Callable[..., Any]) -> str:
        raised: list[Exception] = []

        def run() -> None:
            try:
                function(1)
            except UsageError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return str(raised[0])

    def caught(self, function: Callable[..., Any]) -> str:
        try:
            function(0)
        except ZeroDivisionError as error:
            return type(error).__name__
        return "nothing"

    def rows(self, function: Callable[..., Any]) -> Iterator[Any]:
        for number in range(3 * WINDOW):
            yield function(number)

    def back(self) -> object:
        return print

    def add(self, a: int) -> int:
        return a


@pytest.fixture
def service(callee: Callee) -> Service:
    service = Service()
    callee.servant.offer("math", service)
    return service


@pytest.fixture
def math(process: Process, callee: Callee, service: Service, monkeypatch: Dynamic) -> Dynamic:
    """A stub; while the callee waits for a callback, we take in what it has sent us."""
    stub = process.stub()
    line = process.caller.lines.by_service["math"]
    for served in callee.server._lines:

        def wait(deadline: float) -> bool:
            """Let the caller act; the callee waits."""
            for send in tuple(callee.reactor.unsent.values()):
                send()
            with callee.is_left():
                if (frame := line.lane.receive()) is not None:
                    line.take(frame)
            return True

        served.reactor, served._wait = None, wait
    return stub


class TestCallback:
    def test_it_runs_in_the_caller(self, math: Dynamic) -> None:
        """
        The callee calls it and has its value, as often as it likes.
        """
        seen: list[int] = []

        def function(number: int) -> int:
            seen.append(number)
            return number * 10

        assert math.each(function, 3) == [0, 10, 20]
        assert seen == [0, 1, 2]
        assert math.named(function=lambda x: x + 1) == 2

    def test_what_it_raises_is_raised_in_the_callee(self, math: Dynamic) -> None:
        """
        And from there, if nobody catches it, in the caller.
        """
        assert math.caught(lambda n: 1 // n) == "RemoteZeroDivisionError"
        with pytest.raises(RemoteError, match=r"math\.each raised ZeroDivisionError"):
            math.each(lambda n: 1 // n, 1)

    def test_a_call_made_from_it_belongs_to_the_same_wait(self, math: Dynamic) -> None:
        """
        A function may call the service again that calls it.
        """
        assert math.each(lambda n: math.add(n), 2) == [0, 1]  # noqa: PLW0108 - as people write it

    def test_it_holds_as_long_as_its_call(
        self, math: Dynamic, service: Service, process: Process, callee: Callee
    ) -> None:
        """
        The callee that keeps it is refused, and the caller has forgotten it.
        """
        math.keep(print)
        line = process.caller.lines.by_service["math"]

        assert not line.functions
        for served in callee.server._lines:
            served._wait = None  # it knows without asking
        assert "a call that is over" in math.use_kept()

    def test_a_future_holds_its_functions_too(self, math: Dynamic, process: Process) -> None:
        """
        Until its outcome is there.
        """
        line = process.caller.lines.by_service["math"]
        future = math.each.submit(lambda n: n + 1, 2)
        assert len(line.functions) == 1

        assert future.result() == [1, 2]
        assert not line.functions

    def test_a_held_calls_functions_are_its_own(
        self, math: Dynamic, service: Service, callee: Callee, process: Process
    ) -> None:
        """
        A call that is taken in meanwhile and ends first does not end them.
        """
        with callee.runs():
            TURN.waiting[7] = 9
        future = math.each.submit(lambda n: n + 1, 2)
        with callee.runs():
            callee.reactor.turn(0)
            TURN.waiting.clear()
            TURN.held.clear()
        other = math.add.submit(1)

        assert other.result() == 1
        assert future.result() == [1, 2]

    def test_only_its_own_thread_may_call_it(self, math: Dynamic) -> None:
        """
        The lane that it came on belongs to that thread.
        """
        assert "in the thread that serves the call" in math.elsewhere(print)

    def test_a_generator_may_call_it_between_its_items(
        self, math: Dynamic, process: Process
    ) -> None:
        """
        Its call is over when the generator is: the caller that reads is there to run it.
        """
        line = process.caller.lines.by_service["math"]
        for call in (math.rows, lambda function: math.rows.submit(function).result()):
            stream = call(lambda n: n + 1)
            assert len(line.functions) == 1
            assert list(stream) == [n + 1 for n in range(3 * WINDOW)]
            assert not line.functions
        math.rows(print).close()
        assert not line.functions


class TestRefused:
    def test_only_arguments_may_be_functions(self, math: Dynamic, service: Service) -> None:
        """
        A result that is one cannot travel: nobody would know how long it holds.
        """
        with pytest.raises(RemoteError, match="builtin_function_or_method"):
            math.back()

    def test_a_class_is_no_function(self, math: Dynamic) -> None:
        """
        Calling it would make an object that nobody could send.
        """
        with pytest.raises(LocalProtocolError, match="a type"):
            math.keep(int)

    def test_async_def_needs_a_loop(self, math: Dynamic) -> None:
        """
        A thread without one cannot run it, and says how it can be done.
        """

        async def function() -> None:
            """Do nothing."""

        with pytest.raises(LocalProtocolError, match=r"use stub\.aio"):
            math.keep(function)

    @pytest.mark.parametrize("service_name", ["", "math"])
    def test_nothing_else_can_be_called_at_the_callers_end(
        self, scripted: Scripted, service_name: str
    ) -> None:
        """
        A callee that makes numbers up reaches nothing.
        """
        wire = scripted.wire()
        math = scripted.stub()
        future = math.add.submit(print)
        number = wire.peer.hear_call()
        wire.peer.call(1, "1", service=service_name)
        wire.line.look()
        ((_, error),) = wire.peer.outcomes()
        wire.peer.say(number, 0, "done")

        assert isinstance(error, UsageError)
        assert future.result() == "done"

    def test_a_callee_that_answers_with_one_loses_its_lane(self, scripted: Scripted) -> None:
        """
        It breaks the protocol, and nothing is kept of it.
        """
        wire = scripted.wire()
        math = scripted.stub()
        future = math.add.submit()
        number = wire.peer.hear_call()
        wire.peer.say(number, 0, msgpack.ExtType(3, msgpack.packb(1)))

        with pytest.raises((RemoteProtocolError, WorkerLost)):
            future.result()
        assert wire.line.is_lost
        assert not wire.line.adopted
