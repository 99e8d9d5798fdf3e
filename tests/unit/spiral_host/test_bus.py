from dataclasses import dataclass, field
from typing import cast

import pytest

from protocol.events import PluginLoaded
from protocol.feed import (
    ECHO,
    FROM_HUB,
    SYNC,
    TO_HUB,
    Accepted,
    FromHub,
    Join,
    JoinAgain,
    Joined,
    LastNumber,
    Numbers,
    Replay,
    Replayed,
    Run,
    Synced,
    ToHub,
    decode_events,
    pack_run,
    unpack_run,
)
from protocol.names import Topic
from spiral_host.bus import Bus
from spiral_host.endpoint import Endpoint, Sent
from spiral_host.hub import LATE_S, Hub
from tests.clock import Clock, HandReactor

EPOCH = 3
LOSS = Topic("Loss")


@dataclass
class FakeEndpoint:
    """Writes down what is sent to all and to one."""

    fanned: list[list[bytes]] = field(default_factory=list)
    sent: list[tuple[bytes, FromHub]] = field(default_factory=list)

    def fan_out(self, frames: list[bytes]) -> None:
        self.fanned.append(frames)

    def send_event_peer(self, peer: bytes, body: bytes) -> Sent:
        self.sent.append((peer, FROM_HUB.decode(body)))
        return Sent.YES

    def runs(self) -> list[Run]:
        """Give the runs that were sent to all, and forget them."""
        runs = [unpack_run(f[0], f[2], f[3]) for f in self.fanned if f[0] != SYNC]
        self.fanned = [frames for frames in self.fanned if frames[0] == SYNC]
        return runs

    def marks(self) -> list[int]:
        """Give the marks that were sent to all, and forget them."""
        marks = [int.from_bytes(f[1], "big") for f in self.fanned if f[0] == SYNC]
        self.fanned = [frames for frames in self.fanned if frames[0] != SYNC]
        return marks


class Station:
    """A bus without sockets."""

    def __init__(self, clock: Clock, *expected: str) -> None:
        self.reactor = HandReactor(clock)
        self.endpoint = FakeEndpoint()
        self.bus = Bus(Hub(EPOCH, expected=expected), cast("Endpoint", self.endpoint), self.reactor)

    def tell(self, peer: bytes, message: ToHub) -> None:
        self.bus.received(peer, [TO_HUB.encode(message)])

    def send_run(self, peer: bytes, number: int = 1) -> None:
        run = Run("p", 7, LOSS, number, [1.0], [b"\x01"])
        self.bus.received(peer, list(pack_run(run, number)))


@pytest.fixture
def station(clock: Clock) -> Station:
    """A bus with one peer."""
    station = Station(clock)
    station.tell(b"A", Join("node:a"))
    return station


class TestPublish:
    def test_the_daemons_own_events_are_numbered(self, station: Station, clock: Clock) -> None:
        """
        They come from `spiral-host`, in this daemon's life, one after the other.
        """
        station.bus.publish(PluginLoaded("a"))
        station.bus.publish(PluginLoaded("b"))

        runs = station.endpoint.runs()
        assert [(run.source, run.incarnation, run.first) for run in runs] == [
            ("spiral-host", EPOCH, 1),
            ("spiral-host", EPOCH, 2),
        ]
        assert decode_events(runs[1]) == [PluginLoaded("b")]
        assert runs[0].stamps == [clock.now]


class TestPeers:
    def test_a_peer_that_joins_is_told_where_it_stands(self, station: Station) -> None:
        """
        It learns the daemon's number and which of its own runs have arrived.
        """
        assert station.endpoint.sent == [(b"A", Joined(EPOCH, 0))]
        station.send_run(b"A")

        station.tell(b"A2", Join("node:a"))

        numbers = Numbers((LastNumber("p", 7, LOSS, 1, 1),))
        assert station.endpoint.sent[1:] == [(b"A2", numbers), (b"A2", Joined(EPOCH, 1))]

    def test_a_run_is_accepted_once_it_is_everywhere(self, station: Station) -> None:
        """
        Fanned out, marked, answered: only then may its origin forget it.
        """
        station.send_run(b"A")
        assert [run.first for run in station.endpoint.runs()] == [1]
        station.bus.pause()
        (mark,) = station.endpoint.marks()
        assert len(station.endpoint.sent) == 1

        station.tell(b"A", Synced(mark))

        assert station.endpoint.sent[-1] == (b"A", Accepted(1))
        assert station.reactor.due == []

    def test_a_peer_that_does_not_answer_is_not_waited_for(self, station: Station) -> None:
        """
        After its time the origin may forget; a deadline is armed for exactly that.
        """
        station.tell(b"B", Join("node:b"))
        station.send_run(b"A")
        station.bus.pause()
        (mark,) = station.endpoint.marks()
        station.tell(b"A", Synced(mark))
        assert station.endpoint.sent[-1] != (b"A", Accepted(1))

        station.reactor.pass_time(LATE_S)

        assert station.endpoint.sent[-1] == (b"A", Accepted(1))

    def test_one_that_answers_late_is_told_the_last_numbers(self, station: Station) -> None:
        """
        It may have missed the last events, behind which none shows the hole.
        """
        station.send_run(b"A")
        station.bus.pause()
        (mark,) = station.endpoint.marks()
        station.reactor.pass_time(LATE_S)

        station.tell(b"A", Synced(mark))

        numbers = Numbers((LastNumber("p", 7, LOSS, 1, 1),))
        assert station.endpoint.sent[-2:] == [(b"A", Accepted(1)), (b"A", numbers)]

    def test_one_that_leaves_is_not_waited_for(self, station: Station) -> None:
        """
        The others go on at once.
        """
        station.tell(b"B", Join("node:b"))
        station.send_run(b"A")
        station.bus.pause()
        (mark,) = station.endpoint.marks()
        station.tell(b"A", Synced(mark))

        station.bus.leave("node:b")

        assert station.endpoint.sent[-1] == (b"A", Accepted(1))

    def test_what_was_missed_is_replayed(self, station: Station) -> None:
        """
        To the one that asks, from what is kept.
        """
        station.send_run(b"A")
        station.tell(b"A", Replay("p", 7, LOSS, 1, 1))

        peer, replayed = station.endpoint.sent[-1]
        assert peer == b"A"
        assert isinstance(replayed, Replayed)
        assert len(replayed.bodies) == 1

    def test_events_are_held_until_the_expected_are_there(self, clock: Clock) -> None:
        """
        A daemon that takes over sends nothing to few; when it waits no more, nothing is lost.
        """
        station = Station(clock, "node:last")
        station.bus.publish(PluginLoaded("a"))
        assert station.endpoint.runs() == []

        station.bus.open()

        assert [decode_events(run) for run in station.endpoint.runs()] == [[PluginLoaded("a")]]


class TestSubscribed:
    def test_an_echo_comes_back(self, station: Station) -> None:
        """
        A peer that subscribes to its own echo learns that its subscriptions are in force.
        """
        station.bus.subscribed(b"\x01" + ECHO + b"token")

        assert station.endpoint.fanned == [[ECHO + b"token"]]

    @pytest.mark.parametrize("frame", [b"", b"\x01", b"\x01Loss\0", b"\x00" + ECHO + b"token"])
    def test_nothing_else_does(self, station: Station, frame: bytes) -> None:
        """
        Other subscriptions, and the end of an echo's, are nobody's business.
        """
        station.bus.subscribed(frame)

        assert station.endpoint.fanned == []


class TestHostile:
    @pytest.mark.parametrize(
        "frames",
        [
            [],
            [b""],
            [b"\xc1"],
            [b"a", b"b"],
            [b"a", b"b", b"c"],
            [b"\xff\0", b"\x95\x01\xa1p\x07\x01\x01", b""],
            [b"a", b"b", b"c", b"d"],
        ],
    )
    def test_what_is_no_message_is_dropped_and_counted(
        self, station: Station, frames: list[bytes]
    ) -> None:
        """
        Nobody gets it, and nobody is harmed.
        """
        station.bus.received(b"A", frames)

        assert station.bus.violations == 1
        assert station.endpoint.fanned == []

    def test_one_that_has_not_joined_is_not_heard(self, station: Station) -> None:
        """
        Its runs would have no place to be accepted from.
        """
        station.send_run(b"stranger")

        assert station.endpoint.runs() == []

    def test_it_is_asked_to_join_once(self, station: Station) -> None:
        """
        A peer that reconnected may not know that it has to; each new connection is asked.
        """
        for number in (1, 2):
            station.send_run(b"A2", number)
        station.tell(b"A2", Synced(1))
        assert station.endpoint.sent[1:] == [(b"A2", JoinAgain())]

        station.tell(b"A2", Join("node:a"))
        station.send_run(b"A2", 1)
        assert len(station.endpoint.runs()) == 1
        station.tell(b"A", Synced(1))

        assert station.endpoint.sent[2:] == [(b"A2", Joined(EPOCH, 0)), (b"A", JoinAgain())]
