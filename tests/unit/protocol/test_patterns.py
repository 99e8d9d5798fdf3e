import timeit
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol import patterns
from protocol.errors import UsageError
from protocol.names import EVERYTHING, MAX_TOPIC, Topic, parse_pattern, parse_topic
from protocol.patterns import (
    MAX_CACHED,
    PatternMap,
    matches,
    pattern_of,
    patterns_of,
    wanted_prefix,
)

EPOCH = Topic("Trainer.epoch")
TRAINER = Topic("Trainer.*")


def parsed(parse: Callable[[object], Topic], alphabet: str) -> st.SearchStrategy[Topic]:
    def is_one(text: str) -> bool:
        try:
            parse(text)
        except UsageError:
            return False
        return True

    return st.text(alphabet, max_size=8).filter(is_one).map(Topic)


TOPICS = parsed(parse_topic, "ab.*é")
PATTERNS = parsed(parse_pattern, "ab.*é") | parsed(parse_topic, "ab.").map(
    lambda topic: Topic(f"{topic}.*")
)


class TestMatching:
    @pytest.mark.parametrize(
        ("pattern", "topic", "is_match"),
        [
            ("Trainer.*", "Trainer.epoch", True),
            ("Trainer.*", "Trainer.epoch.end", True),
            ("Trainer.epoch.*", "Trainer.epoch.end", True),
            ("Trainer.*", "Trainer", False),
            ("Trainer.*", "Trainers.epoch", False),
            ("Trainer.*", "My.Trainer.epoch", False),
            ("Trainer", "Trainer", True),
            ("Trainer", "Trainer.epoch", False),
            ("Trainer", "Train", False),
            ("*", "Trainer.epoch", True),
            ("*", ".", True),
        ],
    )
    def test_a_pattern_is_a_name_a_family_or_everything(
        self, *, pattern: str, topic: str, is_match: bool
    ) -> None:
        """
        A family holds every name that goes on behind its dot, however far.
        """
        assert matches(pattern, topic) is is_match

    @given(pattern=PATTERNS, topic=TOPICS)
    def test_all_ways_to_match_agree(self, pattern: Topic, topic: Topic) -> None:
        """
        What a topic's name tells and what ZeroMQ compares, prefix to frame, say the same.
        """
        frame = topic.encode() + b"\0"

        assert matches(pattern, topic) == (pattern in patterns_of(topic))
        assert matches(pattern, topic) == frame.startswith(wanted_prefix(pattern))


class TestPrefixes:
    @given(pattern=PATTERNS)
    def test_a_prefix_tells_its_pattern(self, pattern: Topic) -> None:
        """
        The hub reads back what a peer's socket subscribed to.
        """
        assert pattern_of(wanted_prefix(pattern)) == pattern

    @pytest.mark.parametrize(
        "prefix",
        [
            b"\xff",
            b"\xffsync",
            b"\xffecho:12",
            b"\xff.",
            b"\xff\0",
            b"Trainer",
            b".",
            b"\0",
            b"*",
            b"*\0",
            b"a.*\0",
            b"*.",
            b"a\0b\0",
            b"\xc3\0",
            b"x" * (MAX_TOPIC + 1) + b"\0",
        ],
    )
    def test_what_is_no_pattern_is_none(self, prefix: bytes) -> None:
        """
        Marks, and what a stranger's socket may ask for, are no patterns.
        """
        assert pattern_of(prefix) is None

    @given(prefix=st.binary(max_size=MAX_TOPIC + 9))
    def test_whatever_is_asked_for_raises_nothing(self, prefix: bytes) -> None:
        """
        Any bytes are a pattern that asks for just these bytes, or none.
        """
        pattern = pattern_of(prefix)

        assert pattern is None or wanted_prefix(pattern) == prefix


class TestPatternMap:
    def test_the_first_and_the_last_are_told_apart(self) -> None:
        """
        Who keeps such a map subscribes for the first key and unsubscribes for the last.
        """
        wanted = PatternMap[str]()

        assert wanted.add(TRAINER, "a") is True
        assert wanted.add(TRAINER, "b") is False
        assert wanted.add(TRAINER, "a") is False
        assert wanted.remove(TRAINER, "a") is False
        assert wanted.remove(TRAINER, "a") is False
        assert wanted.remove(TRAINER, "b") is True
        assert wanted.remove(TRAINER, "b") is False
        assert not wanted.patterns

    def test_keys_come_in_the_order_they_were_added(self) -> None:
        """
        Each once, whichever patterns it came for, and whichever it left meanwhile.
        """
        wanted = PatternMap[str]()
        for pattern, key in ((EVERYTHING, "z"), (EPOCH, "b"), (TRAINER, "a"), (EPOCH, "z")):
            wanted.add(pattern, key)
        before = wanted.matching(EPOCH)
        wanted.remove(EVERYTHING, "z")

        assert before == wanted.matching(EPOCH) == ("z", "b", "a")
        assert wanted.matching(Topic("Trainer.step")) == ("a",)

    def test_a_change_shows_at_once(self) -> None:
        """
        What was looked up before is not relied on behind a change.
        """
        wanted = PatternMap[str]()
        assert not wanted.wants(EPOCH)
        wanted.add(TRAINER, "a")
        assert wanted.matching(EPOCH) == ("a",)
        wanted.add(EPOCH, "b")
        assert wanted.matching(EPOCH) == ("a", "b")
        wanted.remove(TRAINER, "a")
        assert wanted.matching(EPOCH) == ("b",)

    def test_what_is_remembered_is_bounded(self) -> None:
        """
        A source that makes up new types for ever does not make its subscribers grow.
        """
        wanted = PatternMap[str]()
        for number in range(MAX_CACHED * 2 + 1):
            wanted.matching(Topic(f"t{number}"))

        assert len(wanted._cache) <= MAX_CACHED

    def test_a_match_is_looked_up_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        As long as nothing changes a topic's patterns are not gone through again.
        """
        wanted = PatternMap[str]()
        wanted.add(TRAINER, "a")
        wanted.matching(EPOCH)
        monkeypatch.setattr(patterns, "patterns_of", pytest.fail)

        assert wanted.wants(EPOCH)

    def test_thousands_of_patterns_cost_no_more_than_a_few(self) -> None:
        """
        Neither a change nor the match behind it goes through all that is wanted.
        """

        def change_and_match(wanted: PatternMap[int]) -> None:
            wanted.add(EPOCH, -1)
            wanted.matching(EPOCH)
            wanted.remove(EPOCH, -1)

        def seconds(standing: int) -> float:
            wanted = PatternMap[int]()
            for number in range(standing):
                wanted.add(Topic(f"Type{number}"), number)
                wanted.add(Topic(f"Family{number}.*"), number)
            return min(timeit.repeat(lambda: change_and_match(wanted), number=100, repeat=7))

        # Going through all of them would take hundreds of times as long.
        assert seconds(10_000) < 20 * seconds(10)


SOME = st.sampled_from(
    [EVERYTHING, TRAINER, EPOCH, Topic("Trainer"), Topic("Trainer.epoch.*"), Topic("y.*")]
)


class PatternMapMachine(RuleBasedStateMachine):
    """A map beside the plainest thing that could be one: a list of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = PatternMap[int]()
        self.pairs: list[tuple[Topic, int]] = []
        self.order: list[int] = []

    @rule(pattern=SOME, key=st.integers(0, 4))
    def add(self, pattern: Topic, key: int) -> None:
        is_first = all(pattern != other for other, _ in self.pairs)
        if (pattern, key) not in self.pairs:
            self.pairs.append((pattern, key))
        if key not in self.order:
            self.order.append(key)
        assert self.wanted.add(pattern, key) is is_first

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        strangers = st.tuples(SOME, st.integers(0, 4))
        pair = data.draw(st.sampled_from(self.pairs) | strangers if self.pairs else strangers)
        was_there = pair in self.pairs
        self.pairs = [other for other in self.pairs if other != pair]
        if all(key != pair[1] for _, key in self.pairs):
            self.order = [key for key in self.order if key != pair[1]]
        is_last = was_there and all(pattern != pair[0] for pattern, _ in self.pairs)
        assert self.wanted.remove(*pair) is is_last

    @rule(topic=st.sampled_from([EPOCH, Topic("Trainer"), Topic("Trainer.epoch.end"), Topic("x")]))
    def match(self, topic: Topic) -> None:
        keys = {key for pattern, key in self.pairs if matches(pattern, topic)}
        expected = tuple(key for key in self.order if key in keys)
        assert self.wanted.matching(topic) == expected
        assert self.wanted.wants(topic) is bool(expected)

    @invariant()
    def patterns_are_those_of_the_pairs(self) -> None:
        assert set(self.wanted.patterns) == {pattern for pattern, _ in self.pairs}
        assert all(pattern in self.wanted for pattern, _ in self.pairs)
        assert Topic("never") not in self.wanted


TestPatternMapMachine = PatternMapMachine.TestCase
