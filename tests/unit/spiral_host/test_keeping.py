from dataclasses import dataclass, field
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.feed import Replay
from protocol.names import EVERYTHING, Topic
from protocol.patterns import matches
from protocol.runs import Head
from spiral_host.keeping import (
    BUDGET,
    MAX_AGE_S,
    MAX_REPLAY,
    MAX_STICKY,
    OVERHEAD,
    SWEEP_S,
    Kept,
)

LOSS = Topic("Loss")
EPOCH = Topic("Trainer.epoch")
TOPICS = [LOSS, EPOCH, Topic("Trainer.step")]
PATTERNS = [*TOPICS, Topic("Trainer.*"), EVERYTHING, Topic("Unknown")]
SOURCES = ["a", "b", "c"]

_FRAME = 1000


def head(
    first: int, *, source: str = "s", topic: Topic = LOSS, count: int = 1, ts: float = 0.0
) -> Head:
    return Head(first, source, 1, topic, first, count, ts)


def frame(name: object, size: int = _FRAME) -> bytes:
    return str(name).encode().ljust(size, b".")


def named(frames: list[bytes]) -> list[str]:
    return [found.rstrip(b".").decode() for found in frames]


def replayed(kept: Kept, first: int, last: int, source: str = "s") -> list[str]:
    return named(kept.replay(Replay(source, 1, LOSS, first, last)))


def recalled(
    kept: Kept, pattern: Topic = LOSS, last: int = 0, since: float = -inf, now: float = 0.0
) -> list[str]:
    return named(kept.recall(pattern, last, since, now))


@pytest.fixture
def kept() -> Kept:
    """Five runs of two events each, numbered from 1, stamped with their first number."""
    kept = Kept()
    for first in range(1, 11, 2):
        kept.keep(head(first, count=2, ts=first), frame(first), 0.0)
    return kept


class TestReplay:
    def test_runs_that_hold_a_wanted_number_are_given(self, kept: Kept) -> None:
        """
        Whole runs, oldest first, and none that only touches what is wanted.
        """
        kept.keep(head(3, source="t"), frame("t"), 0.0)

        assert replayed(kept, 4, 7) == ["3", "5", "7"]
        assert replayed(kept, 5, 6) == ["5"]
        assert replayed(kept, 11, 20) == []
        assert replayed(kept, 7, 4) == []

    def test_lines_are_kept_apart(self, kept: Kept) -> None:
        """
        Another source, life or type is another line.
        """
        assert replayed(kept, 1, 9, source="t") == []
        assert kept.replay(Replay("s", 2, LOSS, 1, 9)) == []
        assert kept.replay(Replay("s", 1, EPOCH, 1, 9)) == []

    def test_numbers_that_fall_are_found_all_the_same(self, kept: Kept) -> None:
        """
        A source that lies about its numbers is given back what it said.
        """
        kept.keep(head(3), frame("again"), 0.0)

        assert replayed(kept, 3, 3) == ["3", "again"]
        assert replayed(kept, 9, 9) == ["9"]

    def test_one_replay_is_bounded(self) -> None:
        """
        A replay that would not fit into a message is cut; the rest is a gap.
        """
        kept = Kept()
        for number in range(1, 20):
            kept.keep(head(number), frame(number, MAX_REPLAY // 10), 0.0)

        assert replayed(kept, 3, 19) == [str(number) for number in range(3, 13)]


class TestBudget:
    def test_a_flood_costs_the_others_nothing(self) -> None:
        """
        Whoever keeps most gives up its oldest runs when the budget is spent.
        """
        kept = Kept(budget=3 * (_FRAME + OVERHEAD))
        kept.keep(head(1, source="quiet"), frame("quiet"), 0.0)
        for number in range(1, 4):
            kept.keep(head(number), frame(number), 0.0)

        assert replayed(kept, 1, 3) == ["2", "3"]
        assert replayed(kept, 1, 1, source="quiet") == ["quiet"]

    def test_a_run_larger_than_the_budget_is_not_kept(self) -> None:
        """
        It takes its own source's runs with it, and nobody else's.
        """
        kept = Kept()
        kept.keep(head(1, source="quiet"), frame("quiet"), 0.0)
        kept.keep(head(1), frame(1), 0.0)
        kept.keep(head(2), bytes(BUDGET), 0.0)

        assert replayed(kept, 1, 2) == []
        assert kept.cost == _FRAME + OVERHEAD

    def test_small_runs_are_charged_for_their_place(self) -> None:
        """
        Runs without a byte are bounded in number.
        """
        kept = Kept(budget=3 * OVERHEAD)
        for number in range(1, 6):
            kept.keep(head(number), b"", 0.0)

        assert len(kept.replay(Replay("s", 1, LOSS, 1, 5))) == 3

    def test_sources_that_come_and_go_leave_nothing(self) -> None:
        """
        What orders the sources by size does not grow with those that are gone.
        """
        kept = Kept(budget=10 * (OVERHEAD + _FRAME))
        for number in range(2000):
            topic = Topic(f"T{number}")
            kept.keep(head(1, source=f"s{number}", topic=topic), frame(number), 0.0)

        assert len(recalled(kept, EVERYTHING, last=99)) == 10
        assert len(kept._sources) == len(kept._lines) == len(kept._topics) == 10
        assert len(kept._order) < 100

    def test_a_source_that_grows_has_few_places(self) -> None:
        """
        Neither does it grow with each run while there is room for all.
        """
        kept = Kept()
        for number in range(1000):
            kept.keep(head(number), frame(number), 0.0)

        assert len(kept._order) < 100

    def test_what_is_given_up_takes_no_room(self) -> None:
        """
        A ring lets go of each frame at once, also while it closes up only now and then.
        """
        kept = Kept(budget=10 * (OVERHEAD + _FRAME))
        for number in range(14):
            kept.keep(head(number), frame(number), 0.0)

        (ring,) = kept._lines.values()
        assert sum(len(entry.frame) for entry in ring._entries) == 10 * _FRAME


class TestAge:
    def test_what_is_too_old_is_given_up(self, kept: Kept) -> None:
        """
        Nothing is kept for longer than it may be, give or take a sweep.
        """
        kept.expire(MAX_AGE_S)
        assert replayed(kept, 1, 9) != []

        kept.expire(MAX_AGE_S + SWEEP_S)
        assert replayed(kept, 1, 9) == []
        assert kept.cost == 0

    def test_one_sources_age_is_not_anothers(self, kept: Kept) -> None:
        """
        Keeping a run gives up what is too old of those that are silent.
        """
        kept.keep(head(1, source="t"), frame("t"), MAX_AGE_S + SWEEP_S)

        assert recalled(kept, last=99, now=MAX_AGE_S + SWEEP_S) == ["t"]

    def test_expiring_early_is_harmless(self, kept: Kept) -> None:
        """
        Sources are looked through now and then, not at every call.
        """
        kept.expire(SWEEP_S)
        kept.expire(0.0)

        assert len(recalled(kept, last=99)) == 5


class TestRecall:
    def test_the_newest_runs_hold_as_many_events_as_asked_for(self, kept: Kept) -> None:
        """
        Runs are whole, so the oldest may hold more than are wanted.
        """
        assert recalled(kept, last=1) == ["9"]
        assert recalled(kept, last=3) == ["7", "9"]
        assert recalled(kept, last=4) == ["7", "9"]
        assert len(recalled(kept, last=10**30)) == 5

    def test_lines_are_put_together_in_order_of_arrival(self) -> None:
        """
        The newest of all sources and types that match, in the order in which they came.
        """
        kept = Kept()
        for number in range(1, 7):
            source, topic = f"s{number % 2}", TOPICS[number % 3]
            kept.keep(head(number, source=source, topic=topic), frame(number), 0.0)

        assert recalled(kept, EVERYTHING, last=4) == ["3", "4", "5", "6"]
        assert recalled(kept, Topic("Trainer.*"), last=3) == ["2", "4", "5"]
        assert recalled(kept, Topic("Trainer.*"), last=9) == ["1", "2", "4", "5"]

    def test_runs_since_a_time_are_recalled(self, kept: Kept) -> None:
        """
        By their stamps, also where a clock was set back; a stamp that is no number is passed over.
        """
        kept.keep(head(11, ts=6.0), frame("back"), 0.0)
        kept.keep(head(12, ts=nan), frame("nan"), 0.0)
        kept.keep(head(13, ts=5.5), frame("still"), 0.0)

        assert recalled(kept, since=7.0) == ["7", "9"]
        assert recalled(kept, since=5.8) == ["7", "9", "back"]
        assert recalled(kept, since=9.5) == []
        assert recalled(kept, since=nan) == []

    def test_the_newest_fit_into_one_answer(self) -> None:
        """
        What does not fit is the oldest.
        """
        kept = Kept()
        for number in range(1, 20):
            kept.keep(head(number), frame(number, MAX_REPLAY // 10), 0.0)

        assert recalled(kept) == [str(number) for number in range(10, 20)]

    def test_a_type_is_looked_for_in_its_own_lines_only(self) -> None:
        """
        Ten thousand lines of other types are not looked at.
        """
        kept = Kept()
        for number in range(10_000):
            kept.keep(head(1, topic=Topic(f"T{number}")), frame(number), 0.0)
        for topic in kept._topics:
            if topic != "T9999":
                kept._topics[topic].clear()

        assert recalled(kept, Topic("T9999"), last=10) == ["9999"]
        assert recalled(kept, Topic("T9999")) == ["9999"]


class TestSticky:
    def test_the_last_run_outlives_budget_and_age(self) -> None:
        """
        A late joiner gets the last value of a sticky type, however old it is.
        """
        kept = Kept(budget=2 * (_FRAME + OVERHEAD))
        kept.make_sticky(EPOCH)
        kept.keep(head(1, topic=EPOCH), frame("old"), 0.0)
        kept.keep(head(2, topic=EPOCH), frame("epoch"), 0.0)
        for number in range(1, 9):
            kept.keep(head(number), frame(number), 0.0)

        assert kept.last_of(EPOCH) == frame("epoch")
        assert recalled(kept, EPOCH, since=inf) == ["epoch"]
        assert recalled(kept, EVERYTHING, last=1) == ["epoch", "8"]
        assert recalled(kept, Topic("Trainer.*"), last=1, now=1e9) == ["epoch"]
        assert recalled(kept, LOSS, since=inf) == []

    def test_it_fills_a_hole_too(self) -> None:
        """
        A subscriber that missed the last value can still have it.
        """
        kept = Kept()
        kept.make_sticky(LOSS)
        kept.keep(head(4, count=2), frame("loss"), 0.0)
        assert replayed(kept, 4, 4) == ["loss"]

        kept.expire(1e9)

        assert replayed(kept, 5, 9) == ["loss"]
        assert replayed(kept, 6, 9) == replayed(kept, 1, 3) == []
        assert replayed(kept, 4, 4, source="t") == []

    def test_it_begins_with_what_is_kept(self, kept: Kept) -> None:
        """
        A type that becomes sticky after its event still has a last run, its newest.
        """
        kept.keep(head(1, source="t"), frame("t"), 0.0)
        kept.keep(head(11), frame(11), 0.0)

        kept.make_sticky(LOSS)

        assert kept.last_of(LOSS) == frame(11)

    def test_a_run_may_make_its_type_sticky(self) -> None:
        """
        Its publisher says so; where there are too many already, it is kept as any other run is.
        """
        kept = Kept()
        kept.keep(head(1)._replace(sticky=True), frame(1), 0.0)
        kept.keep(head(2), frame(2), 0.0)
        for number in range(MAX_STICKY):
            topic = Topic(f"T{number}")
            kept.keep(head(1, topic=topic)._replace(sticky=True), frame(number), 0.0)

        assert kept.last_of(LOSS) == frame(2)
        assert len(kept.sticky) == MAX_STICKY
        assert topic not in kept.sticky
        assert recalled(kept, topic) == [str(MAX_STICKY - 1)]

    def test_a_type_without_events_has_no_last_run(self, kept: Kept) -> None:
        """
        Neither has one that is not sticky.
        """
        kept.make_sticky(EPOCH)

        assert kept.last_of(EPOCH) is None
        assert kept.last_of(LOSS) is None
        assert recalled(kept, EPOCH) == []
        assert kept.replay(Replay("s", 1, EPOCH, 0, 0)) == []
        assert kept.sticky == {EPOCH}

    def test_there_may_be_so_many(self) -> None:
        """
        Each keeps a run outside of the budget, so they are counted; one may be named twice.
        """
        kept = Kept()
        for number in range(MAX_STICKY):
            kept.make_sticky(Topic(f"T{number}"))
        kept.make_sticky(Topic("T0"))

        with pytest.raises(UsageError, match="Loss cannot be sticky: 256"):
            kept.make_sticky(LOSS)
        assert len(kept.sticky) == MAX_STICKY

    def test_last_values_go_before_others(self) -> None:
        """
        Where not all fits into one answer, sticky runs do, the newest of them at least.
        """
        kept = Kept()
        for number in range(12):
            topic = Topic(f"T{number}")
            kept.make_sticky(topic)
            kept.keep(head(1, topic=topic), frame(number, MAX_REPLAY // 10), 0.0)
        kept.keep(head(1), frame("loss"), 0.0)

        assert recalled(kept, EVERYTHING) == [str(number) for number in range(2, 12)]


@dataclass
class Model:
    """All that was ever kept, and which of it a `Kept` has given up."""

    kept: Kept
    budget: int
    serial: int = 0
    rings: dict[str, list[tuple[Head, bytes, float]]] = field(default_factory=dict)
    sticky: dict[Topic, tuple[Head, bytes, float] | None] = field(default_factory=dict)
    swept_at: float = -inf
    order: dict[bytes, int] = field(default_factory=dict)

    def keep(self, said: Head, size: int, now: float) -> None:
        """Keep a run in both; check that what went is what had to go."""
        self.serial += 1
        body = frame(self.serial, size)
        self.order[body] = self.serial
        self.expire(now)
        self.kept.keep(said, body, now)
        run = (said, body, now)
        if said.topic in self.sticky:
            self.sticky[said.topic] = run
        before = self.rings
        before.setdefault(said.source, []).append(run)
        self.rings = {name: self.left_of(name, runs) for name, runs in before.items()}
        sizes = {name: cost(runs) for name, runs in self.rings.items()}
        assert sum(sizes.values()) == self.kept.cost <= self.budget
        gone = {name: runs[: len(runs) - len(self.rings[name])] for name, runs in before.items()}
        for dropped in filter(None, gone.values()):
            # When its last run went, no source had more than this one.
            assert sizes[dropped[-1][0].source] + cost(dropped[-1:]) >= max(sizes.values())
        if any(gone.values()):
            last_of_each = [cost(dropped[-1:]) for dropped in gone.values() if dropped]
            assert sum(sizes.values()) + max(last_of_each) > self.budget

    def left_of(
        self, source: str, runs: list[tuple[Head, bytes, float]]
    ) -> list[tuple[Head, bytes, float]]:
        """Ask what is still kept of a source; it has to be its newest."""
        ring = self.kept._sources[source].ring.tail(len(runs)) if self.has(source) else []
        left = runs[len(runs) - len(ring) :]
        assert [entry.frame for entry in ring] == [body for _, body, _ in left]
        return left

    def has(self, source: str) -> bool:
        """Say whether anything is kept of a source."""
        return source in self.kept._sources

    def expire(self, now: float) -> None:
        """Give up what is too old, as often as it is looked for."""
        self.kept.expire(now)
        if now >= self.swept_at + SWEEP_S:
            self.swept_at = now
            for runs in self.rings.values():
                runs[:] = [run for run in runs if run[2] >= now - MAX_AGE_S]

    def all(self) -> list[tuple[Head, bytes]]:
        """Give all that is kept, in order of arrival, sticky runs as well."""
        runs = {body: said for ring in self.rings.values() for said, body, _ in ring}
        runs |= {run[1]: run[0] for run in self.sticky.values() if run is not None}
        return sorted(((said, body) for body, said in runs.items()), key=lambda r: self.order[r[1]])

    def recall(self, pattern: Topic, last: int, since: float) -> list[bytes]:
        """Say by hand what a late joiner gets."""
        rings = [(said, body) for runs in self.rings.values() for said, body, _ in runs]
        rings.sort(key=lambda run: self.order[run[1]], reverse=True)
        chosen: list[bytes] = []
        events = 0
        for said, body in rings:
            if not matches(pattern, said.topic):
                continue
            if (last and events < last) or (not last and said.ts >= since):
                chosen.append(body)
            events += said.events
        for topic, run in self.sticky.items():
            if run is not None and matches(pattern, topic):
                chosen.append(run[1])
        return sorted(set(chosen), key=self.order.__getitem__)


def cost(runs: list[tuple[Head, bytes, float]]) -> int:
    """Add up what runs are charged."""
    return sum(len(body) + OVERHEAD for _, body, _ in runs)


@given(st.data())
def test_what_is_kept_is_what_a_plain_list_would_give(data: st.DataObject) -> None:
    """
    Never above the budget, never at a smaller source's cost; each answer is exact and in order.
    """
    budget = data.draw(st.integers(0, 12)) * 1000
    model = Model(Kept(budget), budget)
    numbers: dict[tuple[str, Topic], int] = {}
    now = 0.0
    for _ in range(data.draw(st.integers(1, 30))):
        if data.draw(st.integers(0, 9)) == 0:
            topic = data.draw(st.sampled_from(TOPICS))
            model.kept.make_sticky(topic)
            kept = [run for ring in model.rings.values() for run in ring if run[0].topic == topic]
            newest = max(kept, key=lambda run: model.order[run[1]], default=None)
            model.sticky.setdefault(topic, newest)
        now += data.draw(st.sampled_from([0.0, 1.0, SWEEP_S, MAX_AGE_S / 2]))
        line = (data.draw(st.sampled_from(SOURCES)), data.draw(st.sampled_from(TOPICS)))
        first = numbers.get(line, 0) + data.draw(st.sampled_from([1, 1, 1, 3, -2]))
        count = data.draw(st.integers(1, 4))
        numbers[line] = max(0, first + count - 1)
        said = Head(1, line[0], 1, line[1], first, count, data.draw(st.integers(0, 5)))
        model.keep(said, data.draw(st.integers(10, 3000)), now)

    source, topic = data.draw(st.sampled_from(SOURCES)), data.draw(st.sampled_from(TOPICS))
    first, last = sorted((data.draw(st.integers(-1, 20)), data.draw(st.integers(-1, 20))))
    assert model.kept.replay(Replay(source, 1, topic, first, last)) == [
        body
        for said, body in model.all()
        if (said.source, said.topic) == (source, topic)
        if said.first <= last and said.last >= first
    ]
    for pattern in PATTERNS:
        wanted, since = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 6))
        assert model.kept.recall(pattern, wanted, since, now) == model.recall(
            pattern, wanted, since
        )
