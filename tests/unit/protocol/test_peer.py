from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import zmq

import protocol.peer as peer_module
from protocol.feed import (
    ECHO,
    FROM_HUB,
    TO_HUB,
    FromHub,
    Join,
    JoinAgain,
    Joined,
    LastNumber,
    Missing,
    Numbers,
    Replay,
    Run,
    ToHub,
    pack_run,
)
from protocol.follower import REPLAY_S, Delivery
from protocol.names import EVERYTHING, Topic
from protocol.peer import BusPeer
from tests.clock import Clock, HandReactor

LOSS, STEP = Topic("Loss"), Topic("Step")


@dataclass
class FakeSocket:
    """Writes down what is sent and subscribed to; a full one takes nothing."""

    is_full: bool = False
    sent: list[bytes | tuple[bytes, ...]] = field(default_factory=list)
    incoming: deque[Any] = field(default_factory=deque)
    subscribed: list[bytes] = field(default_factory=list)

    def send(self, message: Any, _: int) -> None:  # noqa: ANN401 - a frame or several
        if self.is_full:
            raise zmq.Again
        self.sent.append(message)

    def recv(self, _: int) -> Any:  # noqa: ANN401
        if not self.incoming:
            raise zmq.Again
        return self.incoming.popleft()

    send_multipart, recv_multipart = send, recv

    def subscribe(self, prefix: bytes) -> None:
        self.subscribed.append(prefix)

    def unsubscribe(self, prefix: bytes) -> None:
        self.subscribed.remove(prefix)


class SocketReactor(HandReactor):
    """Knows who reads which socket."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.reads: dict[int, Any] = {}

    def watch_zmq(self, socket: Any, callback: Any) -> None:  # noqa: ANN401
        self.reads[id(socket)] = callback


class Station:
    """A peer whose sockets are in the test's hands."""

    def __init__(self, clock: Clock, up: FakeSocket, down: FakeSocket) -> None:
        self.up, self.down = up, down
        self.reactor = SocketReactor(clock)
        self.seen: list[Delivery] = []
        context = cast("zmq.Context[zmq.Socket[bytes]]", None)
        self.peer = BusPeer(
            self.reactor, context, ("", ""), deliver=self.seen.append, room=lambda: None
        )

    def tell(self, message: FromHub) -> None:
        self.up.incoming.append(FROM_HUB.encode(message))
        self.reactor.reads[id(self.up)]()

    def fan_out(self, *frames: bytes) -> None:
        self.down.incoming.append(list(frames))
        self.reactor.reads[id(self.down)]()

    def run(self, number: int, topic: Topic = LOSS) -> None:
        name, head, body = pack_run(Run("p", 7, topic, number, [0.0], [b""]), number)
        self.fan_out(name, bytes(8), head, body)

    def echo(self) -> None:
        (mark,) = self.echoes()
        self.fan_out(mark)

    def echoes(self) -> list[bytes]:
        return [prefix for prefix in self.down.subscribed if prefix.startswith(ECHO)]

    def told(self) -> list[ToHub]:
        """Give what the hub was told, and forget it."""
        sent, self.up.sent = self.up.sent, []
        return [TO_HUB.decode(body) for body in sent if isinstance(body, bytes)]


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Station:
    """A peer that follows one type, of a hub that it has joined."""
    clock = Clock()
    monkeypatch.setattr(peer_module, "time", clock)
    sockets = deque[FakeSocket]()
    for name in ("dealer", "subscriber"):
        monkeypatch.setattr(peer_module, name, lambda *_: sockets.popleft())
    up, down = FakeSocket(), FakeSocket()
    sockets.extend([up, down])
    station = Station(clock, up, down)
    station.peer.subscribe(LOSS)
    station.peer.join("node:a")
    station.echo()
    assert station.told() == [Join("node:a")]
    station.tell(Joined(1, 0))
    return station


class TestJoining:
    def test_a_stranger_joins_again_and_sends_what_is_kept(self, station: Station) -> None:
        """
        What the hub dropped meanwhile is sent again, once subscriptions are in force there.
        """
        station.peer.publish("p", 7, STEP, [b"\x01"])
        dropped = station.up.sent.pop()

        station.tell(JoinAgain())
        assert not station.peer.has_hub
        assert station.told() == []
        station.echo()
        assert station.told() == [Join("node:a")]
        station.tell(Joined(1, 0))

        assert station.peer.has_hub
        assert station.up.sent == [dropped]

    def test_a_full_connection_is_joined_afresh(self, station: Station) -> None:
        """
        The hub may be another by now: it is joined behind an echo, as at first.
        """
        station.up.is_full = True
        station.peer.publish("p", 7, STEP, [b"\x01"])
        station.echo()
        station.up.is_full = False
        station.reactor.pass_time(0.1)
        assert station.told() == []

        station.echo()

        assert station.told() == [Join("node:a")]

    def test_an_answer_that_is_lost_is_asked_for_again(self, station: Station) -> None:
        """
        Neither an echo nor a Joined that never comes keeps a peer from its hub; no echo piles up.
        """
        station.tell(JoinAgain())
        station.reactor.pass_time(10.0)
        station.echo()
        assert station.told() == [Join("node:a")]
        station.reactor.pass_time(2.0)
        station.echo()
        assert station.told() == [Join("node:a")]

        station.tell(Joined(1, 0))

        assert station.reactor.due == []
        assert station.echoes() == []

    def test_without_a_daemon_it_waits(self, station: Station) -> None:
        """
        Who has lost its daemon joins when it is told to, not before.
        """
        station.tell(JoinAgain())
        station.peer.lost()

        assert station.reactor.due == []
        assert station.echoes() == []


class TestFollowing:
    def test_the_last_numbers_show_what_is_missing(self, station: Station) -> None:
        """
        A loss behind which nothing comes is asked for, and named when it cannot be had.
        """
        station.run(1)
        lines = (LastNumber("p", 7, LOSS, 1, 3), LastNumber("p", 7, STEP, 1, 3))
        station.tell(Numbers(lines))
        assert station.told() == [Replay("p", 7, LOSS, 2, 3)]

        station.reactor.pass_time(REPLAY_S)

        assert station.seen[1:] == [Missing("p", 7, LOSS, 2, 3)]

    def test_what_a_new_hub_sent_before_it_was_joined(self, station: Station) -> None:
        """
        Events that went out before this peer was back are had from the first on, in order.
        """
        station.peer.lost()
        station.peer.join("node:a")
        station.echo()
        station.run(3)
        assert station.seen == []
        station.tell(Numbers((LastNumber("p", 7, LOSS, 1, 2), LastNumber("p", 7, STEP, 1, 2))))
        station.tell(Joined(2, 0))
        assert station.told() == [Join("node:a"), Replay("p", 7, LOSS, 1, 2)]

        station.reactor.pass_time(REPLAY_S)

        assert [one.first for one in station.seen] == [1, 3]

    def test_what_is_no_longer_wanted_is_not_followed(self, station: Station) -> None:
        """
        Events that were under way when a type was unsubscribed start no line.
        """
        station.peer.unsubscribe(LOSS)
        station.run(1)
        station.tell(Numbers((LastNumber("p", 7, LOSS, 1, 3),)))

        assert (station.seen, station.told()) == ([], [])

    def test_the_star_ends_and_a_name_goes_on(self, station: Station) -> None:
        """
        Types that are subscribed by name keep their place.
        """
        station.peer.subscribe(EVERYTHING)
        station.run(1)
        station.run(1, STEP)
        station.run(3, STEP)
        station.peer.unsubscribe(EVERYTHING)
        station.run(1)
        station.run(3)

        assert [(one.topic, one.first) for one in station.seen] == [
            (LOSS, 1),
            (STEP, 1),
            (STEP, 2),
            (STEP, 3),
        ]
        assert Replay("p", 7, LOSS, 2, 2) in station.told()
