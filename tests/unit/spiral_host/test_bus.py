from dataclasses import dataclass, field
from typing import cast
from unittest.mock import patch

import pytest

from protocol.errors import LocalProtocolError
from protocol.events import PluginEvent, PluginLoaded
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
    Informed,
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
)
from protocol.names import EVERYTHING, Topic
from protocol.payloads import decode_run
from protocol.publishing import LATE
from protocol.runs import Head, Run, pack_body, pack_run, unpack_run
from spiral_host.bus import Bus
from spiral_host.endpoint import Endpoint, Sent
from spiral_host.hub import LATE_S, MARK_S, TELL_S, Hub
from tests.clock import Clock, HandReactor

EPOCH = 3
LOSS = Topic("Loss")


@dataclass
class FakeEndpoint:
    """Writes down what is sent to all and to one; the deaf take nothing."""

    fanned: list[bytes] = field(default_factory=list)
    sent: list[tuple[bytes, FromHub]] = field(default_factory=list)
    deaf: set[bytes] = field(default_factory=set)

    def fan_out(self, frame: bytes) -> None:
        self.fanned.append(frame)

    def send_event_peer(self, peer: bytes, body: bytes) -> Sent:
        if peer in self.deaf:
            return Sent.DEAF
        self.sent.append((peer, FROM_HUB.decode(body)))
        return Sent.YES

    def _take(self, opening: bytes) -> list[bytes]:
        taken = [frame for frame in self.fanned if frame.startswith(opening)]
        self.fanned = [frame for frame in self.fanned if not frame.startswith(opening)]
        return [frame[len(opening) :] for frame in taken]

    def runs(self) -> list[Run]:
        """Give the runs that were sent to all, and forget them."""
        runs = [unpack_run(frame) for frame in self.fanned if frame[:1] != MARK]
        self.fanned = [frame for frame in self.fanned if frame[:1] == MARK]
        return runs

    def marks(self) -> list[int]:
        """Give the marks that were sent to all, and forget them."""
        return [int.from_bytes(frame, "big") for frame in self._take(SYNC)]

    def numbers(self) -> list[FromHub]:
        """Give what all were told of numbers, and forget it."""
        return [FROM_HUB.decode(frame) for frame in self._take(NUMBERS)]

    def asked(self) -> list[tuple[int, int, str]]:
        """Give the questions that were sent to all, and forget them."""
        asked = self._take(ASKED)
        return [(*EVENT.unpack_from(one), one[EVENT.size :].decode()) for one in asked]

    def to(self, peer: bytes, kind: type[FromHub]) -> list[FromHub]:
        """Give what one was told of one kind."""
        return [message for to, message in self.sent if to == peer and type(message) is kind]


class Station:
    """A bus without sockets."""

    def __init__(self, clock: Clock, *expected: str) -> None:
        self.reactor = HandReactor(clock)
        self.endpoint = FakeEndpoint()
        self.bus = Bus(Hub(EPOCH, expected=expected), cast("Endpoint", self.endpoint), self.reactor)

    def tell(self, peer: bytes, message: ToHub) -> None:
        self.bus.received(peer, [TO_HUB.encode(message)])

    def join(self, peer: bytes, name: str, *, filters: bool = False) -> None:
        self.tell(peer, Join(name, filters))

    def send_run(self, peer: bytes, number: int = 1, report: int = 0) -> None:
        head = Head(number, "p", 7, LOSS, number, 1, 1.0, report, 500 if report else 0)
        self.bus.received(peer, [pack_run(head, pack_body([b"\x01"])).frame])

    def marked(self) -> int:
        """Let the time pass until there is a mark, and give it."""
        self.reactor.pass_time(MARK_S)
        (mark,) = self.endpoint.marks()
        return mark

    def subscribe(self, prefix: bytes, *, ends: bool = False) -> None:
        self.bus.subscribed((b"\x00" if ends else b"\x01") + prefix)


@pytest.fixture
def station(clock: Clock) -> Station:
    """A bus with one peer."""
    station = Station(clock)
    station.join(b"A", "node:a")
    return station


class TestPublish:
    def test_the_daemons_own_events_are_numbered(self, station: Station, clock: Clock) -> None:
        """
        They come from `spiral-host`, in this daemon's life, one after the other; they are stamped.
        """
        station.bus.publish(PluginLoaded("a"))
        station.bus.publish(PluginLoaded("b"))

        runs = station.endpoint.runs()
        assert [run.head.line for run in runs] == [("spiral-host", EPOCH, "PluginLoaded")] * 2
        assert [run.head.first for run in runs] == [1, 2]
        assert list(decode_run(runs[1])) == [PluginLoaded("b")]
        assert runs[0].head.ts == clock.now

    def test_nothing_of_it_waits_for_acceptance(self, station: Station) -> None:
        """
        What the daemon knows dies with it: it keeps no ring that would fill.
        """
        for _ in range(10):
            station.bus.publish(PluginLoaded("a"))

        assert len(station.bus._own) == 0

    def test_past_events_are_had_from_what_is_kept(self, station: Station) -> None:
        """
        Whoever subscribes late asks for the newest runs of a pattern.
        """
        station.bus.publish(PluginLoaded("a"))
        station.send_run(b"A")
        own, loss = station.endpoint.runs()

        station.tell(b"A", Recall(1, LOSS, 5, 0.0))
        station.tell(b"A", Recall(2, EVERYTHING, 5, 0.0))

        assert station.endpoint.to(b"A", Recalled) == [
            Recalled(1, (loss.frame,)),
            Recalled(2, (own.frame, loss.frame)),
        ]


class TestPeers:
    def test_a_peer_that_joins_is_told_where_it_stands(self, station: Station) -> None:
        """
        It learns the daemon's number and which of its own runs have arrived, the numbers first.
        """
        assert station.endpoint.sent == [(b"A", Joined(EPOCH, 0))]
        station.send_run(b"A")

        station.join(b"A2", "node:a")

        numbers = Numbers((LastNumber("p", 7, LOSS, 1, 1),))
        assert station.endpoint.sent[1:] == [(b"A2", numbers), (b"A2", Joined(EPOCH, 1))]

    def test_a_run_is_accepted_once_it_is_everywhere(self, station: Station) -> None:
        """
        Fanned out, marked, answered: only then may its origin forget it.
        """
        station.send_run(b"A")
        assert [run.head.first for run in station.endpoint.runs()] == [1]
        assert station.endpoint.marks() == []
        mark = station.marked()
        assert len(station.endpoint.sent) == 1

        station.tell(b"A", Synced(mark))

        assert station.endpoint.sent[-1] == (b"A", Accepted(1))

    def test_all_are_told_the_numbers_and_then_there_is_silence(self, station: Station) -> None:
        """
        Twice after the last run, and no timer is left.
        """
        station.send_run(b"A")
        station.tell(b"A", Synced(station.marked()))
        station.reactor.pass_time(5 * TELL_S)

        assert station.endpoint.numbers() == [Numbers((LastNumber("p", 7, LOSS, 1, 1),))] * 2
        assert station.reactor.due == []

    def test_a_peer_that_does_not_answer_is_not_waited_for(self, station: Station) -> None:
        """
        After its time the origin may forget; a deadline is armed for exactly that.
        """
        station.join(b"B", "node:b")
        station.send_run(b"A")
        station.tell(b"A", Synced(station.marked()))
        assert station.endpoint.sent[-1] != (b"A", Accepted(1))

        station.reactor.pass_time(LATE_S)

        assert station.endpoint.sent[-1] == (b"A", Accepted(1))

    def test_one_that_answers_late_is_told_the_last_numbers(self, station: Station) -> None:
        """
        It may have missed the last events, behind which none shows the hole.
        """
        station.send_run(b"A")
        mark = station.marked()
        station.reactor.pass_time(LATE_S)

        station.tell(b"A", Synced(mark))

        numbers = Numbers((LastNumber("p", 7, LOSS, 1, 1),))
        assert station.endpoint.sent[-2:] == [(b"A", Accepted(1)), (b"A", numbers)]

    def test_one_that_leaves_is_not_waited_for(self, station: Station) -> None:
        """
        The others go on at once.
        """
        station.join(b"B", "node:b")
        station.send_run(b"A")
        station.tell(b"A", Synced(station.marked()))

        station.bus.leave("node:b")

        assert station.endpoint.sent[-1] == (b"A", Accepted(1))

    def test_what_was_missed_is_replayed(self, station: Station) -> None:
        """
        To the one that asks, from what is kept.
        """
        station.send_run(b"A")
        (run,) = station.endpoint.runs()
        station.tell(b"A", Replay("p", 7, LOSS, 1, 1))

        assert station.endpoint.sent[-1] == (b"A", Replayed("p", 7, LOSS, 1, (run.frame,)))

    def test_events_are_held_until_the_expected_are_there(self, clock: Clock) -> None:
        """
        A daemon that takes over sends nothing to few; when it waits no more, nothing is lost.
        """
        station = Station(clock, "node:last")
        station.bus.publish(PluginLoaded("a"))
        assert station.endpoint.runs() == []

        station.bus.open()

        (run,) = station.endpoint.runs()
        assert list(decode_run(run)) == [PluginLoaded("a")]


class TestInterest:
    def test_an_echo_comes_back(self, station: Station) -> None:
        """
        A peer that subscribes to its own echo learns that its subscriptions are in force.
        """
        station.subscribe(ECHO + b"token")

        assert station.endpoint.fanned == [ECHO + b"token"]

    def test_an_echo_waits_for_no_node_that_has_died(self, station: Station) -> None:
        """
        Its death may be known before its last words have come, and these make it no peer again.
        """
        station.bus.bury("node:b")
        station.join(b"B", "node:b", filters=True)
        station.subscribe(LOSS.encode() + b"\0")
        station.subscribe(ECHO + b"me")

        assert station.endpoint.fanned == [ECHO + b"me"]
        assert station.endpoint.to(b"B", Joined) == []

    def test_an_echo_waits_until_every_node_has_written_its_page(self, station: Station) -> None:
        """
        Else a publisher there might still think that nobody wants it.
        """
        station.join(b"N", "node:n", filters=True)
        station.tell(b"N", Informed(1))
        station.subscribe(b"Loss\0")
        station.subscribe(ECHO + b"token")
        told = station.endpoint.to(b"N", Interest)
        assert told == [Interest(1, (), (), full=True), Interest(2, (LOSS,), (), full=False)]
        assert station.endpoint.fanned == []

        station.tell(b"N", Informed(2))

        assert station.endpoint.fanned == [ECHO + b"token"]

    def test_it_does_not_wait_for_a_node_that_is_gone(self, station: Station) -> None:
        """
        There is no publisher left behind it.
        """
        station.join(b"N", "node:n", filters=True)
        station.subscribe(b"Loss\0")
        station.subscribe(ECHO + b"token")

        station.bus.leave("node:n")

        assert station.endpoint.fanned == [ECHO + b"token"]

    def test_one_that_nobody_waits_for_any_more_is_not_answered(self, station: Station) -> None:
        """
        Its subscriber has taken it back.
        """
        station.join(b"N", "node:n", filters=True)
        station.subscribe(ECHO + b"token")
        station.subscribe(ECHO + b"token", ends=True)
        station.tell(b"N", Informed(1))

        assert station.endpoint.fanned == []

    def test_a_node_whose_queue_is_full_is_told_again(self, station: Station) -> None:
        """
        All of it, until it has been told; subscribers wait meanwhile.
        """
        station.endpoint.deaf.add(b"N")
        station.join(b"N", "node:n", filters=True)
        station.subscribe(b"Trainer.")
        station.endpoint.deaf.clear()
        station.reactor.pass_time(0.5)

        (told,) = station.endpoint.to(b"N", Interest)
        assert isinstance(told, Interest)
        assert (told.added, told.full) == (("Trainer.*",), True)

    def test_what_nobody_wants_any_more_is_told(self, station: Station) -> None:
        """
        Then its publishers may save themselves the trouble.
        """
        station.join(b"N", "node:n", filters=True)
        station.tell(b"N", Informed(1))
        station.subscribe(b"")
        station.tell(b"N", Informed(2))
        station.subscribe(b"", ends=True)

        assert station.endpoint.to(b"N", Interest)[1:] == [
            Interest(2, ("*",), (), full=False),
            Interest(3, (), ("*",), full=False),
        ]

    @pytest.mark.parametrize("frame", [b"", b"\x01", b"\x01Loss\0", b"\x01Loss", b"\x01\xff!"])
    def test_nothing_else_is_answered(self, station: Station, frame: bytes) -> None:
        """
        Other subscriptions reach nobody here.
        """
        station.bus.subscribed(frame)

        assert station.endpoint.fanned == []


class TestReports:
    def test_all_are_asked_and_the_publisher_is_told(self, station: Station) -> None:
        """
        Who is given the event answers for its callbacks; who has nobody says so.
        """
        station.join(b"B", "node:b")
        station.send_run(b"A", report=4)
        assert station.endpoint.asked() == [(7, 4, LOSS)]
        station.tell(b"A", Concerned(7, 4, ()))
        station.tell(b"B", Concerned(7, 4, ("b", "c")))
        station.tell(b"B", Ran(7, 4, "b", 2, 0, ()))
        assert station.endpoint.to(b"A", Outcome) == []

        station.tell(b"B", Ran(7, 4, "c", 1, 1, ("ValueError: no",)))

        outcome = Outcome(7, 4, 3, 2, (("c", "ValueError: no"),))
        assert station.endpoint.to(b"A", Outcome) == [outcome]

    def test_the_question_follows_the_event(self, station: Station) -> None:
        """
        In the same queue: who is asked has been given the event, or never will be.
        """
        station.send_run(b"A", report=4)

        assert [frame.startswith(ASKED) for frame in station.endpoint.fanned] == [False, True]

    def test_who_does_not_answer_is_late(self, station: Station) -> None:
        """
        At the publisher's own deadline; a timer is armed for it.
        """
        station.send_run(b"A", report=4)
        station.tell(b"A", Concerned(7, 4, ("a",)))
        station.tell(b"A", Synced(station.marked()))

        station.reactor.pass_time(0.5)

        assert station.endpoint.to(b"A", Outcome) == [Outcome(7, 4, 1, 0, (("a", LATE),))]

    def test_who_has_gone_is_not_waited_for(self, station: Station) -> None:
        """
        A node that dies takes its workers with it.
        """
        station.join(b"B", "node:b")
        station.send_run(b"A", report=4)
        station.tell(b"A", Concerned(7, 4, ()))
        station.tell(b"B", Concerned(7, 4, ("b",)))

        station.bus.leave("node:b")

        (outcome,) = station.endpoint.to(b"A", Outcome)
        assert isinstance(outcome, Outcome)
        assert (outcome.matched, outcome.delivered) == (1, 0)


def garbled(**changes: object) -> bytes:
    head = Head(1, "p", 7, LOSS, 1, 1, 1.0)._replace(**changes)  # type: ignore[arg-type]
    return pack_run(head, pack_body([b"\x01"])).frame


class TestHostile:
    def test_nobody_waits_for_a_peer_that_nobody_knows(self, station: Station) -> None:
        """
        Every subscription would wait for its word that it knows what is wanted, and it never comes.
        """
        station.bus.knows = {"node:a"}.__contains__
        station.join(b"A", "node:a", filters=True)
        station.join(b"X", "made up", filters=True)
        (told,) = station.endpoint.to(b"A", Interest)
        assert isinstance(told, Interest)
        station.tell(b"A", Informed(told.generation))

        station.subscribe(ECHO + b"1")

        assert ECHO + b"1" in station.endpoint.fanned
        assert station.endpoint.to(b"X", Joined) == []

    def test_what_no_subscriber_says_is_none(self, station: Station) -> None:
        """
        A frame that only looks like a subscription takes nobody's away.
        """
        station.subscribe(b"Loss\0")
        for frame in (b"", b"\2Loss\0", b"Loss\0", b"\xffLoss\0"):
            station.bus.subscribed(frame)

        assert station.bus._interest.wanted == {LOSS}
        assert station.bus.violations == 4

    def test_a_question_whose_answer_is_too_long_is_dropped(self, station: Station) -> None:
        """
        It costs the one who asked its answer, and nobody anything else.
        """
        station.tell(b"A", Concerned(1, 1, ()))
        with patch.object(
            station.endpoint, "send_event_peer", side_effect=LocalProtocolError("too long")
        ):
            station.tell(b"A", Replay("p", 7, "Loss", 1, 2))

        assert station.bus.violations == 1

    @pytest.mark.parametrize(
        "frames",
        [
            [],
            [b""],
            [b"\xc1"],
            [b"a", b"b"],
            [b"\x95\x01\xa1p\x07\x01\x01"],
            [b"Loss\0"],
            [b"\xff!sync" + bytes(8)],
            [b"\xff\0" + garbled()[5:]],
            [garbled(events=0)],
            [garbled(first=0)],
            [garbled(first=2**64 - 1)],
            [garbled()[:20]],
            [TO_HUB.encode(Recall(1, "\0", 5, 0.0))],
            [TO_HUB.encode(Recall(1, "", 5, 0.0))],
        ],
        ids=repr,
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
        station.reactor.pass_time(3 * TELL_S)
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

        station.join(b"A2", "node:a")
        station.send_run(b"A2", 1)
        assert len(station.endpoint.runs()) == 1
        station.tell(b"A", Synced(1))

        assert station.endpoint.sent[2:] == [(b"A2", Joined(EPOCH, 0)), (b"A", JoinAgain())]

    def test_events_of_the_daemon_are_the_daemons(self, station: Station) -> None:
        """
        It publishes what nobody else may.
        """
        station.bus.publish(PluginEvent.SystemInit())

        assert [run.head.topic for run in station.endpoint.runs()] == ["SystemInit"]
