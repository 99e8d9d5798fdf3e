"""Two processes in one thread: each has its own turn, and the test says when the other one acts."""

import asyncio
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf
from typing import Any, Protocol, TypeAlias

import msgpack

from protocol import flight
from protocol.callbacks import serve_callback
from protocol.caller import Caller
from protocol.calls import ERROR, error_of, error_parts
from protocol.errors import ServiceUnavailable, SpiralHostError
from protocol.lane import Lane
from protocol.line import Line, line_of
from protocol.messages import FromEndpoint, LaneOpened
from protocol.reactor import Reactor, _close_loop
from protocol.servant import Servant
from protocol.serving import LaneServer
from protocol.stub import Options
from protocol.turn import CURRENT, NOBODY, TURN
from tests.clock import Clock

OWN = 1
"""The caller's incarnation."""
THEIRS = 2
"""The callee's."""
FOREVER = 1e12

Dynamic: TypeAlias = Any
"""A stub, or what came over a lane: nobody knows its type."""


class Counter(flight.Counter):
    """Counts for the test to see."""

    def __init__(self) -> None:
        self.calls = self.errors = 0
        self.running: set[int] = set()
        self.labels: list[bytes] = []
        self.streaming: set[int] = set()
        self.awaiting: set[int] = set()
        self._slots = count()

    def enter(self, caller: int, number: int, deadline: float, label: bytes) -> int:
        slot = next(self._slots)
        self.running.add(slot)
        self.labels.append(label)
        return slot

    def streams(self, slot: int) -> None:
        self.streaming.add(slot)

    def awaits(self, slot: int) -> None:
        self.awaiting.add(slot)

    def succeeded(self) -> None:
        self.calls += 1

    def failed(self) -> None:
        self.errors += 1

    def retract(self) -> None:
        self.calls -= 1

    def leave(self, slot: int) -> None:
        self.running.remove(slot)


@dataclass
class Positive:
    """A result that not every number makes."""

    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ArithmeticError("negative")


class Gives(Protocol):
    """What a caller may want of a service."""

    def give(self) -> Positive:
        """Give one."""

    def add(self) -> int:
        """Add nothing."""


class Home:
    """A process without shared memory; what it tells its node is kept."""

    arena = None

    def __init__(self, incarnation: int = OWN) -> None:
        self.incarnation = incarnation
        self.told: list[FromEndpoint] = []
        self.mourned: list[tuple[int, float]] = []
        """Whose cause of death was asked for, and until when an answer was waited for."""

    def own(self) -> int:
        return self.incarnation

    def cause_of_death(self, incarnation: int, deadline: float) -> str:
        self.mourned.append((incarnation, deadline))
        return f"{incarnation} died"

    def tell_node(self, message: FromEndpoint) -> None:
        self.told.append(message)


class Elsewhere:
    """Another process in this thread: what runs inside `runs` waits for nothing of ours."""

    def __init__(self) -> None:
        with _fresh_turn() as turn:
            self._turn = dict(turn)

    @contextmanager
    def runs(self) -> Iterator[None]:
        outer = dict(vars(TURN)), CURRENT.get()
        with _fresh_turn() as turn:
            turn.update(self._turn)
            self._outer = outer
            try:
                yield
            finally:
                self._turn = dict(turn)

    @contextmanager
    def is_left(self) -> Iterator[None]:
        """Go back, from inside `runs`, to where that was begun."""
        outer, current = self._outer
        with _fresh_turn() as turn:
            turn.update(outer)
            token = CURRENT.set(current)
            try:
                yield
            finally:
                CURRENT.reset(token)


@contextmanager
def _fresh_turn() -> Iterator[dict[str, Any]]:
    turn = vars(TURN)
    ours = dict(turn)
    turn.clear()
    type(TURN).__init__(TURN)
    token = CURRENT.set(NOBODY)
    try:
        yield turn
    finally:
        CURRENT.reset(token)
        turn.clear()
        turn.update(ours)


class Peer:
    """The bare other end of a lane: says and hears parts of frames, honest or not."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def say(self, *parts: object) -> None:
        self.lane.send(msgpack.packb(parts))

    def fail(self, number: int, error: SpiralHostError) -> None:
        """Answer a call with an error."""
        self.say(*error_parts(number, error))

    def hear(self) -> Dynamic:
        """Give the next frame's parts; None if there is none."""
        frame = self.lane.receive()
        return None if frame is None else msgpack.unpackb(frame, strict_map_key=False)

    def hear_all(self) -> list[Any]:
        heard = []
        while (parts := self.hear()) is not None:
            heard.append(parts)
        return heard

    def hear_call(self) -> Dynamic:
        """Give the number of the call that has come."""
        parts = self.hear()
        assert len(parts) == 7
        return parts[0]

    def call(
        self,
        number: int,
        method: str,
        *arguments: object,
        service: str = "math",
        deadline: float = FOREVER,
        chain: Sequence[object] | None = None,
    ) -> None:
        self.say(number, service, method, arguments, None, deadline, chain)

    def outcomes(self) -> list[tuple[int, object]]:
        """Give the number and the value, or the error, of each word that has come."""
        return [
            (parts[0], error_of(parts) if parts[1] == ERROR else parts[2])
            for parts in self.hear_all()
        ]

    @property
    def is_left(self) -> bool:
        """Whether the other side has closed the lane; what it had said is thrown away."""
        try:
            self.hear_all()
        except EOFError:
            return True
        return False


class Wire:
    """Our end of a lane, and the peer's; while we wait, the peer does what the test has planned.

    Where nothing more is planned, time passes until what we wait for is late.
    """

    def __init__(self, clock: Clock, home: Home | None = None, service: str = "math") -> None:
        self.clock = clock
        self.home = home or Home()
        ours, theirs = socket.socketpair()
        self.peer = Peer(Lane(theirs.detach()))
        opened = LaneOpened(
            lane=5, request="", peer=THEIRS, peer_name="calculator", service=service
        )
        self.line: Line = line_of(opened, ours.detach(), self.wait, self.home)
        self.line.serve = serve_callback
        self.plan: deque[Callable[[], object]] = deque()
        self.waits = 0

    def wait(self, deadline: float) -> bool:
        self.waits += 1
        if self.plan:
            self.plan.popleft()()
            return True
        if select.select([self.line.lane.fd], [], [], 0)[0]:
            return True
        self.clock.now = max(self.clock.now, deadline)
        return False

    def then(self, *steps: Callable[[], object]) -> None:
        """Plan what the peer does, one step each time that we wait."""
        self.plan.extend(steps)

    def answer(self, value: object, number: int | None = None) -> Callable[[], None]:
        """Have the peer answer the call that has come with a value."""
        return lambda: self.peer.say(self.peer.hear_call() if number is None else number, 0, value)

    def close(self) -> None:
        self.line.lose()
        self.peer.lane.close()


class Callee(Elsewhere):
    """A process that offers services, and serves them whenever a caller of its waits."""

    def __init__(self, clock: Clock, incarnation: int = THEIRS) -> None:
        super().__init__()
        self.clock = clock
        self.home = Home(incarnation)
        self.counter = Counter()
        self.servant = Servant(self.counter)
        self.reactor = Reactor()
        self.closed: list[int] = []
        self.server = LaneServer(self.reactor, self.servant, self.home, self.closed.append)
        self.lanes = 0
        self.hangs = False
        with self.runs():
            TURN.reactor = self.reactor

    def accept(
        self,
        caller: int = OWN,
        caller_name: str = "app",
        services: tuple[str, ...] = ("*",),
        call_rate: float = inf,
    ) -> int:
        """Serve one lane more; give its other end."""
        ours, theirs = socket.socketpair()
        self.lanes += 1
        opened = LaneOpened(
            lane=self.lanes,
            request="",
            peer=caller,
            peer_name=caller_name,
            services=services,
            call_rate=call_rate,
        )
        with self.runs():
            self.server.open(opened, ours.detach())
        return theirs.detach()

    def peer(self, caller: int = OWN, caller_name: str = "app") -> Peer:
        """Give a bare caller."""
        return Peer(Lane(self.accept(caller, caller_name)))

    def turn(self) -> None:
        """Take in what has come, go on with what was held, and let each task take some steps."""
        with self.runs():
            self.reactor.turn(0)
            self.server.go_on()
            if self.reactor.needs_asyncio and self.reactor.loop is None:
                self.reactor.loop = asyncio.new_event_loop()
                self.server.go_on()
            self.run_tasks()

    def run_tasks(self) -> None:
        """Let each task take some steps."""
        loop = self.reactor.loop
        for _ in range(8 if loop is not None else 0):
            assert loop is not None
            loop.call_soon(loop.stop)
            loop.run_forever()

    def answers(self, peer: Peer) -> list[tuple[int, object]]:
        """Act, and give what the peer is told of its calls."""
        self.turn()
        return peer.outcomes()

    def wait(self, fd: int, deadline: float) -> bool:
        """Act while a caller waits; where that gives it nothing, time passes until it is late."""
        if not self.hangs:
            self.turn()
        if fd < 0 or select.select([fd], [], [], 0)[0]:
            return True
        self.clock.now = max(self.clock.now, deadline)
        return False

    def line(self, home: Home | None = None, *idempotent: str, service: str = "math") -> Line:
        """Give the caller's end of a new lane."""
        opened = LaneOpened(
            lane=100 + self.lanes,
            request="",
            peer=self.home.incarnation,
            peer_name="calculator",
            service=service,
            idempotent=idempotent,
        )
        fd = self.accept()
        return line_of(opened, fd, partial(self.wait, fd), home or Home())

    def die(self) -> None:
        """End as a process does: every lane is closed, and nothing more is said."""
        with self.runs():
            self.server.close()

    def close(self) -> None:
        self.die()
        if self.reactor.loop is not None:
            _close_loop(self.reactor.loop)
        self.reactor.close()


class Process(Home):
    """What a process gives to its stubs: a lane to whoever is the callee now."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.callee: Callee | None = None
        self.idempotent: tuple[str, ...] = ()
        self.opened = 0
        self.asked: list[tuple[str, bool]] = []
        self.caller = Caller(self)

    def open_line(self, service: str, deadline: float, *, wait: bool) -> Line:
        assert deadline > self.clock.now
        self.asked.append((service, wait))
        if self.callee is None:
            raise ServiceUnavailable(service, "nobody offers it")
        self.opened += 1
        return self.callee.line(self, *self.idempotent, service=service)

    def stub(self, service: str = "math", options: Options | None = None) -> Dynamic:
        """Give a stub, whose line is opened at its first call."""
        return self.caller.find(
            service, options or Options(), lambda: self.open_line(service, FOREVER, wait=False)
        )


class Scripted(Home):
    """What a process gives to its stubs: one wire after the other, made beforehand by the test."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.wires: deque[Wire] = deque()
        self.made: list[Wire] = []
        self.caller = Caller(self)
        self.idempotent: set[tuple[str, str]] = set()

    def wire(self) -> Wire:
        """Make the wire that the next line to be opened is on."""
        wire = Wire(self.clock, self)
        self.wires.append(wire)
        self.made.append(wire)
        return wire

    def open_line(self, service: str, deadline: float, *, wait: bool) -> Line:
        if not self.wires:
            raise ServiceUnavailable(service, "nobody offers it")
        line = self.wires.popleft().line
        line.idempotent = set(self.idempotent)
        return line

    def stub(self, options: Options | None = None) -> Dynamic:
        return self.caller.find(
            "math",
            options or Options(),
            lambda: self.open_line("math", FOREVER, wait=False) if self.wires else None,
        )

    def close(self) -> None:
        self.caller.close()
        for wire in self.made:
            wire.close()
