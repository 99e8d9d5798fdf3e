from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import zmq

import protocol.peer as peer_module
from protocol.answers import MAX_ANSWERS
from protocol.beginnings import SETTLED_S
from protocol.feed import (
    ASKED,
    ECHO,
    EVENT,
    FROM_HUB,
    MARK,
    NUMBERS,
    SYNC,
    TO_HUB,
    Accepted,
    Concerned,
    FromHub,
    Interest,
    Join,
    JoinAgain,
    Joined,
    LastNumber,
    Numbers,
    Outcome,
    Ran,
    Recall,
    Recalled,
    Replay,
    Replayed,
    Synced,
    ToHub,
    is_run,
)
from protocol.follower import REPLAY_S, RETURN_S, Delivery
from protocol.names import EVERYTHING, Topic
from protocol.outbox import RING_S
from protocol.peer import BusPeer
from protocol.runs import Head, Missing, Publication, Run, pack_body, pack_run, unpack_run
from tests.clock import Clock, HandReactor

LOSS, STEP = Topic("Loss"), Topic("Step")
NUMBERED = Numbers((LastNumber("p", 7, LOSS, 1, 3), LastNumber("p", 7, STEP, 1, 3)))


@dataclass
class FakeSocket:
    """Writes down what is sent and subscribed to; a full one takes nothing."""

    is_full: bool = False
    sent: list[bytes] = field(default_factory=list)
    incoming: deque[bytes] = field(default_factory=deque)
    subscribed: list[bytes] = field(default_factory=list)

    def send(self, frame: bytes, _: int) -> None:
        if self.is_full:
            raise zmq.Again
        self.sent.append(frame)

    def recv(self, _: int) -> bytes:
        if not self.incoming:
            raise zmq.Again
        return self.incoming.popleft()

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


@dataclass
class Behind:
    """Writes down what a peer hands on."""

    filters: bool = True
    seen: list[Delivery] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    interests: list[Interest] = field(default_factory=list)
    rooms: int = 0

    def deliver(self, delivery: Delivery) -> None:
        self.seen.append(delivery)

    def room(self) -> None:
        self.rooms += 1

    def concerned(self, incarnation: int, report: int, topic: Topic) -> tuple[str, ...]:
        return (f"{incarnation}/{report}/{topic}", f"after {len(self.seen)}")

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def told_interest(self, interest: Interest) -> None:
        self.interests.append(interest)


class Station:
    """A peer whose sockets are in the test's hands."""

    def __init__(self, clock: Clock, up: FakeSocket, down: FakeSocket) -> None:
        self.up, self.down = up, down
        self.reactor = SocketReactor(clock)
        self.behind = Behind()
        context = cast("zmq.Context[zmq.Socket[bytes]]", None)
        self.peer = BusPeer(self.reactor, context, ("", ""), self.behind)

    @property
    def seen(self) -> list[tuple[str, int, int]]:
        """The topics and numbers of what was handed on; those of a gap below 0."""
        return [
            (one.head.topic, one.head.first, one.head.last)
            if isinstance(one, Run)
            else (one.topic, -one.first, -one.last)
            for one in self.behind.seen
        ]

    def tell(self, message: FromHub) -> None:
        self.up.incoming.append(FROM_HUB.encode(message))
        self.reactor.reads[id(self.up)]()

    def fan_out(self, frame: bytes) -> None:
        self.down.incoming.append(frame)
        self.reactor.reads[id(self.down)]()

    def run(self, number: int, topic: Topic = LOSS) -> None:
        self.fan_out(frame_of(number, topic))

    def echo(self) -> None:
        (mark,) = self.echoes()
        self.fan_out(mark)

    def echoes(self) -> list[bytes]:
        return [prefix for prefix in self.down.subscribed if prefix.startswith(ECHO)]

    def told(self) -> list[ToHub]:
        """Give what the hub was told, and forget it."""
        said = [TO_HUB.decode(body) for body in self.up.sent if not is_run(body)]
        self.up.sent = [body for body in self.up.sent if is_run(body)]
        return said

    def sent(self) -> list[int]:
        """Give the transmissions of the runs that were sent, and forget them."""
        runs = [unpack_run(frame).head.transmission for frame in self.up.sent if is_run(frame)]
        self.up.sent = [frame for frame in self.up.sent if not is_run(frame)]
        return runs

    def publish(self, topic: Topic = STEP, *, sticky: bool = False) -> None:
        self.peer.publish("p", 7, Publication(topic, pack_body([b"\x01"]), 1, sticky=sticky))

    def rejoin(self, epoch: int, after: int) -> None:
        """The daemon goes and the next one comes."""
        self.peer.lost()
        self.peer.join("node:a")
        self.echo()
        self.tell(Joined(epoch, after))


def frame_of(number: int, topic: Topic = LOSS) -> bytes:
    head = Head(number, "p", 7, topic, number, 1, 1.0)
    return pack_run(head, pack_body([b"\x01"])).frame


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Station:
    """A peer that follows one type, of a hub that it has joined."""
    clock = Clock()
    monkeypatch.setattr(peer_module, "time", clock)
    sockets = deque[FakeSocket]()
    for name in ("publisher", "subscriber"):
        monkeypatch.setattr(peer_module, name, lambda *_: sockets.popleft())
    up, down = FakeSocket(), FakeSocket()
    sockets.extend([up, down])
    station = Station(clock, up, down)
    station.peer.subscribe(LOSS)
    station.peer.join("node:a")
    station.echo()
    assert station.told() == [Join("node:a", filters=True)]
    station.tell(Joined(1, 0))
    station.behind.rooms = 0
    return station


class TestJoining:
    def test_a_stranger_joins_again_and_sends_what_is_kept(self, station: Station) -> None:
        """
        What the hub dropped meanwhile is sent again, once subscriptions are in force there.
        """
        station.publish()
        assert station.sent() == [1]

        station.tell(JoinAgain())
        assert not station.peer.has_hub
        assert station.told() == []
        station.echo()
        assert station.told() == [Join("node:a", filters=True)]
        station.tell(Joined(1, 0))

        assert station.peer.has_hub
        assert station.sent() == [1]

    def test_what_has_arrived_is_not_sent_again(self, station: Station) -> None:
        """
        The hub says how far it has heard this peer.
        """
        for _ in range(3):
            station.publish()
        station.sent()
        station.rejoin(1, 2)

        assert station.sent() == [3]

    def test_what_is_published_meanwhile_waits(self, station: Station) -> None:
        """
        Without a hub nothing is sent, and nothing lost.
        """
        station.peer.lost()
        station.publish()
        assert station.sent() == []

        station.rejoin(2, 0)

        assert station.sent() == [1]
        assert station.behind.rooms == 1

    def test_a_full_connection_is_joined_afresh(self, station: Station) -> None:
        """
        The hub may be another by now: it is joined behind an echo, as at first.
        """
        station.up.is_full = True
        station.publish()
        station.echo()
        station.up.is_full = False
        station.reactor.pass_time(0.1)
        assert station.told() == []

        station.echo()

        assert station.told() == [Join("node:a", filters=True)]

    def test_an_answer_that_is_lost_is_asked_for_again(self, station: Station) -> None:
        """
        Neither an echo nor a Joined that never comes keeps a peer from its hub; no echo piles up.
        """
        before = station.reactor.due
        station.tell(JoinAgain())
        station.reactor.pass_time(7.0)
        station.echo()
        assert station.told() == [Join("node:a", filters=True)]
        station.reactor.pass_time(2.0)
        station.echo()
        assert station.told() == [Join("node:a", filters=True)]

        station.tell(Joined(1, 0))

        assert station.reactor.due == before
        assert station.echoes() == []

    def test_without_a_daemon_it_waits(self, station: Station) -> None:
        """
        Who has lost its daemon joins when it is told to, not before.
        """
        before = station.reactor.due
        station.tell(JoinAgain())
        station.peer.lost()

        assert station.reactor.due == before
        assert station.echoes() == []

    def test_a_new_hub_is_given_the_last_of_sticky_types(self, station: Station) -> None:
        """
        They have long been accepted, but it does not have them; they come before what is newer,
        each once and in the order in which they were published, or it would drop some.
        """
        other = Topic("Other")
        for topic in (LOSS, STEP, LOSS, other):
            station.publish(topic, sticky=topic != other)
        station.tell(Accepted(3))
        station.publish(STEP, sticky=True)
        station.sent()

        station.rejoin(2, 0)
        assert station.sent() == [3, 4, 5]
        station.tell(Accepted(5))
        station.rejoin(3, 0)
        assert station.sent() == [3, 5]

    def test_what_waits_too_long_for_a_hub_is_given_up(self, station: Station) -> None:
        """
        It is no news any more, and the hub would not keep it either.
        """
        station.peer.lost()
        station.publish()
        station.reactor.pass_time(RING_S + 20)

        assert len(station.peer.outbox) == 0


class TestFollowing:
    def test_the_last_numbers_show_what_is_missing(self, station: Station) -> None:
        """
        A loss behind which nothing comes is asked for, and named when it cannot be had.
        """
        station.run(1)
        station.tell(NUMBERED)
        assert station.told() == [Replay("p", 7, LOSS, 2, 3)]

        station.reactor.pass_time(REPLAY_S)

        assert station.behind.seen[1:] == [Missing("p", 7, LOSS, 2, 3)]

    def test_what_all_are_told_shows_it_too(self, station: Station) -> None:
        """
        The numbers come in the same queue as the events, and are asked after once.
        """
        station.run(1)
        for _ in range(2):
            station.fan_out(NUMBERS + FROM_HUB.encode(NUMBERED))

        assert station.told() == [Replay("p", 7, LOSS, 2, 3)]

    def test_a_line_whose_first_runs_were_lost(self, station: Station) -> None:
        """
        Nothing of it has come; but it began while the peer was listening, so all of it is missing.
        """
        station.tell(Numbers((LastNumber("old", 1, LOSS, 1, 9),)))
        station.reactor.pass_time(SETTLED_S)
        station.tell(Numbers((LastNumber("p", 7, LOSS, 1, 3), LastNumber("old", 1, LOSS, 1, 10))))

        assert station.told() == [Replay("p", 7, LOSS, 1, 3)]
        station.tell(Replayed("p", 7, LOSS, 3, (frame_of(2), frame_of(3))))
        assert station.seen == [(LOSS, -1, -1), (LOSS, 2, 2), (LOSS, 3, 3)]

    def test_a_line_of_which_only_the_first_runs_were_lost(self, station: Station) -> None:
        """
        They are named behind what came, once.
        """
        station.reactor.pass_time(SETTLED_S)
        station.run(3)
        for _ in range(2):
            station.tell(Numbers((LastNumber("p", 7, LOSS, 1, 3),)))

        assert station.behind.seen[1:] == [Missing("p", 7, LOSS, 1, 2)]

    def test_what_was_missed_comes_again(self, station: Station) -> None:
        """
        In its order, between what was there and what waited.
        """
        station.run(1)
        station.run(3)
        assert station.told() == [Replay("p", 7, LOSS, 2, 2)]
        station.tell(Replayed("p", 7, LOSS, 2, (frame_of(2),)))

        assert station.seen == [(LOSS, 1, 1), (LOSS, 2, 2), (LOSS, 3, 3)]

    def test_another_peers_nonsense_is_a_gap(self, station: Station) -> None:
        """
        Live or replayed: what is no run costs its own numbers, and nobody else anything.
        """
        garbled = (frame_of(2)[:-2], frame_of(2)[:-4], b"Loss\0", b"\xc1", b"")
        station.run(1)
        for frame in garbled:
            station.fan_out(frame)
        station.run(3)
        station.tell(Replayed("p", 7, LOSS, 2, garbled))

        assert station.seen == [(LOSS, 1, 1), (LOSS, -2, -2), (LOSS, 3, 3)]

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
        assert station.told() == [Join("node:a", filters=True), Replay("p", 7, LOSS, 1, 2)]

        station.reactor.pass_time(REPLAY_S)

        assert station.seen == [(LOSS, -1, -2), (LOSS, 3, 3)]

    def test_a_hole_waits_for_the_next_hub(self, station: Station) -> None:
        """
        Who published what is missing may send it again there, long after the hub's death.
        """
        station.run(1)
        station.run(3)
        station.peer.lost()
        station.reactor.pass_time(60)
        assert station.seen == [(LOSS, 1, 1)]
        station.peer.join("node:a")
        station.echo()
        station.tell(Joined(2, 0))
        station.run(2)

        assert station.seen == [(LOSS, 1, 1), (LOSS, 2, 2), (LOSS, 3, 3)]

    def test_what_nobody_sends_again_is_asked_for_then_named(self, station: Station) -> None:
        """
        The next hub is asked when there was time for that.
        """
        station.run(1)
        station.run(3)
        station.told()
        station.rejoin(2, 0)
        station.told()
        station.reactor.pass_time(RETURN_S - 0.01)
        assert (station.seen, station.told()) == ([(LOSS, 1, 1)], [])
        station.reactor.pass_time(0.01)
        assert station.told() == [Replay("p", 7, LOSS, 2, 2)]
        station.reactor.pass_time(REPLAY_S)

        assert station.seen == [(LOSS, 1, 1), (LOSS, -2, -2), (LOSS, 3, 3)]

    def test_a_new_hole_does_not_wait_for_old_ones(self, station: Station) -> None:
        """
        The hub that is there is asked for it at once, and it is named in time.
        """
        station.peer.subscribe(STEP)
        station.run(1)
        station.run(3)
        station.run(1, STEP)
        station.rejoin(2, 0)
        station.told()
        station.run(3, STEP)
        assert station.told() == [Replay("p", 7, STEP, 2, 2)]
        station.reactor.pass_time(REPLAY_S)

        assert station.seen[2:] == [(STEP, -2, -2), (STEP, 3, 3)]

    def test_a_dead_hubs_numbers_are_its_own(self, station: Station) -> None:
        """
        What it counted and nobody here had, before it died, is no hole at the next one.
        """
        station.peer.lost()
        station.tell(NUMBERED)
        station.fan_out(NUMBERS + FROM_HUB.encode(NUMBERED))
        assert station.told() == []
        station.run(5)
        station.peer.join("node:a")
        station.echo()
        station.tell(Joined(2, 0))
        station.told()

        assert (station.seen, station.told()) == ([(LOSS, 5, 5)], [])

    def test_what_is_numbered_here_needs_no_hub(self, station: Station) -> None:
        """
        Numbers that were used up without events are a gap at once; what was published here before
        it was subscribed to here is none.
        """
        station.publish()
        station.peer.lost()
        station.peer.subscribe(STEP)
        station.peer.join("node:a")
        station.echo()
        station.told()
        station.tell(Numbers((LastNumber("p", 7, STEP, 1, 1),)))
        station.publish()
        station.peer.outbox.skip("p", 7, STEP, 2)
        station.publish()

        assert station.seen == [(STEP, 2, 2), (STEP, -3, -4), (STEP, 5, 5)]
        assert station.told() == []

    def test_what_is_no_longer_wanted_is_not_followed(self, station: Station) -> None:
        """
        Events that were under way when a type was unsubscribed start no line.
        """
        station.peer.unsubscribe(LOSS)
        station.run(1)
        station.tell(NUMBERED)

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

        assert station.seen == [(LOSS, 1, 1), (STEP, 1, 1), (STEP, -2, -2), (STEP, 3, 3)]
        assert Replay("p", 7, LOSS, 2, 2) in station.told()

    @pytest.mark.parametrize(
        ("pattern", "prefix"), [("Loss", b"Loss\0"), ("Trainer.*", b"Trainer."), ("*", b"")]
    )
    def test_a_pattern_is_a_prefix(self, station: Station, pattern: str, prefix: bytes) -> None:
        """
        Where a name ends, its type ends: nobody is sent `EpochStart` for `Epoch`.
        """
        station.peer.subscribe(Topic(pattern))
        assert station.down.subscribed[-1] == prefix
        before = list(station.down.subscribed)
        station.peer.unsubscribe(Topic(pattern))

        before.remove(prefix)
        assert station.down.subscribed == before


class TestMarks:
    def test_a_mark_is_answered(self, station: Station) -> None:
        """
        Everything before it has been handed on by then.
        """
        station.fan_out(SYNC + (300).to_bytes(8, "big"))

        assert station.told() == [Synced(300)]

    def test_who_is_asked_says_who_is_given_an_event(self, station: Station) -> None:
        """
        Once it has been handed on.
        """
        station.run(1)
        station.fan_out(ASKED + EVENT.pack(7, 4) + b"Loss")

        assert station.told() == [Concerned(7, 4, ("7/4/Loss", "after 1"))]

    def test_a_subscription_is_confirmed_by_its_echo(self, station: Station) -> None:
        """
        Once, and nothing of it is left.
        """
        held: list[tuple[bytes, ...]] = []
        station.peer.subscribe(STEP)
        station.peer.confirm(STEP, 5, 2.0, held.append)
        (mark,) = station.echoes()
        assert station.down.subscribed.index(b"Step\0") < station.down.subscribed.index(mark)
        station.fan_out(ECHO + b"another's")
        assert station.told() == []
        for _ in range(2):
            station.fan_out(mark)
        assert station.told() == [Recall(1, STEP, 5, 2.0)]
        assert station.echoes() == []
        for _ in range(2):
            station.tell(Recalled(1, (b"frame",)))

        assert held == [(b"frame",)]

    def test_an_echo_or_a_past_that_is_lost_is_asked_for_again(self, station: Station) -> None:
        """
        In a flood the queue to this peer has no room for it; of the first echo nothing is left.
        """
        before = station.reactor.due
        held: list[tuple[bytes, ...]] = []
        station.peer.confirm(STEP, 5, 2.0, held.append)
        first = station.echoes()
        station.reactor.pass_time(1.5)
        assert station.echoes() != first
        station.echo()
        assert station.told() == [Recall(1, STEP, 5, 2.0)]
        station.reactor.pass_time(1.0)
        assert station.told() == [Recall(1, STEP, 5, 2.0)]
        station.tell(Recalled(1, ()))

        assert held == [()]
        assert (station.reactor.due, station.echoes()) == (before, [])

    def test_what_became_of_an_event_waits_for_the_question(self, station: Station) -> None:
        """
        Who is near has run its callbacks before the hub knows of the event, or while there is none;
        and the next hub asks again.
        """
        said = Ran(7, 4, "q", 1, 0, ())
        station.peer.lost()
        station.peer.publish("p", 7, Publication(LOSS, pack_body([b"\x01"]), 1, 4, 5000))
        station.peer.ran(said)
        assert station.told() == []
        for epoch in (2, 3):
            station.rejoin(epoch, 0)
            station.told()
            station.fan_out(ASKED + EVENT.pack(7, 4) + b"Loss")
            assert station.told()[1:] == [said]

        other = Ran(7, 4, "r", 1, 0, ())
        station.peer.ran(other)
        assert station.told() == [other]
        station.tell(Outcome(7, 4, 2, 2, ()))
        station.fan_out(ASKED + EVENT.pack(7, 4) + b"Loss")
        assert len(station.told()) == 1

    def test_what_others_published_is_answered_at_once(self, station: Station) -> None:
        """
        The hub has asked whom it concerns, or is about to.
        """
        said = Ran(8, 4, "q", 1, 0, ())
        station.peer.ran(said)

        assert station.told() == [said]

    def test_answers_are_kept_of_few_events(self, station: Station) -> None:
        """
        A publisher that waits for more than the hub keeps in mind fills no memory here.
        """
        for number in range(1, MAX_ANSWERS + 10):
            said = Publication(LOSS, pack_body([b"\x01"]), 1, number, 5000)
            station.peer.publish("p", 7, said)

        assert len(station.peer._answers) == MAX_ANSWERS

    def test_the_next_hub_is_asked_for_the_past_again(self, station: Station) -> None:
        """
        The last one may have died over the question; what is not in force yet is not asked for.
        """
        held: list[tuple[bytes, ...]] = []
        station.peer.confirm(STEP, 5, 2.0, held.append)
        station.echo()
        station.peer.confirm(LOSS, 0, 2.0, held.append)
        station.told()
        station.tell(Joined(2, 0))

        assert station.told() == [Recall(1, STEP, 5, 2.0)]
        station.echo()
        assert station.told() == [Recall(2, LOSS, 0, 2.0)]

    def test_what_no_peer_knows_is_passed_over(self, station: Station) -> None:
        """
        A later hub may say more.
        """
        station.fan_out(MARK + b"!later")

        assert (station.told(), station.seen) == ([], [])


class TestHub:
    def test_what_is_accepted_makes_room(self, station: Station) -> None:
        """
        It is forgotten here, and those who wait are told.
        """
        station.publish()
        station.tell(Accepted(1))

        assert (len(station.peer.outbox), station.behind.rooms) == (0, 1)

    def test_what_is_for_those_behind_is_handed_on(self, station: Station) -> None:
        """
        What is wanted, and what became of an event.
        """
        outcome = Outcome(7, 4, 1, 1, ())
        interest = Interest(1, (LOSS,), (), full=True)
        station.tell(outcome)
        station.tell(interest)

        assert (station.behind.outcomes, station.behind.interests) == ([outcome], [interest])

    def test_it_is_told_or_not_there(self, station: Station) -> None:
        """
        Who has something to say learns whether it has left.
        """
        assert station.peer.tell(Synced(1))
        station.up.is_full = True
        assert not station.peer.tell(Synced(1))
