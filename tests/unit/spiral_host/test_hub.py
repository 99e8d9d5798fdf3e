import pytest

from protocol.feed import LastNumber
from protocol.names import Topic
from protocol.runs import Head, pack_body, pack_run
from spiral_host.hub import (
    LATE_S,
    MARK_S,
    MAX_LINES,
    TELL_S,
    Accept,
    Action,
    Ask,
    FanOut,
    Hub,
    Mark,
    TellNumbers,
)

LOSS = Topic("Loss")


def head(
    number: int,
    *,
    source: str = "s",
    transmission: int = 0,
    report: int = 0,
    sticky: bool = False,
) -> Head:
    sent = transmission or number
    return Head(sent, source, 1, LOSS, number, 1, 0.0, report, 100 if report else 0, sticky)


def sent(number: int) -> FanOut:
    return FanOut(head(number), frame_of(head(number)))


def frame_of(what: Head) -> bytes:
    return pack_run(what, pack_body([b"\x01"])).frame


def arrive(hub: Hub, peer: bytes, what: Head | int, now: float = 0.0) -> list[Action]:
    what = head(what) if isinstance(what, int) else what
    return hub.arrive(peer, what, frame_of(what), now)


def told(peer: bytes | None, last: int) -> TellNumbers:
    return TellNumbers(peer, (LastNumber("s", 1, LOSS, 1, last),))


def marks(actions: list[Action]) -> list[Action]:
    """Leave out what everybody is told of numbers."""
    return [action for action in actions if action.__class__ is not TellNumbers]


@pytest.fixture
def hub() -> Hub:
    """A hub with two peers that have joined."""
    hub = Hub(1)
    for peer in (b"A", b"B"):
        hub.join(peer, peer.decode(), 0.0)
    return hub


@pytest.fixture
def marked(hub: Hub) -> Hub:
    """One whose mark behind a run of A's is out since moment 0, and which A has answered."""
    arrive(hub, b"A", 1, -MARK_S)
    assert hub.expire(0.0) == [Mark(1)]
    assert hub.synced(b"A", 1, 0.0) == []
    return hub


class TestOrder:
    def test_a_run_goes_to_all(self, hub: Hub) -> None:
        """
        What arrives is fanned out at once, as it is.
        """
        assert arrive(hub, b"A", 1) == [sent(1)]

    def test_what_arrived_before_is_dropped(self, hub: Hub) -> None:
        """
        A run that is sent again goes out once.
        """
        arrive(hub, b"A", 1)

        assert arrive(hub, b"A", 1) == []

    def test_a_stranger_is_not_heard(self, hub: Hub) -> None:
        """
        Only who has joined may publish.
        """
        assert arrive(hub, b"C", 1) == []
        assert not hub.knows(b"C")
        assert set(hub.peers) == {b"A", b"B"}

    def test_the_daemons_own_events_go_out_too(self, hub: Hub) -> None:
        """
        The daemon publishes as any peer does, and nobody is told that they have arrived.
        """
        what = head(1)

        assert hub.publish(what, frame_of(what), 0.0) == [sent(1)]
        assert hub.expire(MARK_S) == [Mark(1)]
        assert hub.synced(b"A", 1, MARK_S) == []
        assert hub.synced(b"B", 1, MARK_S) == []

    def test_a_run_that_somebody_waits_for_is_asked_after(self, hub: Hub) -> None:
        """
        The question goes out behind the run, so whoever hears it has been given the run.
        """
        what = head(1, report=7)

        assert arrive(hub, b"A", what) == [FanOut(what, frame_of(what)), Ask(b"A", what)]


class TestAcceptance:
    def test_a_run_is_accepted_when_every_peer_has_it(self, hub: Hub) -> None:
        """
        An origin may forget a run once all peers have answered the mark behind it.
        """
        arrive(hub, b"A", 1, 5.0)
        assert hub.deadline == 5.0 + MARK_S

        assert hub.expire(5.0) == []
        assert hub.expire(5.1) == [Mark(1)]
        assert hub.synced(b"A", 1, 5.1) == []
        assert hub.synced(b"B", 1, 5.2) == [Accept(b"A", 1)]
        assert hub.deadline == 5.0 + TELL_S
        assert marks(hub.expire(6.0)) == []

    def test_one_mark_stands_for_what_came_in_a_moment(self, hub: Hub) -> None:
        """
        However many runs: a mark each would cost as much as the runs do.
        """
        for number in range(1, 100):
            assert arrive(hub, b"A", number, number * MARK_S / 100) == [sent(number)]
        arrive(hub, b"B", head(1, source="t"), MARK_S)
        assert hub.expire(MARK_S) == []

        assert hub.expire(MARK_S * 1.02) == [Mark(1)]
        hub.synced(b"A", 1, 0.1)
        assert hub.synced(b"B", 1, 0.1) == [Accept(b"A", 99), Accept(b"B", 1)]

    def test_what_came_behind_a_mark_has_a_mark_of_its_own(self, marked: Hub) -> None:
        """
        A mark vouches for what was sent before it and nothing else.
        """
        arrive(marked, b"A", 2, 0.1)

        assert marked.synced(b"B", 1, 0.1) == [Accept(b"A", 1)]
        assert marked.expire(0.1 + MARK_S) == [Mark(2)]

    @pytest.mark.parametrize(("peer", "number"), [(b"C", 1), (b"B", 0), (b"B", 2), (b"A", 1)])
    def test_an_answer_to_nothing_is_ignored(self, marked: Hub, peer: bytes, number: int) -> None:
        """
        Strangers, marks that were never sent and second answers change nothing.
        """
        assert marked.synced(peer, number, 0.1) == []
        assert marked.synced(b"B", 1, 0.1) == [Accept(b"A", 1)]

    def test_a_late_peer_is_not_waited_for(self, marked: Hub) -> None:
        """
        A peer that does not answer in time holds nobody up; once it answers, it counts again.
        """
        assert marks(marked.expire(LATE_S - 0.1)) == []
        assert marks(marked.expire(LATE_S)) == [Accept(b"A", 1)]
        assert marks(marked.expire(LATE_S)) == []

        arrive(marked, b"A", 2, LATE_S)
        assert marks(marked.expire(LATE_S + MARK_S)) == [Mark(2)]
        assert marked.synced(b"A", 2, 1.1) == [Accept(b"A", 2)]
        marked.synced(b"B", 2, 1.1)
        arrive(marked, b"A", 3, 1.2)
        marked.expire(1.2 + MARK_S)
        assert marked.synced(b"A", 3, 1.3) == []

    def test_a_late_peer_delays_no_mark(self, marked: Hub) -> None:
        """
        While it is asked once a second, what the others publish is accepted as soon as ever.
        """
        marked.expire(LATE_S)
        assert marked._mark_at == LATE_S + LATE_S

        arrive(marked, b"A", 2, LATE_S + 0.1)

        assert marked.deadline == LATE_S + 0.1 + MARK_S

    def test_a_peer_that_leaves_is_not_waited_for(self, marked: Hub) -> None:
        """
        The last answer that was missing is not missed from one who is gone.
        """
        assert marked.leave("B", 0.2) == [Accept(b"A", 1)]
        assert marked.leave("B", 0.2) == []

    def test_an_origin_that_is_gone_is_told_nothing(self, marked: Hub) -> None:
        """
        Acceptance goes to those who are still there.
        """
        assert marked.leave("A", 0.2) == []
        assert marked.synced(b"B", 1, 0.2) == []

    def test_one_that_comes_back_is_told_what_was_accepted(self, marked: Hub) -> None:
        """
        Its ring may be full of what it was told over the old connection: it would wait for ever.
        """
        marked.synced(b"B", 1, 0.1)

        marked.join(b"A2", "A", 0.2)

        assert marked.expire(0.2 + MARK_S) == [Mark(2)]
        marked.synced(b"A2", 2, 0.3)
        assert marked.synced(b"B", 2, 0.3) == [Accept(b"A2", 1)]


class TestLastNumbers:
    def test_all_are_told_twice_after_a_line_has_moved(self, hub: Hub) -> None:
        """
        A run that was dropped just before a mark that passed is noticed within a second even if
        nothing follows; then there is silence.
        """
        arrive(hub, b"A", 1, 0.0)
        hub.expire(MARK_S)
        for peer in (b"A", b"B"):
            hub.synced(peer, 1, MARK_S)

        assert hub.deadline == TELL_S
        assert hub.expire(TELL_S - 0.1) == []
        assert hub.expire(TELL_S) == [told(None, 1)]
        assert hub.expire(2 * TELL_S) == [told(None, 1)]
        assert hub.deadline is None
        assert hub.expire(3 * TELL_S) == []

    def test_only_lines_that_moved_are_told(self, hub: Hub) -> None:
        """
        One that has been silent since costs nothing more.
        """
        arrive(hub, b"A", head(1, source="t", transmission=1), 0.0)
        hub.expire(TELL_S)
        hub.expire(2 * TELL_S)
        arrive(hub, b"A", head(1, transmission=2), 5.0)

        assert told(None, 1) in hub.expire(5.0 + TELL_S)

    def test_a_line_that_goes_on_is_told_again(self, hub: Hub) -> None:
        """
        Both times count from its last run.
        """
        arrive(hub, b"A", 1, 0.0)
        assert told(None, 1) in hub.expire(TELL_S)
        arrive(hub, b"A", 2, TELL_S)

        for times in (2, 3):
            assert told(None, 2) in hub.expire(times * TELL_S)
        assert told(None, 2) not in hub.expire(4 * TELL_S)

    def test_a_late_peer_that_answers_is_told_the_last_numbers(self, marked: Hub) -> None:
        """
        What its full queue could not take may have been the last; no later event would tell.
        """
        marked.expire(LATE_S)

        assert marked.synced(b"B", 1, 2.0) == [told(b"B", 1)]
        arrive(marked, b"A", 2, 3.0)
        marked.expire(3.1)
        assert marked.synced(b"B", 2, 3.1) == []

    def test_it_is_told_once_it_has_caught_up(self, marked: Hub) -> None:
        """
        What still waits in its queue is not missing.
        """
        marked.expire(LATE_S)
        arrive(marked, b"A", 2, 1.1)
        marked.expire(1.1 + MARK_S)

        assert marked.synced(b"B", 1, 2.0) == []
        assert marked.synced(b"B", 2, 2.0) == [told(b"B", 2)]

    def test_a_late_peer_is_asked_until_it_answers(self, marked: Hub) -> None:
        """
        The last mark may not have fit into its queue: there is another each second, no more.
        """
        marked.expire(1.0)

        assert marks(marked.expire(1.5)) == []
        assert marks(marked.expire(2.0)) == [Mark(2)]
        assert marked.synced(b"A", 2, 2.0) == []
        assert marks(marked.expire(2.9)) == []
        assert marks(marked.expire(3.0)) == [Mark(3)]
        assert marked.synced(b"A", 3, 3.0) == []
        assert marked.synced(b"B", 3, 3.0) == [told(b"B", 1)]
        assert marks(marked.expire(4.0)) == [Mark(4)]
        assert marked.synced(b"A", 4, 4.0) == []
        assert marked.synced(b"B", 4, 4.0) == []
        assert marked.deadline is None

    def test_a_mark_that_was_passed_over_shows_a_loss(self, marked: Hub) -> None:
        """
        Where a mark did not fit into a queue, events may not have, either.
        """
        marked.expire(LATE_S)
        arrive(marked, b"A", 2, 1.1)
        marked.expire(1.2)

        assert marked.synced(b"B", 2, 2.0) == [told(b"B", 2)]

    def test_what_is_held_is_not_counted_yet(self) -> None:
        """
        A peer that joins while events wait will get them; it does not lack them.
        """
        hub = Hub(1, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", 1)

        assert hub.join(b"C", "C", 0.0) == (0, [])

    def test_they_are_bounded(self, hub: Hub) -> None:
        """
        Lines that have been silent for longest are forgotten.
        """
        for number in range(MAX_LINES + 1):
            arrive(hub, b"A", head(1, source=f"s{number}", transmission=number + 1))

        (action,) = hub.join(b"C", "C", 0.0)[1]

        assert isinstance(action, TellNumbers)
        assert len(action.lines) == MAX_LINES
        assert action.lines[0].source == "s1"
        (moved,) = [one for one in hub.expire(TELL_S) if isinstance(one, TellNumbers)]
        assert len(moved.lines) == MAX_LINES


class TestJoining:
    def test_a_peer_that_reconnects_goes_on(self, hub: Hub) -> None:
        """
        A peer that comes back under its name is told what has arrived from it.
        """
        arrive(hub, b"A", 1)

        assert hub.join(b"A2", "A", 1.0) == (1, [told(b"A2", 1)])
        assert hub.place_of("A") == b"A2"
        assert arrive(hub, b"A", 2) == []
        assert arrive(hub, b"A2", 2) == [sent(2)]

    def test_a_peer_that_joins_twice_in_place_goes_on(self, hub: Hub) -> None:
        """
        Joining again over the same connection loses no count.
        """
        arrive(hub, b"A", 1)

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
        assert arrive(hub, b"A", 1) == []
        assert arrive(hub, b"A", head(2, report=3)) == []
        assert (hub.is_open, hub.deadline) == (False, None)
        assert hub.join(b"A2", "A", 0.1) == (2, [])
        assert hub.expire(0.4) == []

        arrived, actions = hub.join(b"B", "B", 0.5)

        assert (arrived, hub.is_open) == (0, True)
        asked = head(2, report=3)
        assert actions == [sent(1), FanOut(asked, frame_of(asked)), Ask(b"A", asked)]
        assert hub.deadline == 0.5 + MARK_S

    def test_waiting_has_an_end(self) -> None:
        """
        Opening by hand sends out what was held, once.
        """
        hub = Hub(2, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", 1)

        assert hub.open(2.0) == [sent(1)]
        assert hub.open(2.0) == []
        assert hub.expire(2.0 + MARK_S) == [Mark(1)]

    def test_who_is_expected_and_leaves_is_not_waited_for(self) -> None:
        """
        When the last that was waited for is known to be gone, what was held goes out first.
        """
        hub = Hub(2, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", 1)

        assert hub.leave("B", 1.0) == [sent(1)]
        assert arrive(hub, b"A", 2) == [sent(2)]


class TestKept:
    def test_what_arrived_is_kept_whoever_is_there(self) -> None:
        """
        Even while it is held: who asks may be given it.
        """
        hub = Hub(1, expected=["A", "B"])
        hub.join(b"A", "A", 0.0)
        arrive(hub, b"A", 1)

        assert hub.kept.recall(LOSS, 5, 0.0, 0.0) == [sent(1).frame]

    def test_what_has_lost_its_value_is_given_it_again(self, hub: Hub) -> None:
        """
        A sticky run that arrived before this hub kept it goes out to nobody, but is kept now.
        """
        arrive(hub, b"A", 1)
        again = head(1, sticky=True)

        assert arrive(hub, b"A", again) == []
        assert hub.kept.last_of(LOSS) == frame_of(again)
        assert arrive(hub, b"A", 1) == []

    def test_what_is_too_old_goes_while_nothing_comes(self, hub: Hub) -> None:
        """
        Whatever is done at a deadline, what is kept is looked through, too.
        """
        arrive(hub, b"A", 1)
        hub.expire(1000.0)

        assert hub.kept.cost == 0
