from collections.abc import Callable

import pytest

from plugin_worker.node.feeds import MAX_DROPPED, MAX_SUBSCRIPTIONS, SLOW_BYTES, Feeds
from protocol.errors import RemoteProtocolError
from protocol.feed import Missing, Run, pack_publication, unpack_delivery
from protocol.messages import Published, Subscribed, ToEndpoint
from protocol.names import EVERYTHING, Topic
from protocol.outbox import MAX_TYPES, RING_EVENTS, Outbox
from protocol.window import WINDOW_EVENTS

LOSS, STEP = Topic("Loss"), Topic("Step")


class FakePeer:
    """The machine's place on the bus."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.has_hub = True
        self.published: list[tuple[str, int, Topic, int]] = []
        self.wanted: list[Topic] = []
        self.echoes: list[Callable[[], None]] = []

    def publish(self, source: str, incarnation: int, topic: Topic, payloads: list[bytes]) -> None:
        self.outbox.put(source, incarnation, topic, payloads, 0.0)
        self.published.append((source, incarnation, topic, len(payloads)))

    def subscribe(self, topic: Topic) -> None:
        self.wanted.append(topic)

    def confirm(self, then: Callable[[], None]) -> None:
        self.echoes.append(then)

    def unsubscribe(self, topic: Topic) -> None:
        self.wanted.remove(topic)


class Worker:
    """A worker as its node sees it."""

    def __init__(self) -> None:
        self.backlog = 0
        self.given: list[Run | Missing] = []

    def take(self, body: bytes) -> None:
        self.given.append(unpack_delivery(body))

    @property
    def numbers(self) -> list[tuple[str, int, int]]:
        return [(type(one).__name__, one.first, one.last) for one in self.given]


class Machine:
    """The feeds of two workers, 1 and 2."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ToEndpoint]] = []
        self.feeds = Feeds(lambda incarnation, message: self.told.append((incarnation, message)))
        self.peer = FakePeer()
        self.feeds.peer = self.peer  # type: ignore[assignment]
        self.workers = {1: Worker(), 2: Worker()}
        for life, worker in self.workers.items():
            self.feeds.add(life, f"plugin{life}", lambda w=worker: w.backlog, worker.take)  # type: ignore[misc]

    def publish(self, count: int = 1, life: int = 1) -> None:
        self.feeds.published(life, pack_publication(LOSS, [b""] * count))

    def fill(self) -> None:
        """Fill the ring of worker 1, as many packets would."""
        self.peer.publish("plugin1", 1, LOSS, [b""] * RING_EVENTS)

    def published(self) -> list[int]:
        return [message.count for _, message in self.told if isinstance(message, Published)]


def run(first: int, last: int, topic: Topic = LOSS) -> Run:
    count = last - first + 1
    return Run("src", 7, topic, first, [0.0] * count, [b""] * count)


@pytest.fixture
def machine() -> Machine:
    return Machine()


class TestSubscriptions:
    def test_a_subscription_is_confirmed_when_it_holds(self, machine: Machine) -> None:
        """
        A worker hears that it is subscribed once the hub has said so.
        """
        machine.feeds.subscribe(1, LOSS, "q")
        assert machine.told == []

        machine.peer.echoes[0]()

        assert machine.told == [(1, Subscribed("q"))]

    def test_a_subscription_without_a_daemon_waits_for_it(self, machine: Machine) -> None:
        """
        While there is no hub the worker goes on; the subscription holds when there is one.
        """
        machine.peer.has_hub = False
        machine.feeds.subscribe(1, LOSS, "q")

        assert machine.told == [(1, Subscribed("q"))]
        assert machine.peer.wanted == [LOSS]

    def test_the_machine_subscribes_once(self, machine: Machine) -> None:
        """
        What several workers want comes to the machine once, until the last wants it no more.
        """
        machine.feeds.subscribe(1, LOSS, "q")
        machine.feeds.subscribe(2, LOSS, "r")
        assert machine.peer.wanted == [LOSS]
        assert machine.told == []
        for echo in machine.peer.echoes:
            echo()
        assert machine.told == [(1, Subscribed("q")), (2, Subscribed("r"))]

        machine.feeds.unsubscribe(1, LOSS)
        assert machine.peer.wanted == [LOSS]
        machine.feeds.remove(2)
        machine.feeds.remove(2)

        assert machine.peer.wanted == []
        machine.feeds.unsubscribe(1, LOSS)

    def test_subscriptions_are_bounded(self, machine: Machine) -> None:
        """
        One worker cannot fill the machine with subscriptions.
        """
        machine.feeds._readers[1].topics.update(
            Topic(str(number)) for number in range(MAX_SUBSCRIPTIONS)
        )

        with pytest.raises(RemoteProtocolError):
            machine.feeds.subscribe(1, LOSS, "q")


class TestDown:
    def test_events_go_to_those_who_want_them(self, machine: Machine) -> None:
        """
        A worker is given the types it wants, once each, and everything if it wants that.
        """
        machine.feeds.subscribe(1, LOSS, "q")
        machine.feeds.subscribe(1, EVERYTHING, "r")
        machine.feeds.subscribe(2, STEP, "s")
        machine.feeds.deliver(run(1, 2))
        machine.feeds.deliver(Missing("src", 7, LOSS, 3, 4))

        assert machine.workers[1].given == [run(1, 2), Missing("src", 7, LOSS, 3, 4)]
        assert machine.workers[2].given == []

    def test_a_worker_that_does_not_read_is_told_what_it_missed(self, machine: Machine) -> None:
        """
        A slow reader misses events by number, in one gap, and costs nobody else anything.
        """
        machine.feeds.subscribe(1, LOSS, "q")
        machine.feeds.subscribe(2, LOSS, "r")
        machine.workers[1].backlog = SLOW_BYTES + 1
        machine.feeds.deliver(run(1, 2))
        machine.feeds.deliver(run(3, 3))
        machine.feeds.tell_missed(1)
        assert machine.workers[1].given == []

        machine.workers[1].backlog = 0
        machine.feeds.tell_missed(1)
        machine.feeds.tell_missed(1)
        machine.feeds.tell_missed(99)

        assert machine.workers[1].numbers == [("Missing", 1, 3)]
        assert machine.workers[2].numbers == [("Run", 1, 2), ("Run", 3, 3)]

    @pytest.mark.parametrize("later", [run(3, 4), Missing("src", 7, LOSS, 3, 4)], ids=repr)
    def test_what_was_missed_is_told_first(self, machine: Machine, later: Run | Missing) -> None:
        """
        A reader that has caught up hears of its gap before anything that came behind it.
        """
        machine.feeds.subscribe(1, LOSS, "q")
        machine.workers[1].backlog = SLOW_BYTES + 1
        machine.feeds.deliver(run(1, 2))
        machine.workers[1].backlog = 0
        machine.feeds.deliver(later)

        assert machine.workers[1].given == [Missing("src", 7, LOSS, 1, 2), later]


class TestUp:
    def test_an_event_is_stamped_with_its_source(self, machine: Machine) -> None:
        """
        Who published is known by its connection, and hears that there is room for more.
        """
        machine.publish(2)

        assert machine.peer.published == [("plugin1", 1, LOSS, 2)]
        assert machine.told == [(1, Published(2))]

    def test_a_full_ring_makes_its_publisher_wait(self, machine: Machine) -> None:
        """
        What does not fit waits in order, without holding up another publisher.
        """
        machine.fill()
        machine.publish(1)
        machine.publish(2)
        machine.publish(5, life=2)
        machine.feeds.room()
        assert machine.published() == [5]

        machine.peer.outbox.accepted(1)
        machine.feeds.room()

        assert machine.published() == [5, 1, 2]

    def test_what_waits_is_bounded(self, machine: Machine) -> None:
        """
        A worker that sends more than it was given room for breaks the protocol.
        """
        machine.fill()

        for _ in range(WINDOW_EVENTS):
            machine.publish()

        with pytest.raises(RemoteProtocolError, match="more events under way"):
            machine.publish()

    def test_a_type_too_many_is_refused_where_it_arrives(self, machine: Machine) -> None:
        """
        It does not wait for room and then fail where nobody expects it.
        """
        for number in range(MAX_TYPES - 1):
            machine.feeds.published(1, pack_publication(Topic(f"type{number}"), [b""]))
        machine.fill()

        with pytest.raises(RemoteProtocolError, match="more than 4096 types"):
            machine.feeds.published(1, pack_publication(Topic("one too many"), [b""]))
        machine.peer.outbox.accepted(MAX_TYPES)
        machine.feeds.room()

    def test_nobody_waits_for_a_daemon_that_is_not_there(self, machine: Machine) -> None:
        """
        Without a daemon a full ring gives events up, waiting ones too, and their numbers show.
        """
        machine.fill()
        machine.publish(1)
        machine.peer.has_hub = False
        machine.feeds.give_up()
        machine.publish(2)
        assert machine.published() == [1, 2]

        assert machine.peer.outbox.skip("plugin1", 1, LOSS, 1) == RING_EVENTS + 4

    def test_what_a_worker_gave_up_shows_as_numbers(self, machine: Machine) -> None:
        """
        Events that never left the worker leave a hole that subscribers see.
        """
        machine.feeds.dropped(1, LOSS, 5)

        assert machine.peer.outbox.skip("plugin1", 1, LOSS, 1) == 6

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
        assert machine.peer.outbox.skip("plugin1", 1, LOSS, 1) == 1
