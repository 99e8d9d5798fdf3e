import inspect
from typing import Protocol

import pytest

from protocol.errors import RemoteError, RemoteProtocolError, ServiceUnavailable, UsageError
from protocol.stub import DEFAULT_TIMEOUT_S, Options
from tests.unit.protocol.lines_parts import Callee, Dynamic, Process, Scripted


class Math:
    """The service."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def say(self, text: str, *, timeout: float = 0.0) -> str:
        return f"{text} {timeout}"


class Adds(Protocol):
    """What a caller may want of it."""

    def add(self, a: int, b: int) -> int:
        """Add."""

    def rows(self) -> list[int]:
        """Give some."""


@pytest.fixture
def math(callee: Callee, process: Process) -> Dynamic:
    callee.servant.offer("math", Math())
    return process.stub()


class TestStub:
    def test_a_call_gives_the_methods_value(self, math: Dynamic) -> None:
        """
        Calling a stub's method calls the service's, by place and by name.
        """
        assert math.add(1, b=2) == 3
        assert math.add(3, 4) == 7

    def test_nobody_is_no_stub(self, scripted: Scripted) -> None:
        """
        Where nobody offers a service there is nothing to call.
        """
        assert scripted.stub() is None

    def test_a_plugins_error_is_raised_here(self, math: Dynamic) -> None:
        """
        What the callee's code raised is raised in the caller, as text.
        """
        with pytest.raises(RemoteError, match=r"math\.add raised TypeError"):
            math.add(1)

    def test_private_names_are_no_methods(self, math: Dynamic) -> None:
        """
        Python's own look-ups on a stub do not become calls, nor do names that cannot travel.
        """
        for one in (math, math.aio):
            assert not hasattr(one, "__array_interface__")
            assert not hasattr(one, "_private")
            with pytest.raises(UsageError):
                _ = one.naïve

    def test_a_method_is_made_once(self, math: Dynamic) -> None:
        """
        A stub gives the same object again, so that a look-up costs what an attribute costs.
        """
        assert math.add is math.add
        assert math.aio is math.aio
        assert math.aio.add is math.aio.add

    def test_people_can_tell_what_it_is(self, math: Dynamic) -> None:
        """
        A stub and its methods are shown by the service's name.
        """
        assert repr(math) == "<stub of service math>"
        assert repr(math.add) == "<method math.add>"
        assert str(inspect.signature(math.add)) == "(*arguments, **keywords)"
        assert str(math.add) == "math.add"
        assert repr(math.aio) == "<stub of service math>.aio"
        assert repr(math.aio.add) == "<method math.add for coroutines>"

    @pytest.mark.usefixtures("math")
    def test_what_a_method_takes_is_known_of_one_that_was_asked_for(self, process: Process) -> None:
        """
        Help and editors show what its `Protocol` says.
        """
        typed = process.stub(options=Options(kind=Adds))

        assert str(inspect.signature(typed.add)) == "(a: int, b: int) -> int"


class TestOptions:
    def test_a_call_has_a_deadline_of_its_own(self, scripted: Scripted) -> None:
        """
        `timeout` is the call's, not the method's; without it the stub's own counts.
        """
        wire = scripted.wire()
        math = scripted.stub(Options(timeout=9))
        later: list[float] = []
        for call in (
            math.add.submit,
            lambda: math.add.submit(timeout=5),
            math.add.options(timeout=7).submit,
            lambda: math.add.options(timeout=7).submit(timeout=2.5),
        ):
            call()
            _, _, _, arguments, keywords, deadline, _ = wire.peer.hear()
            later.append(round(deadline - scripted.clock.now, 3))
            assert (arguments, keywords) == ([], None)

        assert later == [9, 5, 7, 2.5]
        assert Options().timeout == DEFAULT_TIMEOUT_S

    def test_a_parameter_of_that_name_is_given_by_place(self, math: Dynamic) -> None:
        """
        The word is taken: a method's own `timeout` stays at its default.
        """
        assert math.say("hello", timeout=5) == "hello 0.0"

    @pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), float("inf")], ids=repr)
    def test_what_is_no_time_is_refused(self, scripted: Scripted, timeout: Dynamic) -> None:
        """
        A timeout is a number of seconds above 0, wherever it is given.
        """
        scripted.wire()
        with pytest.raises(UsageError, match="timeout"):
            scripted.stub(Options(timeout=timeout))
        math = scripted.stub()
        calls = [math.add, math.add.submit, math.aio.add, math.add.options]
        for call in calls:
            with pytest.raises(UsageError, match="timeout"):
                call(timeout=timeout)

    def test_who_does_not_want_to_wait_says_so(self, callee: Callee, process: Process) -> None:
        """
        Whether a call waits for somebody to offer the service is passed on.
        """
        callee.servant.offer("math", Math())
        math = process.stub(options=Options(wait=False))
        process.caller.close()
        process.callee = None
        for call in (math.add, math.add.options(wait=True)):
            with pytest.raises(ServiceUnavailable):
                call(1, 2)

        assert process.asked[1:] == [("math", False), ("math", True)]


class TestKind:
    def test_only_what_was_asked_for_can_be_called(self, scripted: Scripted) -> None:
        """
        A stub of a protocol has its methods and no others; a typing error shows here.
        """
        scripted.wire()
        math = scripted.stub(Options(kind=Adds))

        with pytest.raises(AttributeError, match="service math has no sub as it was asked for"):
            _ = math.sub
        assert hasattr(math, "add")
        assert hasattr(math.aio, "add")

    def test_results_are_what_they_were_asked_for_as(self, scripted: Scripted) -> None:
        """
        A result that is something else is the callee's fault; the lane goes on.
        """
        wire = scripted.wire()
        math = scripted.stub(Options(kind=Adds))
        for call in (math.add, lambda: math.add.submit().result()):
            wire.then(wire.answer("3"))
            with pytest.raises(RemoteProtocolError, match=r"math\.add gave something else"):
                call()
        wire.then(wire.answer([1, 2]))

        assert math.rows.options(timeout=5)() == [1, 2]

    def test_what_is_no_kind_is_refused(self, scripted: Scripted) -> None:
        """
        A service is asked for by a class.
        """
        scripted.wire()
        with pytest.raises(UsageError):
            scripted.stub(Options(kind=print))
