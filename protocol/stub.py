"""Another plugin's service as an object, and the calls it makes.

    stub.add(1, 2)  ->  Caller.call  ->  a lane of this thread's own  ->  the callee's Servant

Each thread has lanes of its own, so no call waits for another thread's and no lock is taken.
Who the process is (a worker or an application) hides behind `Connector`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

from protocol.calls import Pack, pack_call, unpack_reply
from protocol.codec import new_packer
from protocol.errors import (
    DeadlineExceeded,
    RemoteProtocolError,
    ServiceUnavailable,
    WorkerLost,
)
from protocol.lane import Lane
from protocol.names import parse_method
from protocol.turn import MAX_CHAIN, NUMBERS, TURN, spelled

IDLE_S: Final = 60.0
"""A lane that was not used for so long is closed when its thread opens another."""

DEFAULT_TIMEOUT_S: Final = 30.0
"""Long for a call and short for a person: half of gunicorn's patience, all of RPyC's."""


@dataclass(slots=True)
class OpenLane:
    """A lane to one callee, as the thread that owns it sees it."""

    lane: Lane
    peer: int
    peer_name: str
    wait: Callable[[float], bool]
    """Waits for the lane until a deadline while the process's other duties go on; False when the
    time is up."""
    pack: Pack = field(default_factory=new_packer)
    early: list[bytes] = field(default_factory=list)
    """Frames that came while a call made later, by the same thread, waited on another lane."""
    used: float = 0.0
    is_lost: bool = False
    """Whether it has been given up, by whichever of the thread's calls found out first."""


class Connector(Protocol):
    """What a process gives to its stubs. Called from whichever thread makes a call."""

    def open_lane(self, service: str, deadline: float) -> OpenLane:
        """Open a lane of the calling thread's own to whoever offers a service.

        Raises:
            ServiceUnavailable: Nobody does, or not before `deadline`.
        """

    def cause_of_death(self, incarnation: int) -> str:
        """Say how a peer ended; waits a few milliseconds for the node's word."""


class Caller:
    """Carries out the calls of a process's stubs; lives as long as the process's connection."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._mine = _Lanes()

    def find(self, service: str, resolve: Callable[[], OpenLane | None]) -> Any:  # noqa: ANN401
        """Give an object whose methods are the service's, or None if nobody offers it."""
        if service not in self._mine.by_service:
            opened = resolve()
            if opened is None:
                return None
            self._mine.keep(service, opened)
        return Stub(self, service)

    def call(
        self, method: "Method", arguments: Sequence[object], keywords: Mapping[str, object]
    ) -> Any:  # noqa: ANN401 - whatever the plugin returned
        """Make one call and wait for its one outcome.

        Raises:
            RemoteError: The plugin's code raised.
            WorkerLost: The callee died; the call may have been carried out.
            ServiceUnavailable: Nobody offers the service; the call was not carried out.
            DeadlineExceeded: No outcome in time; the call may have been carried out.
            LocalProtocolError: An argument cannot travel; nothing was sent.
        """
        service, name = method.service, method.name
        turn = TURN
        now = monotonic()
        deadline = min(now + DEFAULT_TIMEOUT_S, turn.deadline)
        number = next(NUMBERS)
        if len(turn.chain) >= MAX_CHAIN:
            circle = spelled([*turn.chain[:4], *turn.chain[-2:]], "...")
            raise ServiceUnavailable(service, f"{MAX_CHAIN} calls led to this one: {circle}")
        while monotonic() < deadline:
            opened = self._mine.by_service.get(service) or self._open(service, deadline)
            opened.used = now
            frame = pack_call(
                opened.pack, number, service, name, arguments, keywords, deadline, turn.chain
            )
            try:
                if not opened.lane.send(frame):
                    self._finish_sending(opened, deadline)
            except OSError:
                # The callee was gone before the frame left, so nothing ran: try its successor.
                self._mine.drop(opened)
                continue
            turn.waiting.append(number)
            try:
                return self._outcome(opened, number, method, deadline)
            finally:
                turn.waiting.pop()
        raise DeadlineExceeded(str(method), round(deadline - now, 3))

    def _outcome(self, opened: OpenLane, number: int, method: "Method", deadline: float) -> object:
        lane = opened.lane
        while opened.early or not opened.is_lost:
            if not (opened.early or lane.has_more() or opened.wait(deadline)):
                raise DeadlineExceeded(str(method), round(deadline - opened.used, 3))
            if opened.is_lost and not opened.early:
                break  # a call further in, or none at all, has found the callee gone
            try:
                frame = opened.early.pop(0) if opened.early else lane.receive()
                if frame is None:
                    continue
                answered, value, error = unpack_reply(frame)
            except EOFError:
                self._mine.drop(opened)
                cause = self._connector.cause_of_death(opened.peer)
                raise WorkerLost(opened.peer_name, cause) from None
            except RemoteProtocolError:
                self._mine.drop(opened)
                raise
            if answered != number:
                continue  # the late reply of a call whose deadline had passed
            if error is not None:
                raise error
            return value
        raise WorkerLost(opened.peer_name, self._connector.cause_of_death(opened.peer))

    def _open(self, service: str, deadline: float) -> OpenLane:
        return self._mine.keep(service, self._connector.open_lane(service, deadline))

    def _finish_sending(self, opened: OpenLane, deadline: float) -> None:
        # A frame larger than the socket's buffer: the callee reads while we write the rest.
        while not opened.lane.flush():
            if monotonic() > deadline:
                self._mine.drop(opened)
                raise ServiceUnavailable(opened.peer_name, "it does not read what it is sent")
            _wait_writable(opened.lane.fd)

    def close(self) -> None:
        """Close this thread's lanes; other threads' close when they end."""
        self._mine.close()


class _Lanes(threading.local):
    """The lanes of one thread, found by service; one lane serves all services of its callee."""

    def __init__(self) -> None:
        self.by_service: dict[str, OpenLane] = {}
        self._by_peer: dict[int, OpenLane] = {}

    def keep(self, service: str, fresh: OpenLane) -> OpenLane:
        self._close_idle()
        known = self._by_peer.setdefault(fresh.peer, fresh)
        if known is not fresh:
            fresh.lane.close()
        elif TURN.reactor is not None:
            # This thread serves calls: while it waits, its loop goes on.
            fresh.wait = partial(TURN.reactor.wait_for, fresh.lane.fd)
            TURN.reactor.watch(fresh.lane.fd, partial(self._came_early, fresh))
            if self.close not in TURN.at_end:
                TURN.at_end.append(self.close)
        self.by_service[service] = known
        return known

    def _came_early(self, opened: OpenLane) -> None:
        """Take in what comes while nobody waits for this lane: a late reply, or its end."""
        try:
            frame = opened.lane.receive()
        except (EOFError, RemoteProtocolError):
            self.drop(opened)
            return
        if frame is not None and TURN.waiting:
            opened.early.append(frame)

    def _close_idle(self) -> None:
        idle = monotonic() - IDLE_S
        for opened in tuple(self._by_peer.values()):
            if 0.0 < opened.used < idle and not TURN.waiting:
                self.drop(opened)

    def drop(self, opened: OpenLane) -> None:
        if TURN.reactor is not None:
            TURN.reactor.forget(opened.lane.fd)
        opened.lane.close()
        opened.is_lost = True
        self._by_peer.pop(opened.peer, None)
        gone = [name for name, lane in self.by_service.items() if lane is opened]
        for name in gone:
            del self.by_service[name]

    def close(self) -> None:
        for opened in tuple(self._by_peer.values()):
            self.drop(opened)


class Stub:
    """Another plugin's service. Its public attributes are the service's methods."""

    def __init__(self, caller: Caller, service: str) -> None:
        self._caller = caller
        self._service = service

    def __getattr__(self, name: str) -> "Method":
        if name.startswith("_"):
            raise AttributeError(name)
        method = Method(self._caller, self._service, parse_method(name))
        self.__dict__[name] = method
        return method

    def __repr__(self) -> str:
        return f"<stub of service {self._service}>"


class Method:
    """One method of a service, ready to be called."""

    __slots__ = ("_call", "name", "service")

    def __init__(self, caller: Caller, service: str, name: str) -> None:
        self.service = service
        self.name = name
        self._call = caller.call

    def __call__(self, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401
        """Call it in the process that offers it; see `Caller.call` for what may be raised."""
        return self._call(self, arguments, keywords)

    def __str__(self) -> str:
        return f"{self.service}.{self.name}"

    def __repr__(self) -> str:
        return f"<method {self}>"


def _wait_writable(fd: int) -> None:
    import select  # noqa: PLC0415 - only for frames larger than a socket's buffer

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(50)
