from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.names import Topic
from protocol.publishing import CROWDED, LATE
from protocol.runs import Head
from spiral_host.reports import (
    GONE,
    MAX_COUNT,
    MAX_NAMES,
    MAX_REPORTS,
    MAX_TEXT,
    MAX_TEXTS,
    MAX_WITHIN_MS,
    Finished,
    Reports,
)

LOSS = Topic("Loss")
NOTHING = Finished(
    peer=b"A", incarnation=1, report=7, event_type=LOSS, matched=0, delivered=0, failures=()
)


def head(report: int = 7, within_ms: int = 1000) -> Head:
    return Head(1, "s", 1, LOSS, 1, 1, 0.0, report, within_ms)


def expected(reports: Reports, peer: bytes, *names: str) -> list[Finished]:
    return reports.expected(peer, 1, 7, names)


def answered(
    reports: Reports, peer: bytes, name: str, matched: int = 1, *texts: str
) -> list[Finished]:
    return reports.answered(peer, 1, 7, name, matched, len(texts), texts)


@pytest.fixture
def reports() -> Reports:
    """One report of A's, about an event that went to A and B."""
    reports = Reports()
    assert reports.begin(b"A", head(), [b"A", b"B"], 5.0) == []
    return reports


class TestCollecting:
    def test_it_ends_when_all_have_answered(self, reports: Reports) -> None:
        """
        Every peer has named its subscribers, and each of these has run its callbacks.
        """
        assert expected(reports, b"A", "x", "y") == []
        assert expected(reports, b"B", "x") == []
        assert answered(reports, b"A", "x") == []
        assert answered(reports, b"A", "y", 2, "ValueError: no") == []
        assert reports.deadline == 6.0

        assert answered(reports, b"B", "x", 3) == [
            replace(NOTHING, matched=6, delivered=5, failures=(("y", "ValueError: no"),))
        ]
        assert reports.deadline is None
        assert len(reports) == 0

    def test_peers_may_have_nobody(self, reports: Reports) -> None:
        """
        An event that concerns nobody was delivered to nobody, and no peer is waited for twice.
        """
        assert expected(reports, b"A") == []
        assert expected(reports, b"B") == [NOTHING]

    def test_without_peers_it_ends_at_once(self) -> None:
        """
        Where nobody is on the bus, there is nobody to wait for.
        """
        reports = Reports()

        assert reports.begin(b"A", head(), [], 0.0) == [NOTHING]
        assert reports.deadline is None

    def test_an_answer_may_come_before_its_name(self, reports: Reports) -> None:
        """
        What a peer and its subscribers say may overtake each other.
        """
        expected(reports, b"A")
        assert answered(reports, b"B", "x", 2) == []

        assert expected(reports, b"B", "x") == [replace(NOTHING, matched=2, delivered=2)]

    def test_an_event_that_nobody_waits_for_is_not_followed(self) -> None:
        """
        Number 0 means no report.
        """
        reports = Reports()

        assert reports.begin(b"A", head(report=0), [b"A"], 0.0) == []
        assert reports.deadline is None


class TestEnding:
    def test_the_deadline_ends_it(self, reports: Reports) -> None:
        """
        Each subscriber that has not answered counts as a callback that failed.
        """
        expected(reports, b"A", "x", "y")
        answered(reports, b"A", "x")
        answered(reports, b"B", "z")

        assert reports.expire(5.9) == []
        assert reports.expire(6.0) == [
            replace(NOTHING, matched=2, delivered=1, failures=(("y", LATE),))
        ]
        assert reports.expire(9.0) == []
        assert answered(reports, b"A", "y") == []

    @pytest.mark.parametrize(
        ("within_ms", "due"), [(0, 5.0), (-1, 5.0), (10**12, 5.0 + MAX_WITHIN_MS / 1000)]
    )
    def test_the_deadline_is_bounded(self, within_ms: int, due: float) -> None:
        """
        Nobody waits for ever, or ends before the beginning.
        """
        reports = Reports()

        reports.begin(b"A", head(within_ms=within_ms), [b"B"], 5.0)

        assert reports.deadline == due

    def test_the_earliest_deadline_counts(self) -> None:
        """
        Reports end in the order of their deadlines, whatever began first.
        """
        reports = Reports()
        for number, within_ms in enumerate((3000, 1000, 2000), start=1):
            reports.begin(b"A", head(number, within_ms), [b"B"], 0.0)

        assert reports.deadline == 1.0
        assert reports.expected(b"B", 1, 2, ()) != []
        assert reports.deadline == 2.0
        assert [finished.report for finished in reports.expire(3.0)] == [3, 1]

    def test_who_leaves_has_failed(self, reports: Reports) -> None:
        """
        Subscribers that have answered before their peer went have done so.
        """
        expected(reports, b"A", "x")
        expected(reports, b"B", "y", "z")
        answered(reports, b"B", "y")
        assert reports.left(b"B") == []

        assert answered(reports, b"A", "x") == [
            replace(NOTHING, matched=3, delivered=2, failures=(("z", GONE),))
        ]

    def test_who_leaves_unheard_had_nobody(self, reports: Reports) -> None:
        """
        A peer that has not named anybody counts as nothing, and may be all that was waited for.
        """
        expected(reports, b"A")
        answered(reports, b"B", "x")

        assert reports.left(b"C") == []
        assert reports.left(b"B") == [NOTHING]

    def test_a_publisher_may_have_so_many(self) -> None:
        """
        One more ends its oldest at once, and nobody else's.
        """
        reports = Reports()
        reports.begin(b"B", head(1), [b"C"], 0.0)
        for number in range(2, MAX_REPORTS + 2):
            assert reports.begin(b"A", head(number), [b"C"], 0.0) == []
        reports.expected(b"C", 1, 2, ["x"])

        assert reports.begin(b"A", head(9999), [b"C"], 0.0) == [
            replace(NOTHING, report=2, matched=1, failures=(("x", CROWDED),))
        ]
        assert len(reports) == MAX_REPORTS + 1

    def test_who_waits_for_most_ends_first(self) -> None:
        """
        A plugin that waits for more than it can hear of costs the others of its node nothing.
        """
        reports = Reports()
        for number in range(1, 4):
            reports.begin(b"A", head(number)._replace(incarnation=2), [b"C"], 0.0)
        for number in range(1, MAX_REPORTS + 100):
            for finished in reports.begin(b"A", head(number), [b"C"], 0.0):
                assert finished.incarnation == 1
        assert len(reports) == MAX_REPORTS

        reports.expire(1.0)
        assert (reports._begun_by, reports._under_way) == ({}, {})

    def test_what_has_ended_leaves_nothing(self) -> None:
        """
        A publisher that waits ten minutes for each of many events is not remembered for as long.
        """
        reports = Reports()
        reports.begin(b"A", head(1, within_ms=1000), [b"B"], 0.0)
        for _ in range(1000):
            reports.begin(b"A", head(2, within_ms=MAX_WITHIN_MS), [b"B"], 0.0)
            reports.expected(b"B", 1, 2, ())

        assert len(reports._due) < 100
        assert [finished.report for finished in reports.expire(1.0)] == [1]
        assert (reports.deadline, reports._due, reports._begun_by) == (None, [], {})

    def test_a_number_that_is_used_again_has_a_deadline_of_its_own(self) -> None:
        """
        What is left of the report that had it before ends nothing.
        """
        reports = Reports()
        reports.begin(b"A", head(1, within_ms=500), [b"B"], 0.0)
        reports.begin(b"A", head(2, within_ms=1000), [b"B"], 0.0)
        reports.expected(b"B", 1, 2, ())
        reports.begin(b"A", head(2, within_ms=2000), [b"B"], 0.0)

        assert [finished.report for finished in reports.expire(1.5)] == [1]
        assert reports.deadline == 2.0


class TestLies:
    def test_what_nobody_asked_about_is_ignored(self, reports: Reports) -> None:
        """
        Unknown reports, strangers, and names that were never expected change nothing.
        """
        expected(reports, b"A")

        assert reports.expected(b"B", 2, 7, ["x"]) == reports.expected(b"B", 1, 8, ["x"]) == []
        assert reports.answered(b"B", 1, 8, "x", 1, 0, ()) == []
        assert expected(reports, b"C", "x") == answered(reports, b"C", "x") == []
        assert answered(reports, b"A", "x") == answered(reports, b"B", "y", 5) == []
        assert expected(reports, b"B", "x") == []
        assert answered(reports, b"B", "z", 5) == []
        assert answered(reports, b"B", "x") == [replace(NOTHING, matched=1, delivered=1)]

    def test_what_is_said_twice_counts_once(self, reports: Reports) -> None:
        """
        Neither names nor answers add up when they are repeated, and neither does a beginning.
        """
        assert reports.begin(b"B", head(within_ms=1), [b"B"], 0.0) == []
        assert reports.deadline == 6.0
        answered(reports, b"B", "y", 1)
        answered(reports, b"B", "y", 100)
        expected(reports, b"B", "y", "y")
        expected(reports, b"A", "x", "z")
        expected(reports, b"A")
        answered(reports, b"A", "x", 1)
        answered(reports, b"A", "x", 100)

        assert answered(reports, b"A", "z", 1) == [replace(NOTHING, matched=3, delivered=3)]

    @pytest.mark.parametrize(
        ("claimed", "counted"),
        [
            ((-5, 0), (0, 0)),
            ((2, -1), (2, 2)),
            ((2, 9), (2, 0)),
            ((-1, 10**30), (0, 0)),
            ((10**30, 1), (MAX_COUNT, MAX_COUNT - 1)),
        ],
    )
    def test_counts_are_bounded(
        self, reports: Reports, claimed: tuple[int, int], counted: tuple[int, int]
    ) -> None:
        """
        What is matched is what is delivered and what has failed, whatever is claimed.
        """
        expected(reports, b"A", "x")
        expected(reports, b"B")

        (finished,) = reports.answered(b"A", 1, 7, "x", *claimed, ())

        assert (finished.matched, finished.delivered) == counted

    def test_texts_are_bounded(self, reports: Reports) -> None:
        """
        All failures are counted, a few are quoted, none at length.
        """
        expected(reports, b"A", "x", "y")
        expected(reports, b"B")
        answered(reports, b"A", "x", 40, *["e" * 5000] * 10)

        (finished,) = answered(reports, b"A", "y", 40, *["f" * 5000] * 40)

        assert finished.matched - finished.delivered == 50
        assert len(finished.failures) == MAX_TEXTS
        assert finished.failures[0] == ("x", "e" * MAX_TEXT)
        assert finished.failures[-1] == ("y", "f" * MAX_TEXT)

    def test_no_more_is_quoted_than_has_failed(self, reports: Reports) -> None:
        """
        Texts without a failure say nothing.
        """
        expected(reports, b"A", "x")
        expected(reports, b"B")

        (finished,) = reports.answered(b"A", 1, 7, "x", 3, 1, ("one", "two"))

        assert finished.failures == (("x", "one"),)

    def test_names_are_bounded(self, reports: Reports) -> None:
        """
        Of ten thousand names of one peer the first are waited for; answers to none are bounded too.
        """
        names = [f"{number:05}" * 100 for number in range(10_000)]
        for name in names:
            answered(reports, b"B", name)
        assert len(reports._reports[1, 7].peers[b"B"].early) == MAX_NAMES
        expected(reports, b"A", *names)
        expected(reports, b"B", *names)

        (finished,) = reports.expire(6.0)

        assert (finished.matched, finished.delivered) == (2 * MAX_NAMES, MAX_NAMES)
        assert {len(name) for name, _ in finished.failures} == {MAX_TEXT}


PEERS = [b"A", b"B", b"C"]
NAMES = ["x", "y", "z"]
_peer = st.sampled_from(PEERS)
_number = st.integers(1, 3)
_count = st.integers(-1, 4)


class Model:
    """What is still to be said about each report, kept by hand beside the reports."""

    def __init__(self) -> None:
        self.reports = Reports()
        self.now = 0.0
        self.due: dict[int, float] = {}
        self.unheard: dict[int, set[bytes]] = {}
        self.waiting: dict[int, set[tuple[bytes, str]]] = {}
        self.early: dict[int, set[tuple[bytes, str]]] = {}

    def begin(self, peer: bytes, number: int, peers: set[bytes], within_ms: int) -> list[Finished]:
        if number not in self.due:
            self.due[number], self.unheard[number] = self.now + within_ms / 1000, set(peers)
            self.waiting[number], self.early[number] = set(), set()
        return self.reports.begin(peer, head(number, within_ms), peers, self.now)

    def expected(self, peer: bytes, number: int, names: list[str]) -> list[Finished]:
        if peer in self.unheard.get(number, ()):
            self.unheard[number].remove(peer)
            self.waiting[number] |= {(peer, name) for name in names} - self.early[number]
        return self.reports.expected(peer, 1, number, names)

    def answered(
        self, peer: bytes, number: int, name: str, matched: int, failed: int
    ) -> list[Finished]:
        self.waiting.get(number, set()).discard((peer, name))
        if peer in self.unheard.get(number, ()):
            self.early[number].add((peer, name))
        return self.reports.answered(peer, 1, number, name, matched, failed, ["no"])

    def left(self, peer: bytes) -> list[Finished]:
        for number in self.due:
            self.unheard[number].discard(peer)
            self.waiting[number] = {pair for pair in self.waiting[number] if pair[0] != peer}
        return self.reports.left(peer)

    def expire(self, after_s: float) -> list[Finished]:
        self.now += after_s
        for number in self.due:
            if self.due[number] <= self.now:
                self.unheard[number], self.waiting[number] = set(), set()
        return self.reports.expire(self.now)

    def check(self, ended: list[Finished]) -> None:
        """See that just those have ended about which nothing is still to be said."""
        over = [number for number in self.due if not self.unheard[number] | self.waiting[number]]
        assert sorted(finished.report for finished in ended) == sorted(over)
        for finished in ended:
            del self.due[finished.report]
            assert 0 <= finished.delivered <= finished.matched
            assert len(finished.failures) <= finished.matched - finished.delivered
        assert self.reports.deadline == min(self.due.values(), default=None)
        assert len(self.reports) == len(self.due)


_name = st.sampled_from(NAMES)
_steps = st.one_of(
    st.tuples(st.just(Model.begin), _peer, _number, st.sets(_peer), st.integers(0, 3000)),
    st.tuples(st.just(Model.expected), _peer, _number, st.lists(_name)),
    st.tuples(st.just(Model.answered), _peer, _number, _name, _count, _count),
    st.tuples(st.just(Model.left), _peer),
    st.tuples(st.just(Model.expire), st.floats(0, 2)),
)


@given(st.lists(_steps, max_size=60))
def test_whatever_is_said_each_report_ends_once_and_adds_up(steps: list[Any]) -> None:
    """
    Never before all has been said, unless at its deadline, and never later than that.
    """
    model = Model()
    for step, *said in [*steps, (Model.expire, 10.0)]:
        model.check(step(model, *said))

    assert not model.due
