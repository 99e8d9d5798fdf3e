import socket
from collections.abc import Iterator

import pytest

from protocol.calls import pack_value_reply, unpack_call
from protocol.codec import new_packer
from protocol.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    RemoteError,
    RemoteProtocolError,
    ServiceUnavailable,
    UsageError,
    WorkerLost,
)
from protocol.lane import Lane
from protocol.servant import Servant
from protocol.stub import Caller, OpenLane, Stub


class Counter:
    """Counts nothing."""

    def count_call(self) -> None:
        """Do nothing."""

    def count_error(self) -> None:
        """Do nothing."""


class Math:
    """The service."""

    def add(self, a: int, b: int) -> int:
        """Add."""
        return a + b

    def size(self, body: bytes) -> int:
        """Measure."""
        return len(body)


class Callee:
    """A process that offers `math`, and serves while its caller waits."""

    def __init__(self, incarnation: int, lanes: list[Lane]) -> None:
        self.incarnation = incarnation
        self.servant = Servant(Counter())
        self.servant.offer("math", Math())
        self.servant.offer("more", Math())
        self.replies: list[bytes] = []
        """Sent before the proper reply."""
        self.is_dead = self.hangs = False
        self.lanes = lanes

    def open(self) -> OpenLane:
        ours, theirs = (Lane(end.detach()) for end in socket.socketpair())
        self.lanes.append(theirs)
        return OpenLane(ours, self.incarnation, "calculator", lambda _: self.serve(theirs))

    def serve(self, lane: Lane) -> bool:
        if self.is_dead:
            lane.close()
        if self.is_dead or self.hangs:
            return self.is_dead
        if (frame := lane.receive()) is not None:
            for reply in self.replies:
                lane.send(reply)
            lane.send(self.servant.serve(unpack_call(frame), 0, "caller", new_packer()))
        return True


class Process:
    """What a process gives to its stubs: whoever is the provider now."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.callee: Callee | None = Callee(1, self.lanes)
        self.opened = 0

    def open_lane(self, service: str, deadline: float) -> OpenLane:
        """Open a lane."""
        self.opened += 1
        if self.callee is None:
            raise ServiceUnavailable(service, "nobody offers it")
        return self.callee.open()

    def cause_of_death(self, incarnation: int) -> str:
        """Say how a peer ended."""
        return f"{incarnation} died"


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    for lane in process.lanes:
        lane.close()


@pytest.fixture
def caller(process: Process) -> Iterator[Caller]:
    caller = Caller(process)
    yield caller
    caller.close()


def stub(caller: Caller, process: Process, service: str = "math") -> Stub:
    callee = process.callee
    assert callee is not None
    found = caller.find(service, callee.open)
    assert isinstance(found, Stub)
    return found


class TestStub:
    def test_a_call_gives_the_methods_value(self, caller: Caller, process: Process) -> None:
        """
        Calling a stub's method calls the service's.
        """
        math = stub(caller, process)

        assert math.add(1, b=2) == 3
        assert math.add(3, 4) == 7

    def test_nobody_is_no_stub(self, caller: Caller) -> None:
        """
        Where nobody offers a service there is nothing to call.
        """
        assert caller.find("math", lambda: None) is None

    def test_a_plugins_error_is_raised_here(self, caller: Caller, process: Process) -> None:
        """
        What the callee's code raised is raised in the caller, as text.
        """
        with pytest.raises(RemoteError, match=r"math\.add raised TypeError"):
            stub(caller, process).add(1, "x")

    def test_private_names_are_no_methods(self, caller: Caller, process: Process) -> None:
        """
        Python's own look-ups on a stub do not become calls.
        """
        math = stub(caller, process)

        assert not hasattr(math, "__array_interface__")
        assert not hasattr(math, "_private")
        with pytest.raises(UsageError):
            _ = math.naïve
        assert math.add is math.add
        assert repr(math) == "<stub of service math>"
        assert "math.add" in repr(math.add)

    def test_one_lane_serves_all_services_of_a_callee(
        self, caller: Caller, process: Process
    ) -> None:
        """
        A second service of the same process needs no second lane.
        """
        stub(caller, process)
        assert stub(caller, process, "more").add(1, 1) == 2
        assert process.callee is not None
        first, second = process.callee.lanes

        with pytest.raises(EOFError):
            second.receive()
        assert first.receive() is None
        assert process.opened == 0

    def test_a_death_during_the_call_is_told_with_its_cause(
        self, caller: Caller, process: Process
    ) -> None:
        """
        When the callee dies with the call, the caller learns how, and the call is not repeated.
        """
        math = stub(caller, process)
        assert process.callee is not None
        process.callee.is_dead = True

        with pytest.raises(WorkerLost, match="calculator was lost during the call: 1 died"):
            math.add(1, 2)
        assert process.opened == 0

    def test_a_successor_is_called(self, caller: Caller, process: Process) -> None:
        """
        A callee that was gone before the call left is replaced by the next one, unnoticed.
        """
        math = stub(caller, process)
        assert process.callee is not None
        process.callee.lanes[0].close()
        process.callee = Callee(2, process.lanes)

        assert math.add(1, 2) == 3
        assert process.opened == 1

    def test_no_successor_is_told(self, caller: Caller, process: Process) -> None:
        """
        When nobody takes over, the call was not carried out and says so.
        """
        math = stub(caller, process)
        assert process.callee is not None
        process.callee.lanes[0].close()
        process.callee = None

        with pytest.raises(ServiceUnavailable):
            math.add(1, 2)

    def test_time_runs_out(self, caller: Caller, process: Process) -> None:
        """
        A callee that does not answer costs the caller its deadline and no more.
        """
        math = stub(caller, process)
        assert process.callee is not None
        process.callee.hangs = True

        with pytest.raises(DeadlineExceeded, match=r"add: no answer"):
            math.add(1, 2)

    def test_a_late_reply_is_not_mistaken(self, caller: Caller, process: Process) -> None:
        """
        The answer to a call whose time had run out is not the next call's answer.
        """
        math = stub(caller, process)
        assert process.callee is not None
        process.callee.replies = [pack_value_reply(new_packer(), 1 << 40, "stale")]

        assert math.add(1, 2) == 3

    def test_a_lying_callee_is_dropped(self, caller: Caller, process: Process) -> None:
        """
        Nonsense ends the lane; the next call takes another one.
        """
        math = stub(caller, process)
        assert process.callee is not None
        process.callee.replies = [b"\xc1"]
        with pytest.raises(RemoteProtocolError):
            math.add(1, 2)
        process.callee.replies = []

        assert math.add(1, 2) == 3
        assert process.opened == 1

    def test_what_cannot_travel_is_not_sent(self, caller: Caller, process: Process) -> None:
        """
        An argument without a plain form fails here, and the lane goes on.
        """
        math = stub(caller, process)
        with pytest.raises(LocalProtocolError):
            math.add({1}, 2)

        assert math.add(1, 2) == 3
