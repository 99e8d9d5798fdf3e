"""Follower, hub and outbox together, over a bus that loses, repeats and restarts.

The wires keep the order of what they do not lose, as ZeroMQ's do; everything else may happen.
"""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.feed import Frames, Missing, Replay, Replayed, Run, unpack_head, unpack_run
from protocol.follower import Delivery, Follower
from protocol.names import Topic
from protocol.outbox import Outbox
from spiral_host.hub import Accept, Action, FanOut, Hub, Mark, TellNumbers

TOPICS = [Topic("Loss"), Topic("Step")]
PEERS = 3


@dataclass
class Peer:
    """A node: publishes, follows, and answers marks."""

    name: str
    outbox: Outbox = field(default_factory=Outbox)
    follower: Follower = field(default_factory=Follower)
    up: deque[Frames] = field(default_factory=deque)
    down: deque[Frames | int] = field(default_factory=deque)
    asked: deque[Replay] = field(default_factory=deque)
    is_joined: bool = False
    seen: list[Delivery] = field(default_factory=list)


class Bus:
    """The whole bus, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.published: dict[tuple[str, Topic], int] = {}
        self.peers = [Peer(f"peer{number}") for number in range(PEERS)]
        self.hub = Hub(1)
        for peer in self.peers:
            self.join(peer)

    def join(self, peer: Peer) -> None:
        """What was on its way over the old connection is lost."""
        peer.up.clear()
        peer.down.clear()
        after, actions = self.hub.join(peer.name.encode(), peer.name, self.now)
        peer.is_joined = True
        peer.asked.clear()
        self.carry_out(actions)
        peer.up.extend(peer.outbox.after(after))

    def publish(self, peer: Peer, topic: Topic, count: int) -> None:
        """Publish a few events at once."""
        payloads = [b""] * count
        frames = peer.outbox.put(peer.name, 1, topic, payloads, self.now)
        key = peer.name, topic
        self.published[key] = self.published.get(key, 0) + count
        if peer.is_joined:
            peer.up.append(frames)

    def hear(self, peer: Peer) -> None:
        """The hub takes in what a peer has sent."""
        while peer.up:
            frames = peer.up.popleft()
            head = unpack_head(frames[0], frames[1])
            self.carry_out(self.hub.arrive(peer.name.encode(), head, frames))
        while peer.asked:
            self.replayed(peer, self.hub.replay(peer.asked.popleft()))
        self.carry_out(self.hub.pause(self.now))

    def read(self, peer: Peer, dropped: int) -> None:
        """A peer takes in what was fanned out, without what its full socket dropped."""
        for _ in range(min(dropped, len(peer.down))):
            peer.down.popleft()
        while peer.down:
            item = peer.down.popleft()
            if isinstance(item, int):
                self.carry_out(self.hub.synced(peer.name.encode(), item, self.now))
                continue
            deliveries, wanted = peer.follower.arrive(unpack_run(*item), self.now)
            peer.seen += deliveries
            if wanted is not None and peer.is_joined:
                peer.asked.append(wanted)

    def replayed(self, peer: Peer, answer: Replayed) -> None:
        """A peer takes in the hub's answer."""
        topic = answer.topic.encode() + b"\0"
        pairs = zip(answer.heads, answer.bodies, strict=True)
        runs = [unpack_run(topic, head, body) for head, body in pairs]
        key = (answer.source, answer.incarnation, Topic(answer.topic))
        peer.seen += peer.follower.replayed(key, runs, answer.last)

    def restart(self) -> None:
        """The daemon is killed; the next one expects the same peers."""
        self.hub = Hub(self.hub.epoch + 1, expected=[peer.name for peer in self.peers])
        for peer in self.peers:
            peer.up.clear()
            peer.down.clear()
            peer.asked.clear()
            peer.is_joined = False

    def wait(self, seconds: float) -> None:
        """Time passes, and every deadline is kept."""
        self.now += seconds
        self.carry_out(self.hub.expire(self.now))
        for peer in self.peers:
            peer.seen += peer.follower.expire(self.now)

    def carry_out(self, actions: list[Action]) -> None:
        """Do what the hub decided."""
        for action in actions:
            if isinstance(action, FanOut):
                for peer in self.peers:
                    peer.down.append(action.frames)
            elif isinstance(action, Mark):
                for peer in self.peers:
                    peer.down.append(action.number)
            elif isinstance(action, Accept):
                name = action.peer.decode()
                next(p for p in self.peers if p.name == name).outbox.accepted(action.transmission)
            elif isinstance(action, TellNumbers):
                name = action.peer.decode()
                self.counted(next(p for p in self.peers if p.name == name), action)

    def counted(self, peer: Peer, told: TellNumbers) -> None:
        """A peer learns how far the lines have come."""
        for line in told.lines:
            key = (line.source, line.incarnation, Topic(line.topic))
            wanted = peer.follower.counted(key, line.last, self.now)
            if wanted is not None:
                peer.asked.append(wanted)

    def come_to_rest(self) -> None:
        """Let everybody catch up, without any further loss."""
        for peer in self.peers:
            if not peer.is_joined:
                self.join(peer)
        for _ in range(4):
            for peer in self.peers:
                self.hear(peer)
            for peer in self.peers:
                self.read(peer, 0)
            self.wait(2.0)


WHO = st.integers(0, PEERS - 1)
STEPS = st.lists(
    st.tuples(st.just("publish"), WHO, st.sampled_from(TOPICS), st.integers(1, 3))
    | st.tuples(st.just("hear"), WHO)
    | st.tuples(st.just("read"), WHO, st.sampled_from([0, 0, 0, 1, 3]))
    | st.tuples(st.just("repeat"), WHO)
    | st.tuples(st.just("reconnect"), WHO)
    | st.tuples(st.just("restart"))
    | st.tuples(st.just("wait"), st.sampled_from([0.01, 0.5, 1.5])),
    min_size=25,
    max_size=60,
)


def play(steps: list[tuple[object, ...]], *, lossy: bool) -> Bus:
    """Play a history; a bus that is not lossy drops nothing and reads in time."""
    bus = Bus()
    for name, *rest in steps:
        if name == "wait":
            for peer in () if lossy else bus.peers:
                bus.read(peer, 0)  # who reads in time is waited for
            bus.wait(rest[0])  # type: ignore[arg-type]
        elif name == "restart":
            bus.restart()
        else:
            peer = bus.peers[rest[0]]  # type: ignore[call-overload]
            move(bus, peer, str(name), rest[1:], lossy=lossy)
    bus.come_to_rest()
    return bus


def move(bus: Bus, peer: Peer, name: str, rest: list[object], *, lossy: bool) -> None:
    """Let one peer do something."""
    if name == "publish":
        bus.publish(peer, rest[0], rest[1])  # type: ignore[arg-type]
    elif name == "hear":
        bus.hear(peer)
    elif name == "read":
        bus.read(peer, rest[0] if lossy else 0)  # type: ignore[arg-type]
    elif name == "repeat":
        peer.up.extend(peer.outbox.after(0) if peer.is_joined else ())
    elif lossy or not peer.is_joined:
        bus.join(peer)


def check_lines(peer: Peer) -> dict[tuple[str, Topic], list[Delivery]]:
    """Make sure that each line is whole: in order, once, every hole named; give the lines."""
    lines: dict[tuple[str, Topic], list[Delivery]] = {}
    for delivery in peer.seen:
        lines.setdefault((delivery.source, delivery.topic), []).append(delivery)
    for deliveries in lines.values():
        following = deliveries[0].first
        assert isinstance(deliveries[0], Run)
        for delivery in deliveries:
            assert delivery.first == following
            assert delivery.last >= delivery.first
            following = delivery.last + 1
    return lines


class TestBus:
    @settings(max_examples=100, deadline=None)
    @given(STEPS)
    def test_every_number_is_seen_once_or_named(self, steps: list[tuple[object, ...]]) -> None:
        """
        Whatever is lost, repeated or restarted: every subscriber sees each publisher's numbers
        in order, once, and every hole named.
        """
        bus = play(steps, lossy=True)

        for peer in bus.peers:
            check_lines(peer)

    @settings(max_examples=100, deadline=None)
    @given(STEPS)
    def test_a_restarted_hub_loses_nothing(self, steps: list[tuple[object, ...]]) -> None:
        """
        When only the daemon is killed, every event reaches every subscriber that reads in time,
        and none is kept for longer.
        """
        bus = play(steps, lossy=False)

        for peer in bus.peers:
            lines = check_lines(peer)
            assert not any(isinstance(delivery, Missing) for delivery in peer.seen)
            assert {key: line[-1].last for key, line in lines.items()} == bus.published
            assert all(line[0].first == 1 for line in lines.values())
            assert len(peer.outbox) == 0
