import pytest

from protocol.feed import Frames, LastNumber, Replay, Run, pack_run, unpack_head
from protocol.names import Topic
from spiral_host.hub import (
    BUDGET,
    LATE_S,
    MAX_LINES,
    MAX_REPLAY,
    Accept,
    Action,
    FanOut,
    Hub,
    Mark,
    TellNumbers,
)

LOSS = Topic("Loss")


def frames(
    number: int, *, source: str = "s", transmission: int = 0, payload: bytes = b""
) -> Frames:
    return pack_run(Run(source, 1, LOSS, number, [0.0], [payload]), transmission or number)


def arrive(hub: Hub, peer: bytes, sent: Frames) -> list[Action]:
    return hub.arrive(peer, unpack_head(sent[0], sent[1]), sent)


def told(peer: bytes, last: int) -> TellNumbers:
    return TellNumbers(peer, (LastNumber("s", 1, LOSS, 1, last),))


def replayed(hub: Hub, first: int, last: int, source: str = "s") -> list[int]:
    answer = hub.replay(Replay(source, 1, LOSS, first, last))
    assert len(answer.heads) == len(answer.bodies)
    return [unpack_head(b"Loss\0", head).first for head in answer.heads]


@pytest.fixture
def hub() -> Hub:
    """A hub with two peers that have joined."""
    hub = Hub(1)
    for peer in (b"A", b"B"):
        hub.join(peer, peer.decode(), 0.0)
    return hub


class TestOrder:
    def test_a_run_goes_to_all(self, hub: Hub) -> None:
        """
        What arrives is fanned out at once, as it is.
        """
        sent = frames(1)

        assert arrive(hub, b"A", sent) == [FanOut(sent)]

    def test_what_arrived_before_is_dropped(self, hub: Hub) -> None:
        """
        A run that is sent again goes out once.
        """
        arrive(hub, b"A", frames(1))

        assert arrive(hub, b"A", frames(1)) == []

    def test_a_stranger_is_not_heard(self, hub: Hub) -> None:
        """
        Only who has joined may publish.
        """
        assert arrive(hub, b"C", frames(1)) == []

    def test_the_daemons_own_events_go_out_too(self, hub: Hub) -> None:
        """
        The daemon publishes as any peer does, and waits for nobody to accept it.
        """
        sent = frames(1)

        assert hub.publish(unpack_head(sent[0], sent[1]), sent) == [FanOut(sent)]
        assert hub.pause(0.0) == []


class TestAcceptance:
    def test_a_run_is_accepted_when_every_peer_has_it(self, hub: Hub) -> None:
        """
        An origin may forget a run once all peers have answered the mark behind it.
        """
        arrive(hub, b"A", frames(1))

        assert hub.pause(5.0) == [Mark(1)]
        assert hub.pause(5.0) == []
        assert hub.deadline == 5.0 + LATE_S
        assert hub.synced(b"A", 1, 5.1) == []
        assert hub.synced(b"B", 1, 5.2) == [Accept(b"A", 1)]
        assert hub.deadline is None
        assert hub.pause(6.0) == []

    def test_what_came_behind_a_mark_has_a_mark_of_its_own(self, hub: Hub) -> None:
        """
        A mark vouches for what was sent before it and nothing else.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        arrive(hub, b"A", frames(2))
        hub.synced(b"A", 1, 0.1)

        assert hub.synced(b"B", 1, 0.1) == [Accept(b"A", 1), Mark(2)]

    @pytest.mark.parametrize(("peer", "number"), [(b"C", 1), (b"A", 0), (b"A", 2)])
    def test_an_answer_to_nothing_is_ignored(self, hub: Hub, peer: bytes, number: int) -> None:
        """
        Strangers and marks that were never sent change nothing.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)

        assert hub.synced(peer, number, 0.1) == []
        assert hub.deadline is not None

    def test_a_late_peer_is_not_waited_for(self, hub: Hub) -> None:
        """
        A peer that does not answer in time holds nobody up; once it answers, it counts again.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        hub.synced(b"A", 1, 0.1)

        assert hub.expire(LATE_S - 0.1) == []
        assert hub.expire(LATE_S) == [Accept(b"A", 1)]
        assert hub.expire(LATE_S) == []

        arrive(hub, b"A", frames(2))
        hub.pause(2.0)
        assert hub.synced(b"A", 2, 2.0) == [Accept(b"A", 2)]
        hub.synced(b"B", 2, 2.0)
        arrive(hub, b"A", frames(3))
        hub.pause(3.0)
        assert hub.synced(b"A", 3, 3.0) == []

    def test_a_peer_that_leaves_is_not_waited_for(self, hub: Hub) -> None:
        """
        The last answer that was missing is not missed from one who is gone.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        hub.synced(b"A", 1, 0.1)

        assert hub.leave("B", 0.2) == [Accept(b"A", 1)]
        assert hub.leave("B", 0.2) == []

    def test_an_origin_that_is_gone_is_told_nothing(self, hub: Hub) -> None:
        """
        Acceptance goes to those who are still there.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        hub.synced(b"B", 1, 0.1)

        assert hub.leave("A", 0.2) == []


class TestLastNumbers:
    def test_a_late_peer_that_answers_is_told_the_last_numbers(self, hub: Hub) -> None:
        """
        What its full queue could not take may have been the last; no later event would tell.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        hub.synced(b"A", 1, 0.1)
        hub.expire(LATE_S)

        assert hub.synced(b"B", 1, 2.0) == [told(b"B", 1)]
        arrive(hub, b"A", frames(2))
        hub.pause(3.0)
        assert hub.synced(b"B", 2, 3.0) == []

    def test_it_is_told_once_it_has_caught_up(self, hub: Hub) -> None:
        """
        What still waits in its queue is not missing.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        hub.synced(b"A", 1, 0.1)
        hub.expire(LATE_S)
        arrive(hub, b"A", frames(2))
        hub.pause(2.0)

        assert hub.synced(b"B", 1, 2.0) == []
        assert hub.synced(b"B", 2, 2.0) == [told(b"B", 2)]

    def test_a_late_peer_is_asked_until_it_answers(self, hub: Hub) -> None:
        """
        The last mark may not have fit into its queue: there is another each second, no more.
        """
        arrive(hub, b"A", frames(1))
        hub.pause(0.0)
        hub.synced(b"A", 1, 0.1)
        hub.expire(1.0)

        assert hub.deadline == 1.0 + LATE_S
        assert hub.pause(1.5) == []
        assert hub.expire(2.0) == [Mark(2)]
        assert hub.synced(b"A", 2, 2.0) == []
        assert hub.expire(2.9) == []
        assert hub.expire(3.0) == [Mark(3)]
        assert hub.synced(b"A", 3, 3.0) == []
        assert hub.synced(b"B", 3, 3.0) == [told(b"B", 1)]
        assert hub.expire(4.0) == []
        assert hub.deadline is None

    def test_a_mark_that_was_passed_over_shows_a_loss(self, hub: Hub) -> None:
        """
        Where a mark did not fit into a queue, events may not have, either.
        """
        for number in (1, 2):
            arrive(hub, b"A", frames(number))
            hub.pause(0.0)
            hub.synced(b"A", number, 0.0)
            if number == 1:
                hub.expire(LATE_S)

        assert hub.synced(b"B", 2, 2.0) == [told(b"B", 2)]

    def test_what_is_held_is_not_counted_yet(self) -> None:
        """
        A peer that joins while events wait will get them; it does not lack them.
        """
        hub = Hub(1, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", frames(1))

        assert hub.join(b"C", "C", 0.0) == (0, [])

    def test_they_are_bounded(self, hub: Hub) -> None:
        """
        Lines that have been silent for longest are forgotten.
        """
        for number in range(MAX_LINES + 1):
            arrive(hub, b"A", frames(1, source=f"s{number}", transmission=number + 1))

        (action,) = hub.join(b"C", "C", 0.0)[1]

        assert isinstance(action, TellNumbers)
        assert len(action.lines) == MAX_LINES
        assert action.lines[0].source == "s1"


class TestJoining:
    def test_a_peer_that_reconnects_goes_on(self, hub: Hub) -> None:
        """
        A peer that comes back under its name is told what has arrived from it.
        """
        arrive(hub, b"A", frames(1))

        assert hub.join(b"A2", "A", 1.0) == (1, [told(b"A2", 1)])
        assert arrive(hub, b"A", frames(2)) == []
        assert arrive(hub, b"A2", frames(2)) == [FanOut(frames(2))]

    def test_a_peer_that_joins_twice_in_place_goes_on(self, hub: Hub) -> None:
        """
        Joining again over the same connection loses no count.
        """
        arrive(hub, b"A", frames(1))

        assert hub.join(b"A", "A", 1.0)[0] == 1
        hub.join(b"B", "A", 1.0)
        hub.join(b"C", "B", 1.0)
        assert hub.join(b"D", "A", 1.0)[0] == 1

    def test_events_wait_for_those_who_are_expected(self) -> None:
        """
        After a restart, nothing goes out before every peer is back; then all of it, in order.
        """
        hub = Hub(2, expected=["A", "B"])
        assert hub.join(b"A", "A", 0.0) == (0, [])
        assert arrive(hub, b"A", frames(1)) == []
        assert arrive(hub, b"A", frames(2)) == []
        assert not hub.is_open
        assert hub.pause(0.0) == []

        arrived, actions = hub.join(b"B", "B", 0.5)

        assert (arrived, hub.is_open) == (0, True)
        assert actions == [FanOut(frames(1)), FanOut(frames(2)), Mark(1)]

    def test_waiting_has_an_end(self) -> None:
        """
        Opening by hand sends out what was held, once.
        """
        hub = Hub(2, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", frames(1))

        assert hub.open(2.0) == [FanOut(frames(1)), Mark(1)]

    def test_who_is_expected_and_leaves_is_not_waited_for(self) -> None:
        """
        When the last that was waited for is known to be gone, what was held goes out first.
        """
        hub = Hub(2, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", frames(1))

        assert hub.leave("B", 1.0) == [FanOut(frames(1)), Mark(1)]
        assert arrive(hub, b"A", frames(2)) == [FanOut(frames(2))]


class TestReplay:
    def test_what_was_kept_is_replayed(self, hub: Hub) -> None:
        """
        A peer that misses events is given those runs and no others.
        """
        for number in range(1, 6):
            arrive(hub, b"A", frames(number))
        arrive(hub, b"B", frames(1, source="t"))

        assert replayed(hub, 2, 4) == [2, 3, 4]
        assert replayed(hub, 9, 9) == []
        assert replayed(hub, 1, 1, source="unknown") == []

    def test_one_replay_is_bounded(self, hub: Hub) -> None:
        """
        A replay that would not fit into a message is cut; the rest is a gap.
        """
        for number in range(1, 20):
            arrive(hub, b"A", frames(number, payload=bytes(MAX_REPLAY // 10)))

        assert replayed(hub, 1, 19) == list(range(1, 10))

    def test_a_flood_costs_the_others_nothing(self, hub: Hub) -> None:
        """
        Whoever keeps most gives up its oldest runs when the budget is spent.
        """
        arrive(hub, b"B", frames(1, source="quiet"))
        arrive(hub, b"A", frames(1, payload=bytes(BUDGET // 2)))
        arrive(hub, b"A", frames(2, payload=bytes(BUDGET // 2)))

        assert replayed(hub, 1, 1, source="quiet") == [1]
        assert replayed(hub, 1, 1) == []
        assert hub.replay(Replay("s", 1, LOSS, 2, 2)).last == 2

    def test_a_run_larger_than_the_budget_is_not_kept(self, hub: Hub) -> None:
        """
        A ring that holds nothing is no ring.
        """
        arrive(hub, b"A", frames(1, payload=bytes(BUDGET)))

        assert replayed(hub, 1, 1) == []
