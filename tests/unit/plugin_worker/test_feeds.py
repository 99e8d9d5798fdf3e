from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from plugin_worker.node import interest as interest_module
from plugin_worker.node.feeds import (
    LAST_GIVEN,
    LOOK_S,
    MAX_AWAITED,
    MAX_DROPPED,
    MAX_OWED,
    SLOW_BYTES,
    Feeds,
    Wire,
)
from protocol.backlog import MAX_EVENTS
from protocol.errors import RemoteProtocolError
from protocol.feed import Informed, Interest, Outcome, Ran, ToHub
from protocol.interest import InterestReader
from protocol.messages import CallbacksRan, Published, Reported, Subscribe, Subscribed, ToEndpoint
from protocol.names import EVERYTHING, Topic
from protocol.outbox import RING_EVENTS, Outbox
from protocol.permissions import EVERYONE, Permissions
from protocol.runs import (
    MAX_RUN,
    MAX_TYPES,
    Head,
    Missing,
    Publication,
    Run,
    pack_body,
    pack_publication,
    pack_run,
    unpack_delivery,
)
from protocol.subscriptions import MAX_PATTERNS
from protocol.window import ANSWER_BYTES, ANSWER_EVENTS, WINDOW_BYTES, WINDOW_EVENTS
from tests.clock import Clock, HandReactor

LOSS, STEP = Topic("Loss"), Topic("Step")


class FakePeer:
    """The machine's place on the bus."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.has_hub = True
        self.published: list[tuple[str, int, Topic, int]] = []
        self.here: list[int] = []
        self.wanted: list[Topic] = []
        self.echoes: list[Callable[[tuple[bytes, ...]], None]] = []
        self.pasts: list[tuple[Topic, int, float]] = []
        self.told: list[ToHub] = []

    def publish(self, source: str, incarnation: int, said: Publication) -> None:
        self.outbox.put(source, incarnation, said, 0.0)
        self.published.append((source, incarnation, said.topic, said.events))

    def publish_here(self, source: str, incarnation: int, said: Publication) -> None:
        self.here.append(self.outbox.number(source, incarnation, said, 0.0).head.first)

    def subscribe(self, topic: Topic) -> None:
        self.wanted.append(topic)

    def confirm(
        self, pattern: Topic, last: int, since: float, then: Callable[[tuple[bytes, ...]], None]
    ) -> None:
        self.pasts.append((pattern, last, since))
        self.echoes.append(then)

    def unsubscribe(self, topic: Topic) -> None:
        self.wanted.remove(topic)

    def tell(self, message: ToHub) -> None:
        self.told.append(message)

    def ran(self, ran: Ran) -> None:
        self.told.append(ran)


@dataclass
class Worker:
    """A worker as its node sees it."""

    unsent: int = 0
    ran: int = 0
    given: list[Run | Missing] = field(default_factory=list)
    is_full_after: int = -1

    def take(self, body: bytes) -> None:
        self.given.append(unpack_delivery(body))
        if len(self.given) == self.is_full_after:
            self.unsent = SLOW_BYTES + 1

    def wire(self) -> Wire:
        return Wire(
            send=self.take,
            unsent=lambda: self.unsent,
            ran=lambda: self.ran,
        )

    @property
    def numbers(self) -> list[tuple[int, int]]:
        """What it was given; the numbers of a gap below 0."""
        return [
            (one.head.first, one.head.last) if isinstance(one, Run) else (-one.first, -one.last)
            for one in self.given
        ]


class Machine:
    """The feeds of two workers, 1 and 2."""

    def __init__(self, clock: Clock) -> None:
        self.told: list[tuple[int, ToEndpoint]] = []
        self.reactor = HandReactor(clock)
        self.denied: list[tuple[int, str, str]] = []
        self.feeds = Feeds(
            self.reactor,
            lambda to, message: self.told.append((to, message)),
            lambda *denied: self.denied.append(denied),
        )
        self.peer = FakePeer()
        self.feeds.peer = self.peer  # type: ignore[assignment]
        self.workers = {1: Worker(), 2: Worker()}
        for life, worker in self.workers.items():
            self.feeds.add(life, f"plugin{life}", worker.wire(), EVERYONE)

    def subscribe(self, life: int, pattern: Topic, *, holds: bool = True) -> None:
        self.feeds.subscribe(life, pattern, wish("q", pattern))
        if holds:
            self.peer.echoes.pop()(())
            self.told.clear()

    def publish(self, count: int = 1, life: int = 1, payload: bytes = b"\xc0") -> None:
        self.feeds.published(life, packet([payload] * count))

    def fill(self) -> None:
        """Fill the ring of worker 1, as many packets would."""
        for _ in range(2):
            self.peer.publish("plugin1", 1, Publication(LOSS, b"", RING_EVENTS // 2))

    def receipts(self) -> list[tuple[int, int, int]]:
        """Who was told to have so many events, and their bytes, taken in."""
        return [(to, one.events, one.size) for to, one in self.told if isinstance(one, Published)]

    def next_number(self) -> int:
        return self.peer.outbox.skip("plugin1", 1, LOSS, 1)


def wish(request: str, pattern: Topic) -> Subscribe:
    return Subscribe(request, pattern, 5, 2.0)


def packet(payloads: list[bytes], topic: Topic = LOSS) -> bytes:
    return pack_publication(Publication(topic, pack_body(payloads), len(payloads)))


def run(
    first: int, last: int, topic: Topic = LOSS, *, report: int = 0, sticky: bool = False
) -> Run:
    count = last - first + 1
    head = Head(1, "src", 7, topic, first, count, 1.0, report, 0, sticky)
    return pack_run(head, pack_body([b"\xc0"] * count))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    clock = Clock()
    monkeypatch.setattr(interest_module, "time", clock)
    machine = Machine(clock)
    yield machine
    machine.feeds.interest.close()


class TestLastGiven:
    def test_what_a_worker_was_given_last_is_remembered(self, machine: Machine) -> None:
        """
        By name and numbers, for the report of its death; what it missed too, and no more of them.
        """
        machine.subscribe(1, LOSS)
        assert machine.feeds.last_given(1) == ()
        machine.feeds.deliver(run(1, 4))
        machine.feeds.deliver(Missing("src", 7, LOSS, 5, 6))
        assert machine.feeds.last_given(1) == ("Loss src 1-4", "Loss src 5-6 (missed)")

        for number in range(7, 7 + LAST_GIVEN):
            machine.feeds.deliver(run(number, number))
        assert machine.feeds.last_given(1)[0] == "Loss src 7-7"
        assert len(machine.feeds.last_given(1)) == LAST_GIVEN
        assert machine.feeds.last_given(2) == machine.feeds.last_given(99) == ()


class TestSubscriptions:
    def test_a_subscription_is_confirmed_when_it_holds(self, machine: Machine) -> None:
        """
        A worker hears that it is subscribed once the hub has said so, be there one or not yet.
        """
        machine.peer.has_hub = False
        machine.feeds.subscribe(1, LOSS, wish("q", LOSS))
        assert machine.told == []

        machine.peer.echoes[0](())

        assert machine.told == [(1, Subscribed("q", ()))]
        assert machine.peer.pasts == [(LOSS, 5, 2.0)]

    def test_the_machine_subscribes_once(self, machine: Machine) -> None:
        """
        What several workers want comes to the machine once, until the last wants it no more.
        """
        machine.feeds.subscribe(1, LOSS, wish("q", LOSS))
        machine.feeds.subscribe(2, LOSS, wish("r", LOSS))
        assert machine.peer.wanted == [LOSS]
        assert machine.told == []
        for echo, past in zip(machine.peer.echoes, ((), (b"frame",)), strict=True):
            echo(past)
        assert machine.told == [(1, Subscribed("q", ())), (2, Subscribed("r", (b"frame",)))]

        machine.feeds.unsubscribe(1, LOSS)
        assert machine.peer.wanted == [LOSS]
        machine.feeds.remove(2)
        machine.feeds.remove(2)

        assert machine.peer.wanted == []
        machine.feeds.unsubscribe(1, LOSS)

    def test_a_confirmation_may_come_too_late(self, machine: Machine) -> None:
        """
        For a worker that has gone, or has thought better of it, it means nothing more.
        """
        machine.subscribe(1, LOSS, holds=False)
        machine.subscribe(2, LOSS, holds=False)
        machine.feeds.remove(1)
        machine.feeds.unsubscribe(2, LOSS)
        for echo in machine.peer.echoes:
            echo(())

        assert machine.feeds.concerned(7, 4, LOSS) == ()

    def test_subscriptions_are_bounded(self, machine: Machine) -> None:
        """
        One worker cannot fill the machine with subscriptions.
        """
        machine.feeds._readers[1].patterns.update(
            Topic(str(number)) for number in range(MAX_PATTERNS)
        )

        with pytest.raises(RemoteProtocolError):
            machine.feeds.subscribe(1, LOSS, wish("q", LOSS))

    def test_a_worker_asks_for_one_at_a_time(self, machine: Machine) -> None:
        """
        What is kept is much work to look up; who wants it often keeps the daemon from nobody else.
        """
        for number, topic in enumerate((LOSS, STEP, EVERYTHING, LOSS)):
            machine.feeds.subscribe(1, topic, wish(f"q{number}", topic))
        machine.feeds.subscribe(2, STEP, wish("r", STEP))
        assert [topic for topic, _, _ in machine.peer.pasts] == [LOSS, STEP]

        machine.feeds.unsubscribe(1, STEP)
        for echo in machine.peer.echoes:
            echo(())

        told = [one for to, one in machine.told if to == 1 and isinstance(one, Subscribed)]
        assert [one.request for one in told] == ["q0", "q2", "q3"]
        machine.feeds.subscribe(1, STEP, wish("q4", STEP))
        assert machine.peer.pasts[-1] == (STEP, 5, 2.0)

    def test_what_waits_to_be_confirmed_is_bounded(self, machine: Machine) -> None:
        """
        Also of one pattern, while no daemon is there.
        """
        for number in range(MAX_PATTERNS):
            machine.feeds.subscribe(1, LOSS, wish(str(number), LOSS))

        with pytest.raises(RemoteProtocolError):
            machine.feeds.subscribe(1, LOSS, wish("q", LOSS))


class TestInterest:
    def test_the_hub_is_told_when_the_page_says_so(self, machine: Machine) -> None:
        """
        By then every publisher of this machine knows what is wanted.
        """
        page = InterestReader(machine.feeds.interest.fd)
        assert page.wants(STEP)
        machine.feeds.told_interest(Interest(5, (LOSS,), (), full=True))

        assert (page.wants(LOSS), page.wants(STEP)) == (True, False)
        assert machine.peer.told == [Informed(5)]

    def test_what_its_own_workers_want_stands_there_too(self, machine: Machine) -> None:
        """
        From before the subscription is confirmed until its end, or the worker's.
        """
        page = InterestReader(machine.feeds.interest.fd)
        machine.feeds.told_interest(Interest(5, (), (), full=True))
        for ends_by in ("its word", "its death"):
            machine.feeds.subscribe(1, LOSS, wish("q", LOSS))
            machine.reactor.pass_time(0.0)
            assert page.wants(LOSS)
            if ends_by == "its word":
                machine.feeds.unsubscribe(1, LOSS)
            else:
                machine.feeds.remove(1)
            machine.reactor.pass_time(0.0)
            assert not page.wants(LOSS)


class TestDown:
    def test_events_go_to_those_who_want_them(self, machine: Machine) -> None:
        """
        A worker is given the types it wants, once each, and everything if it wants that.
        """
        machine.subscribe(1, LOSS)
        machine.subscribe(1, EVERYTHING)
        machine.subscribe(2, STEP)
        machine.feeds.deliver(run(1, 2))
        machine.feeds.deliver(Missing("src", 7, LOSS, 3, 4))

        assert machine.workers[1].given == [run(1, 2), Missing("src", 7, LOSS, 3, 4)]
        assert machine.workers[2].given == []

    def test_a_worker_that_does_not_read_is_told_what_it_missed(self, machine: Machine) -> None:
        """
        A slow reader misses events by number, in one gap, once it has caught up, though nothing
        else comes for it; it costs nobody else anything.
        """
        machine.subscribe(1, LOSS)
        machine.subscribe(2, LOSS)
        machine.workers[1].unsent = SLOW_BYTES + 1
        machine.feeds.deliver(run(1, 2))
        machine.feeds.deliver(run(3, 3))
        machine.reactor.pass_time(10 * LOOK_S)
        assert machine.workers[1].given == []
        assert machine.feeds.lag(1) == (0, 3)

        machine.workers[1].unsent = 0
        machine.reactor.pass_time(LOOK_S)
        assert machine.workers[1].numbers == [(-1, -3)]
        machine.reactor.pass_time(LOOK_S)

        assert machine.workers[1].numbers == [(-1, -3)]
        assert machine.workers[2].numbers == [(1, 2), (3, 3)]
        assert machine.reactor.due == []

    def test_what_was_missed_is_told_as_far_as_there_is_room(self, machine: Machine) -> None:
        """
        All of it at once may be more than its node keeps for one that reads slowly.
        """
        machine.subscribe(1, EVERYTHING)
        worker = machine.workers[1]
        worker.unsent = SLOW_BYTES + 1
        for number in range(3):
            machine.feeds.deliver(run(1, 1, Topic(f"T{number}"), sticky=True))
        worker.unsent = 0
        worker.is_full_after = 2
        machine.reactor.pass_time(LOOK_S)
        machine.feeds.deliver(run(2, 2, Topic("T2"), sticky=True))
        assert worker.numbers == [(1, 1), (1, 1)]

        worker.unsent = 0
        machine.reactor.pass_time(LOOK_S)

        assert worker.numbers[2:] == [(-1, -1), (2, 2)]

    @pytest.mark.parametrize("later", [run(3, 4), Missing("src", 7, LOSS, 3, 4)], ids=repr)
    def test_what_was_missed_is_told_first(self, machine: Machine, later: Run | Missing) -> None:
        """
        A reader that has caught up hears of its gap before anything that came behind it.
        """
        machine.subscribe(1, LOSS)
        machine.workers[1].unsent = SLOW_BYTES + 1
        machine.feeds.deliver(run(1, 2))
        machine.workers[1].unsent = 0
        machine.feeds.deliver(later)

        assert machine.workers[1].given == [Missing("src", 7, LOSS, 1, 2), later]

    def test_one_that_reads_and_does_not_run_is_slow_too(self, machine: Machine) -> None:
        """
        It would keep everything in its own memory; by its word it is given more.
        """
        machine.subscribe(1, LOSS)
        for number in range(MAX_EVENTS // MAX_RUN):
            machine.feeds.deliver(run(number * MAX_RUN + 1, (number + 1) * MAX_RUN))
        machine.feeds.deliver(run(MAX_EVENTS + 1, MAX_EVENTS + 1))
        machine.workers[1].given.clear()
        assert machine.feeds.lag(1) == (MAX_EVENTS, 1)

        machine.workers[1].ran = MAX_EVENTS - 5
        machine.reactor.pass_time(LOOK_S)

        assert machine.workers[1].numbers == [(-MAX_EVENTS - 1, -MAX_EVENTS - 1)]
        assert machine.feeds.lag(1) == (5, 1)
        assert machine.feeds.lag(99) == (0, 0)

    def test_the_last_of_a_sticky_type_comes_late(self, machine: Machine) -> None:
        """
        It is still the value that holds; only those before it are missed.
        """
        machine.subscribe(1, LOSS)
        machine.workers[1].unsent = SLOW_BYTES + 1
        for number in (1, 2):
            machine.feeds.deliver(run(number, number, sticky=True))
        machine.workers[1].unsent = 0
        machine.reactor.pass_time(LOOK_S)

        assert machine.workers[1].numbers == [(-1, -1), (2, 2)]


class TestReports:
    def test_it_is_not_remembered_for_ever_who_owes_an_answer(self, machine: Machine) -> None:
        """
        A worker may run events and never say what became of them.
        """
        machine.subscribe(1, LOSS)
        for number in range(1, MAX_OWED + 10):
            machine.feeds.deliver(run(number, number, report=number))

        assert len(machine.feeds._readers[1].owes) == MAX_OWED
        assert (7, MAX_OWED + 9) in machine.feeds._readers[1].owes

    def test_who_is_given_an_event_is_named(self, machine: Machine) -> None:
        """
        As it was when it came, whoever subscribes or goes afterwards.
        """
        machine.subscribe(1, LOSS)
        machine.feeds.deliver(run(1, 1, report=4))
        machine.subscribe(2, LOSS)
        machine.feeds.unsubscribe(1, LOSS)

        assert machine.feeds.concerned(7, 4, LOSS) == ("plugin1",)

    def test_an_event_that_has_not_come_yet_will_come(self, machine: Machine) -> None:
        """
        It was lost on its way and comes in a replay, to whom had subscribed; who has only just
        done so may not be given it, and nobody has to wait for that.
        """
        machine.subscribe(1, LOSS)
        machine.subscribe(2, LOSS, holds=False)

        assert machine.feeds.concerned(7, 4, LOSS) == ("plugin1",)
        machine.peer.echoes.pop()(())
        assert machine.feeds.concerned(7, 5, LOSS) == ("plugin1", "plugin2")

    def test_a_worker_answers_once_for_what_it_was_given(self, machine: Machine) -> None:
        """
        In its own name, and for nothing else.
        """
        machine.subscribe(1, LOSS)
        machine.feeds.deliver(run(1, 1, report=4))
        said = CallbacksRan(7, 4, 2, 1, ("ValueError: no",))
        machine.feeds.ran(2, said)
        for _ in range(2):
            machine.feeds.ran(1, said)
        machine.feeds.ran(1, CallbacksRan(7, 5, 1, 0, ()))

        assert machine.peer.told == [Ran(7, 4, "plugin1", 2, 1, ("ValueError: no",))]

    def test_the_node_answers_for_the_dead(self, machine: Machine) -> None:
        """
        Nobody waits for a callback whose process is gone.
        """
        machine.subscribe(1, LOSS)
        machine.feeds.deliver(run(1, 1, report=4))
        machine.feeds.remove(1)

        assert machine.peer.told == [Ran(7, 4, "plugin1", 1, 1, ("it has gone",))]

    def test_it_answers_for_who_missed_the_event(self, machine: Machine) -> None:
        """
        That one will not run anything for it.
        """
        machine.subscribe(1, LOSS)
        machine.workers[1].unsent = SLOW_BYTES + 1
        machine.feeds.deliver(run(1, 1, report=4))

        assert machine.feeds.concerned(7, 4, LOSS) == ("plugin1",)
        (told,) = machine.peer.told
        assert isinstance(told, Ran)
        assert (told.name, told.matched, told.failed) == ("plugin1", 1, 1)

    def test_what_is_remembered_is_bounded(self, machine: Machine) -> None:
        """
        A hub that never asks costs no memory.
        """
        for report in range(1, MAX_AWAITED + 10):
            machine.feeds.deliver(run(report, report, report=report))

        assert len(machine.feeds._awaited) == MAX_AWAITED

    def test_the_publisher_is_told_what_became_of_it(self, machine: Machine) -> None:
        """
        Whose life it was says to whom.
        """
        machine.feeds.outcome(Outcome(2, 4, 3, 2, (("plugin1", "no"),)))

        assert machine.told == [(2, Reported(4, 3, 2, (("plugin1", "no"),)))]


class TestUp:
    def test_an_event_is_stamped_with_its_source(self, machine: Machine) -> None:
        """
        Who published is known by its connection.
        """
        machine.publish(2)

        assert machine.peer.published == [("plugin1", 1, LOSS, 2)]

    def test_receipts_come_in_bulk(self, machine: Machine) -> None:
        """
        A publisher hears of a quarter of its window at a time, by number or by size.
        """
        for _ in range(3):
            machine.publish(ANSWER_EVENTS // 2)
        assert machine.receipts() == [(1, ANSWER_EVENTS, ANSWER_EVENTS)]
        machine.told.clear()

        large = b"\xc5" + (40_000).to_bytes(2, "big") + bytes(40_000)
        for _ in range(ANSWER_BYTES // 40_000 + 1):
            machine.publish(1, 2, large)

        assert machine.receipts() == [(2, 7, 7 * 40_003)]

    def test_what_only_the_daemon_says_is_refused(self, machine: Machine) -> None:
        """
        A worker that says it has gone round its own checks.
        """
        with pytest.raises(RemoteProtocolError, match="only the daemon"):
            machine.feeds.published(1, packet([b"\x90"], Topic("SystemShutdown")))

        assert machine.peer.published == []

    def test_a_full_ring_makes_its_publisher_wait(self, machine: Machine) -> None:
        """
        What does not fit waits in order, without holding up another publisher.
        """
        machine.fill()
        machine.publish(1)
        machine.publish(2)
        machine.publish(5, life=2)
        machine.feeds.room()
        assert machine.peer.published[2:] == [("plugin2", 2, LOSS, 5)]

        machine.peer.outbox.accepted(1)
        machine.publish(3)
        machine.feeds.room()

        assert [count for *_, count in machine.peer.published[3:]] == [1, 2, 3]

    def test_what_waits_is_bounded(self, machine: Machine) -> None:
        """
        A worker that sends more than it was given room for breaks the protocol.
        """
        machine.fill()

        for _ in range(WINDOW_EVENTS):
            machine.publish()

        with pytest.raises(RemoteProtocolError, match="more events under way"):
            machine.publish()

    def test_its_bytes_are_bounded(self, machine: Machine) -> None:
        """
        However few events they are.
        """
        machine.fill()
        large = b"\xc5" + (40_000).to_bytes(2, "big") + bytes(40_000)
        for _ in range(2 * WINDOW_BYTES // 40_006):
            machine.publish(payload=large)

        with pytest.raises(RemoteProtocolError, match="more events under way"):
            machine.publish(payload=large)

    def test_a_type_too_many_is_refused_where_it_arrives(self, machine: Machine) -> None:
        """
        It does not wait for room and then fail where nobody expects it.
        """
        for number in range(MAX_TYPES - 1):
            machine.feeds.published(1, packet([b"\xc0"], Topic(f"type{number}")))
        machine.fill()

        with pytest.raises(RemoteProtocolError, match="more than 4096 types"):
            machine.feeds.published(1, packet([b"\xc0"], Topic("one too many")))
        machine.peer.outbox.accepted(MAX_TYPES)
        machine.feeds.room()

    def test_nobody_waits_for_a_daemon_that_is_not_there(self, machine: Machine) -> None:
        """
        Without a daemon a full ring keeps no more events, waiting ones neither: they are numbered
        for those on this machine, and their publisher has room for more.
        """
        machine.fill()
        machine.publish(ANSWER_EVENTS // 2)
        machine.peer.has_hub = False
        machine.feeds.give_up()
        assert machine.receipts() == []
        machine.publish(ANSWER_EVENTS // 2)

        assert machine.receipts() == [(1, ANSWER_EVENTS, ANSWER_EVENTS)]
        assert machine.peer.here[0] == RING_EVENTS + 1
        assert machine.next_number() == RING_EVENTS + ANSWER_EVENTS + 1

    def test_what_waits_keeps_its_place_when_the_hub_goes(self, machine: Machine) -> None:
        """
        A hub that wants to be joined again is gone before the daemon is missed.
        """
        machine.fill()
        machine.publish(1)
        machine.peer.has_hub = False
        machine.publish(2)

        assert machine.peer.here == [RING_EVENTS + 1, RING_EVENTS + 2]
        assert machine.next_number() == RING_EVENTS + 4

    def test_what_it_gives_up_while_others_wait_is_bounded(self, machine: Machine) -> None:
        """
        It is refused when it is said: once there is room it would be nobody's fault.
        """
        machine.fill()
        machine.publish(1)
        for number in range(MAX_TYPES - 1):
            machine.feeds.dropped(1, Topic(f"T{number}"), 1)
        with pytest.raises(RemoteProtocolError):
            machine.feeds.dropped(1, STEP, 1)
        for _ in range(WINDOW_EVENTS - MAX_TYPES):
            machine.feeds.dropped(1, LOSS, 1)
        with pytest.raises(RemoteProtocolError):
            machine.feeds.dropped(1, LOSS, 1)

        machine.peer.outbox.accepted(2)
        machine.feeds.room()

        assert machine.feeds._readers[1].waiting == deque()

    def test_what_a_worker_gave_up_shows_as_numbers(self, machine: Machine) -> None:
        """
        Events that never left the worker leave a hole that subscribers see.
        """
        machine.feeds.dropped(1, LOSS, 5)

        assert machine.next_number() == 6

    @pytest.mark.parametrize("count", [-1, 0, MAX_DROPPED + 1])
    def test_a_worker_cannot_turn_its_numbers_back(self, machine: Machine, count: int) -> None:
        """
        A number of events that nobody can have given up is a broken protocol.
        """
        with pytest.raises(RemoteProtocolError):
            machine.feeds.dropped(1, LOSS, count)

    def test_what_a_dead_worker_published_is_kept(self, machine: Machine) -> None:
        """
        Its events still go to the hub; only its counters are forgotten.
        """
        machine.publish()
        machine.feeds.remove(1)

        assert len(machine.peer.outbox) == 1
        assert machine.next_number() == 1


class TestPermissions:
    @pytest.fixture
    def held(self, machine: Machine) -> Machine:
        """A machine with a worker 3 that may publish and hear of little."""
        worker = machine.workers[3] = Worker()
        permissions = Permissions(publish=("Loss", "Mine.*"), subscribe=("Step", "Mine.*"))
        machine.feeds.add(3, "plugin3", worker.wire(), permissions)
        return machine

    def test_what_is_permitted_enters(self, held: Machine) -> None:
        """
        By name or by family, and as a number that was given up.
        """
        held.feeds.published(3, packet([b"\xc0"]))
        held.feeds.published(3, packet([b"\xc0"], Topic("Mine.a")))
        held.feeds.dropped(3, Topic("Mine.b"), 2)

        assert [topic for *_, topic, _ in held.peer.published] == ["Loss", "Mine.a"]
        assert held.denied == []

    def test_what_is_not_is_a_breach(self, held: Machine) -> None:
        """
        The library would have refused it: nothing enters, and the operator is told what it was.
        """
        with pytest.raises(RemoteProtocolError, match="no permission to publish 'Step'"):
            held.feeds.published(3, packet([b"\xc0"], STEP))
        with pytest.raises(RemoteProtocolError, match="no permission to publish"):
            held.feeds.dropped(3, Topic("Mine"), 1)

        assert held.peer.published == []
        assert held.denied == [(3, "publish", "Step"), (3, "publish", "Mine")]

    @pytest.mark.parametrize("name", ["PluginLoaded", "PermissionRefused"])
    def test_no_permission_is_for_what_is_the_daemons(self, machine: Machine, name: str) -> None:
        """
        Not even `*`, and not even as numbers that were given up.
        """
        with pytest.raises(RemoteProtocolError, match="only the daemon"):
            machine.feeds.published(1, packet([b"\xc0"], Topic(name)))
        with pytest.raises(RemoteProtocolError, match="only the daemon"):
            machine.feeds.dropped(1, Topic(name), 1)

    @pytest.mark.parametrize("pattern", ["*", "Loss", "Step.*", "Min.*", "Mine"])
    def test_what_may_not_be_heard_is_a_breach(self, held: Machine, pattern: str) -> None:
        """
        Every type that a pattern stands for has to be permitted; neither present nor past is had.
        """
        with pytest.raises(RemoteProtocolError, match="no permission to subscribe"):
            held.feeds.subscribe(3, Topic(pattern), wish("q", Topic(pattern)))

        assert (held.peer.wanted, held.peer.echoes) == ([], [])
        assert held.denied == [(3, "subscribe", pattern)]

    @pytest.mark.parametrize("pattern", ["Step", "Mine.*", "Mine.a", "Mine.a.*"])
    def test_what_may_be_heard_is(self, held: Machine, pattern: str) -> None:
        """
        A family holds those within it.
        """
        held.feeds.subscribe(3, Topic(pattern), wish("q", Topic(pattern)))

        assert held.peer.wanted == [pattern]
