"""Peers and their hub together, drivers and all, over a bus that loses, repeats and is killed.

The wires keep the order of what they do not lose, as ZeroMQ's do; everything else may happen.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol import peer as peer_module
from protocol.beginnings import SETTLED_S
from protocol.feed import Interest, Outcome
from protocol.follower import Delivery
from protocol.names import EVERYTHING, Topic
from protocol.peer import BusPeer
from protocol.runs import Missing, Publication, Run, pack_body
from spiral_host import bus as bus_module
from spiral_host.bus import Bus
from spiral_host.endpoint import Endpoint, Sent
from spiral_host.hub import Hub
from tests.clock import Clock, HandReactor

TOPICS = [Topic("Loss"), Topic("Step")]
PEERS = 3
FEW = 4
"""What waits in a queue of a bus that loses things."""

PLENTY = 10**6

Step = tuple[Any, ...]
LineKey = tuple[str, int, str]


class Socket:
    """A peer's end of one of its two connections."""

    def __init__(self) -> None:
        self.is_open = False
        self.out: deque[bytes] = deque()
        self.incoming: deque[bytes] = deque()
        self.prefixes: list[bytes] = []

    def send(self, frame: bytes, _: int) -> None:
        if not self.is_open:
            raise zmq.Again
        self.out.append(frame)

    def recv(self, _: int) -> bytes:
        if not self.incoming:
            raise zmq.Again
        return self.incoming.popleft()

    def subscribe(self, prefix: bytes) -> None:
        self.prefixes.append(prefix)
        self._tell(b"\x01" + prefix)

    def unsubscribe(self, prefix: bytes) -> None:
        self.prefixes.remove(prefix)
        self._tell(b"\x00" + prefix)

    def _tell(self, frame: bytes) -> None:
        if self.is_open:
            self.out.append(frame)

    def cut(self, received: int) -> None:
        """What was on its way is lost, but for what has been received and waits to be read."""
        self.out.clear()
        while len(self.incoming) > received:
            self.incoming.pop()
        self.is_open = False


@dataclass
class Behind:
    """A peer's own publishers and subscribers."""

    filters = False
    seen: list[Delivery] = field(default_factory=list)

    def deliver(self, delivery: Delivery) -> None:
        self.seen.append(delivery)

    def room(self) -> None:
        pass

    def concerned(self, *_: object) -> tuple[str, ...]:
        return ()

    def outcome(self, outcome: Outcome) -> None:
        pass

    def told_interest(self, interest: Interest) -> None:
        pass


class Reactor(HandReactor):
    """Its timers are the world's; sockets are read when the world says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.reads: dict[int, Callable[[], None]] = {}

    def watch_zmq(self, socket: Any, callback: Callable[[], None]) -> None:  # noqa: ANN401
        self.reads[id(socket)] = callback


class Place:
    """One peer, its sockets, and what the hub knows of it."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.up, self.down = Socket(), Socket()
        self.behind = Behind()
        self.life = 1
        self.connections = 0
        self.known: list[bytes] = []
        world.sockets.extend([self.up, self.down])
        context = cast("zmq.Context[zmq.Socket[bytes]]", None)
        self.peer = BusPeer(world.reactor, context, ("", ""), self.behind)
        self.peer.subscribe(EVERYTHING)

    @property
    def key(self) -> bytes:
        return f"{self.name}#{self.connections}".encode()

    def cut(self, received: int = 0) -> None:
        self.up.cut(received)
        self.down.cut(received)
        self.known.clear()

    def connect(self) -> None:
        """Both sockets are connected; a subscriber tells the hub all that it wants."""
        self.connections += 1
        self.up.is_open = self.down.is_open = True
        self.down.out.extend(b"\x01" + prefix for prefix in self.down.prefixes)


class Sockets:
    """One daemon's endpoint; what it still says once it is killed reaches nobody."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.is_open = True

    def fan_out(self, frame: bytes) -> None:
        for place in self._world.places if self.is_open else ():
            is_wanted = any(frame.startswith(prefix) for prefix in place.known)
            if is_wanted and len(place.down.incoming) < self._world.room:
                place.down.incoming.append(frame)

    def send_event_peer(self, key: bytes, body: bytes) -> Sent:
        for place in self._world.places if self.is_open else ():
            if place.key == key and place.up.is_open:
                place.up.incoming.append(body)
                return Sent.YES
        return Sent.GONE


class World:
    """The whole bus, moved by hand."""

    def __init__(self, clock: Clock) -> None:
        self.room = PLENTY
        self.clock = clock
        self.reactor = Reactor(clock)
        self.sockets: deque[Socket] = deque()
        self.published: dict[LineKey, int] = {}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("publisher", "subscriber"):
                patch.setattr(peer_module, name, lambda *_: self.sockets.popleft())
            self.places = [Place(self, f"peer{number}") for number in range(PEERS)]
        self.epoch = 0
        self.bus = self.begin()
        self.come_to_rest()

    def begin(self) -> Bus:
        """A daemon begins; it expects who was there, if it is not the first."""
        self.epoch += 1
        self.endpoint = Sockets(self)
        expected = [place.name for place in self.places] if self.epoch > 1 else []
        hub = Hub(self.epoch, expected=expected)
        return Bus(hub, cast("Endpoint", self.endpoint), self.reactor)

    def kill(self, received: int) -> None:
        """The daemon is killed; the next one knows who was there."""
        self.endpoint.is_open = False
        for place in self.places:
            place.cut(received)
            place.peer.lost()
        self.bus = self.begin()

    # --- what happens -----------------------------------------------------------------------------

    def publish(self, place: Place, topic: Topic, count: int) -> None:
        line = (place.name, place.life, topic)
        self.published[line] = self.published.get(line, 0) + count
        said = Publication(topic, pack_body([b"\xc0"] * count), count)
        place.peer.publish(place.name, place.life, said)

    def hear(self, place: Place) -> None:
        """The hub takes in what a peer has sent."""
        while place.down.out:
            frame = place.down.out.popleft()
            if frame[:1] == b"\x01":
                place.known.append(frame[1:])
            else:
                place.known.remove(frame[1:])
            if frame[:1] == b"\x01" or not any(frame[1:] in each.known for each in self.places):
                self.bus.subscribed(frame)
        while place.up.out:
            self.bus.received(place.key, [place.up.out.popleft()])

    def read(self, *sockets: Socket) -> None:
        """A peer takes in what has come for it."""
        for socket in sockets:
            while socket.incoming:
                self.reactor.reads[id(socket)]()

    def come(self, place: Place) -> None:
        """A peer has found the daemon again, and is told so."""
        if not place.up.is_open:
            place.connect()
            place.peer.join(place.name)

    def settle(self) -> None:
        """Let everything that is on its way arrive."""
        while any(
            socket.incoming or socket.out
            for place in self.places
            for socket in (place.up, place.down)
        ):
            for place in self.places:
                self.hear(place)
                self.read(place.up, place.down)

    def come_to_rest(self) -> None:
        """Let everybody catch up, without any further loss."""
        self.room = PLENTY
        for place in self.places:
            self.come(place)
        for _ in range(60):
            self.settle()
            self.reactor.pass_time(0.1)
        self.settle()


WHO = st.integers(0, PEERS - 1)
PUBLISH = st.tuples(st.just("publish"), WHO, st.sampled_from(TOPICS), st.integers(1, 3))
COMMON = (
    PUBLISH
    | PUBLISH
    | st.tuples(st.just("hear"), WHO)
    | st.tuples(st.just("hear"), WHO)
    | st.tuples(st.sampled_from(["read up", "read down"]), WHO)
    | st.tuples(st.just("again"), WHO)
    | st.tuples(st.just("wait"), st.sampled_from([0.003, 0.01, 0.5, 1.5]))
)
DEATHS = st.tuples(st.just("kill"), st.sampled_from([0, 1, 2, PLENTY])) | st.tuples(
    st.just("come"), WHO
)
LOSSES = st.tuples(st.just("reconnect"), WHO)

KILLED_BEFORE_IT_TOLD: list[Step] = [
    ("publish", 2, TOPICS[0], 1),
    ("wait", 0.003),
    ("publish", 2, TOPICS[0], 1),
    ("hear", 2),
    ("kill", 0),
    ("come", 0),
    ("wait", 0.5),
]
"""A run goes down with its hub; what that would have told of it later is not told."""

KILLED_AFTER_IT_TOLD: list[Step] = [
    ("publish", 2, TOPICS[0], 1),
    ("wait", 1.5),
    ("read down", 0),
    ("publish", 2, TOPICS[0], 1),
    ("hear", 2),
    ("hear", 0),
    ("read up", 0),
    ("kill", 0),
    ("wait", 1.5),
]
"""A peer hears of a run that goes down with its hub, on the other way."""


def histories(*kinds: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.one_of(*kinds), min_size=20, max_size=60)


@contextmanager
def at_the_time_of(clock: Clock) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (peer_module, bus_module):
            patch.setattr(module, "time", clock)
        yield


def play(steps: list[Step], *, lossy: bool) -> World:
    """Play a history; in a world that loses nothing, everybody reads before time passes."""
    clock = Clock()
    with at_the_time_of(clock):
        world = World(clock)
        world.room = FEW if lossy else PLENTY
        for step in steps:
            move(world, *step, lossy=lossy)
        world.come_to_rest()
        return world


def move(world: World, name: str, *rest: Any, lossy: bool) -> None:  # noqa: ANN401
    if name == "kill":
        world.kill(*rest)
    elif name == "wait":
        if not lossy:
            world.settle()
        world.reactor.pass_time(rest[0])
    else:
        act(world, world.places[rest[0]], name, rest[1:])


def act(world: World, place: Place, name: str, rest: tuple[Any, ...]) -> None:
    """Let one peer do something."""
    if name == "publish":
        world.publish(place, *rest)
    elif name == "hear":
        world.hear(place)
    elif name == "read up":
        world.read(place.up)
    elif name == "read down":
        world.read(place.down)
    elif name == "again":
        place.life += 1  # its publisher is another from now on
    elif name == "come":
        world.come(place)
    elif place.up.is_open:
        place.cut()
        place.connect()  # nobody tells the peer


def lines_of(place: Place) -> dict[LineKey, list[tuple[bool, int, int]]]:
    """Make sure that each line is whole: in order, once, every hole named; give the lines."""
    lines: dict[LineKey, list[tuple[bool, int, int]]] = {}
    for delivery in place.behind.seen:
        about = delivery.head if isinstance(delivery, Run) else delivery
        line = lines.setdefault((about.source, about.incarnation, about.topic), [])
        line.append((isinstance(delivery, Run), about.first, about.last))
    for line in lines.values():
        begun = line[0][1]
        # That its beginning was lost may be heard of late.
        line.sort(key=lambda part: part[2] >= begun)
        following = line[0][1]
        for _, first, last in line:
            assert first == following
            assert last >= first
            following = last + 1
    return lines


def ends_of(place: Place) -> dict[LineKey, int]:
    return {key: line[-1][2] for key, line in lines_of(place).items()}


class TestBus:
    @settings(max_examples=60, deadline=None)
    @given(histories(COMMON, DEATHS, LOSSES))
    def test_every_number_is_seen_once_or_named(self, steps: list[Step]) -> None:
        """
        Whatever is lost, repeated or killed: every subscriber sees each publisher's numbers in
        order, once, and every hole named, up to the next event of each line at the latest.
        """
        world = play(steps, lossy=True)
        for place in world.places:
            lines_of(place)

        with at_the_time_of(world.clock):
            for place in world.places:
                for topic in TOPICS:
                    world.publish(place, topic, 1)
            world.come_to_rest()

        for place in world.places:
            ends = ends_of(place)
            for author in world.places:
                for topic in TOPICS:
                    line = (author.name, author.life, topic)
                    assert ends[line] == world.published[line]

    @settings(max_examples=60, deadline=None)
    @given(histories(COMMON))
    def test_a_full_queue_is_noticed_in_silence(self, steps: list[Step]) -> None:
        """
        While the hub lives, a settled subscriber hears of every line, from its first number to its
        last, though nothing comes behind what was lost; and no ring stays full.
        """
        world = play([("wait", SETTLED_S), *steps], lossy=True)

        for place in world.places:
            assert ends_of(place) == world.published
            assert all(line[0][1] == 1 for line in lines_of(place).values())
            assert len(place.peer.outbox) == 0

    @settings(max_examples=60, deadline=None)
    @given(histories(COMMON, DEATHS))
    @example(KILLED_BEFORE_IT_TOLD)
    @example(KILLED_AFTER_IT_TOLD)
    def test_a_killed_hub_loses_nothing(self, steps: list[Step]) -> None:
        """
        When only the daemon is killed, every event reaches every subscriber that reads in time,
        and none is kept for longer.
        """
        world = play(steps, lossy=False)

        for place in world.places:
            assert not any(isinstance(delivery, Missing) for delivery in place.behind.seen)
            lines = lines_of(place)
            assert {key: line[-1][2] for key, line in lines.items()} == world.published
            assert all(line[0][1] == 1 for line in lines.values())
            assert len(place.peer.outbox) == 0
            assert place.peer.has_hub
