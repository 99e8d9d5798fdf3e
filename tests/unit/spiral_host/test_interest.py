from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.codec import MAX_MESSAGE
from protocol.names import EVERYTHING, MAX_TOPIC, Topic
from protocol.wanted import LINGER_S, Wanted
from spiral_host.interest import PIECE, Action, AnswerEcho, Interest, TellInterest

LOSS, STEP, EPOCH = Topic("Loss"), Topic("Step"), Topic("Trainer.*")
A, B = b"A", b"B"
MARK = b"\xffecho:1"


def generation_of(actions: list[Action]) -> int:
    """Give the number of the one word that is told."""
    (number,) = [one.generation for one in actions if isinstance(one, TellInterest)]
    return number


def settled(*peers: bytes) -> Interest:
    """Give what is wanted where nothing is yet, and these peers know it."""
    interest = Interest()
    for peer in peers:
        interest.written(peer, generation_of(interest.joined(peer)))
    return interest


class TestTelling:
    def test_a_change_is_told_to_every_peer(self) -> None:
        """
        What somebody wants for the first time, or nobody any more, every node hears; else nothing.
        """
        interest = settled(A, B)
        told = interest.subscribed(LOSS)
        assert told == [
            TellInterest(A, 3, (LOSS,), (), full=False),
            TellInterest(B, 4, (LOSS,), (), full=False),
        ]
        assert interest.written(A, 3) == interest.written(B, 4) == []

        assert interest.subscribed(LOSS) == []
        assert interest.unsubscribed(STEP) == []
        assert interest.unsubscribed(LOSS) == [
            TellInterest(A, 5, (), (LOSS,), full=False),
            TellInterest(B, 6, (), (LOSS,), full=False),
        ]

    def test_one_that_joins_is_told_everything(self) -> None:
        """
        The first word is the whole list, even an empty one: its page may say anything.
        """
        interest = Interest()
        assert interest.joined(A) == [TellInterest(A, 1, (), (), full=True)]
        interest.subscribed(STEP)
        interest.subscribed(LOSS)

        assert interest.joined(B) == [TellInterest(B, 2, (LOSS, STEP), (), full=True)]

    def test_what_changes_meanwhile_goes_with_the_next_word(self) -> None:
        """
        A peer that has not written yet is told all changes since at once, each as it ended.
        """
        interest = settled(A)
        first = generation_of(interest.subscribed(LOSS))
        for pattern in (STEP, EPOCH):
            assert interest.subscribed(pattern) == []
        assert interest.unsubscribed(STEP) == []
        assert interest.unsubscribed(LOSS) == []

        assert interest.written(A, first) == [
            TellInterest(A, first + 1, (EPOCH,), (STEP, LOSS), full=False)
        ]

    def test_only_the_last_word_can_be_confirmed(self) -> None:
        """
        A stranger's word, one said twice and one of a generation that was not told change nothing.
        """
        interest = settled(A)
        number = generation_of(interest.subscribed(LOSS))
        interest.subscribed(STEP)

        assert interest.written(B, number) == []
        assert interest.written(A, number - 1) == []
        assert interest.written(A, number + 1) == []
        assert interest.written(A, 0) == []
        assert generation_of(interest.written(A, number)) == number + 1
        assert interest.written(A, number) == []

    def test_one_that_was_not_reached_is_told_everything(self) -> None:
        """
        Nothing is told in between; the word that failed is not taken for confirmed later on.
        """
        interest = settled(A)
        failed = generation_of(interest.subscribed(LOSS))
        assert interest.subscribed(STEP) == []

        assert interest.resend(A) == [TellInterest(A, failed + 1, (LOSS, STEP), (), full=True)]
        assert interest.written(A, failed) == []
        assert interest.resend(B) == []


class TestPieces:
    def test_a_word_fits_into_a_message(self) -> None:
        """
        The longest patterns there may be, each with what goes before it.
        """
        assert PIECE * (MAX_TOPIC + 2) < MAX_MESSAGE - 1000

    def test_a_list_that_has_only_begun_says_everything(self) -> None:
        """
        While pieces are on their way no pattern is missing; the last one leaves the list alone.
        """
        interest = Interest(piece=2)
        for name in "abcde":
            interest.subscribed(Topic(name))
        a, b, c, d, e = map(Topic, "abcde")

        assert interest.joined(A) == [TellInterest(A, 1, (EVERYTHING, a), (), full=True)]
        assert interest.written(A, 1) == [TellInterest(A, 2, (b, c), (), full=False)]
        assert interest.written(A, 2) == [TellInterest(A, 3, (d, e), (), full=False)]
        assert interest.written(A, 3) == [TellInterest(A, 4, (), (EVERYTHING,), full=False)]
        assert interest.written(A, 4) == []

    @pytest.mark.parametrize("is_first", [True, False])
    def test_everything_itself_may_be_on_the_list(self, *, is_first: bool) -> None:
        """
        Then it is not taken back, whenever it was subscribed to.
        """
        interest, wanted = Interest(piece=2), Wanted()
        patterns = [Topic(name) for name in "abcde"]
        for pattern in [EVERYTHING, *patterns] if is_first else patterns:
            interest.subscribed(pattern)
        actions = interest.joined(A)
        if not is_first:
            interest.subscribed(EVERYTHING)
        told = run_out(interest, actions, wanted)

        assert len(told) == 4 - is_first
        assert wanted.patterns == {EVERYTHING}
        run_out(interest, interest.unsubscribed(EVERYTHING), wanted)
        assert wanted.patterns == set(patterns)

    def test_thousands_go_in_few_words(self) -> None:
        """
        Ten thousand subscriptions in a row do not become ten thousand messages.
        """
        interest, wanted = settled(A), Wanted()
        wanted.told(1, (), (), full=True, now=0.0)
        actions = interest.subscribed(LOSS)
        for number in range(10_000):
            actions += interest.subscribed(Topic(f"t{number}"))

        told = run_out(interest, actions, wanted)
        assert len(told) == 4
        assert not any(word.removed for word in told)
        assert wanted.patterns == interest.wanted


def run_out(interest: Interest, actions: list[Action], wanted: Wanted) -> list[TellInterest]:
    """Let one peer confirm until it has nothing more to confirm; give what it was told."""
    told = []
    while actions:
        (action,) = actions
        assert isinstance(action, TellInterest)
        told.append(action)
        wanted.told(action.generation, action.added, action.removed, action.full, 0.0)
        actions = interest.written(action.peer, action.generation)
    return told


class TestEchoes:
    def test_nobody_filters_so_nobody_is_waited_for(self) -> None:
        """
        Without nodes, and where every node has written all, a mark is answered at once.
        """
        assert Interest().echo(MARK) == [AnswerEcho(MARK)]
        assert settled(A, B).echo(MARK) == [AnswerEcho(MARK)]

    def test_a_mark_waits_for_every_page(self) -> None:
        """
        It is answered when the last node has written what was wanted when it came.
        """
        interest = settled(A, B)
        interest.subscribed(LOSS)
        assert interest.echo(MARK) == []

        assert interest.written(B, 4) == []
        assert interest.written(A, 3) == [AnswerEcho(MARK)]

    def test_a_mark_waits_for_what_is_still_to_be_told(self) -> None:
        """
        The word that was on its way when it came did not hold what it waits for.
        """
        interest = settled(A)
        first = generation_of(interest.subscribed(LOSS))
        interest.subscribed(STEP)
        assert interest.echo(MARK) == []
        second = interest.written(A, first)
        interest.subscribed(EPOCH)  # later than the mark: it need not wait for this one

        third = interest.written(A, generation_of(second))
        assert AnswerEcho(MARK) in third
        assert interest.written(A, generation_of(third)) == []

    def test_a_mark_waits_for_the_last_piece(self) -> None:
        """
        A node that knows half of the list has not written what was wanted.
        """
        interest = Interest(piece=1)
        interest.subscribed(LOSS)
        interest.subscribed(STEP)
        interest.joined(A)
        assert interest.echo(MARK) == []

        for number in (1, 2, 3):
            assert generation_of(interest.written(A, number)) == number + 1
        assert interest.written(A, 4) == [AnswerEcho(MARK)]

    def test_one_that_left_is_not_waited_for(self) -> None:
        """
        Its workers are gone or about to ask anew.
        """
        interest = settled(A)
        interest.subscribed(LOSS)
        interest.echo(MARK)

        assert interest.left(A) == [AnswerEcho(MARK)]
        assert interest.left(A) == []

    def test_one_that_joined_later_is_not_waited_for(self) -> None:
        """
        It hears of the subscription before it lets anything through.
        """
        interest = settled(A)
        number = generation_of(interest.subscribed(LOSS))
        interest.echo(MARK)
        interest.joined(B)

        assert interest.written(A, number) == [AnswerEcho(MARK)]

    @pytest.mark.parametrize("key", [A, B])
    def test_one_that_only_reconnects_is_waited_for(self, key: bytes) -> None:
        """
        Its page still says what it said before, whatever its new key.
        """
        other = b"other"
        interest = settled(A, other)
        interest.subscribed(LOSS)
        interest.echo(MARK)
        again = interest.joined(key, before=A)
        assert again == [TellInterest(key, 5, (LOSS,), (), full=True)]

        assert interest.written(other, 4) == []
        assert interest.written(key, 5) == [AnswerEcho(MARK)]

    def test_a_mark_that_comes_again_waits_again(self) -> None:
        """
        Its subscriber has reconnected, perhaps with more subscriptions; it is answered once.
        """
        interest = settled(A)
        first = generation_of(interest.subscribed(LOSS))
        interest.echo(MARK)
        interest.subscribed(STEP)
        interest.echo(MARK)

        (second,) = interest.written(A, first)
        assert interest.written(A, generation_of([second])) == [AnswerEcho(MARK)]

    def test_a_mark_that_is_withdrawn_is_forgotten(self) -> None:
        """
        Nobody waits for it, so it is not sent.
        """
        interest = settled(A)
        number = generation_of(interest.subscribed(LOSS))
        interest.echo(MARK)
        interest.withdrawn(MARK)
        interest.withdrawn(MARK)

        assert interest.written(A, number) == []


PATTERNS = [EVERYTHING, *map(Topic, ["a", "b", "c.*", "d", "e", "f.*"])]


@dataclass
class Node:
    """A node: what it was told and has not read yet, and what its page says."""

    inbox: deque[TellInterest] = field(default_factory=deque)
    page: Wanted = field(default_factory=Wanted)
    has_failed: bool = False


class InterestMachine(RuleBasedStateMachine):
    """Nodes that read late, are not reached, come and go; and marks that must not be early."""

    def __init__(self) -> None:
        super().__init__()
        self.interest = Interest(piece=2)
        self.wanted: set[Topic] = set()
        self.nodes: dict[bytes, Node] = {}
        self.waiting: dict[bytes, set[Topic]] = {}
        """Of each mark: what was wanted when it came, and still is."""
        self.in_force: set[Topic] = set()
        self.number = 0
        self.now = 0.0

    def teardown(self) -> None:
        """Everybody reads on: then all is known, and every mark has been answered."""
        while any(node.inbox or node.has_failed for node in self.nodes.values()):
            for key, node in self.nodes.items():
                while node.inbox:
                    self.read(key)
                if node.has_failed:
                    self.reach_again(key)
        assert not self.waiting
        wanted = self.wanted
        for node in self.nodes.values():
            node.page.expire(self.now + LINGER_S)
            assert node.page.patterns == ({EVERYTHING} if EVERYTHING in wanted else wanted)

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, TellInterest):
                node = self.nodes[action.peer]
                assert not node.inbox, "one word at a time"
                named = action.added + action.removed
                assert len(set(named)) == len(named) <= 2
                node.inbox.append(action)
                continue
            assert action.mark in self.waiting, "answered twice, or never asked"
            self.in_force |= self.waiting.pop(action.mark)

    @rule(pattern=st.sampled_from(PATTERNS))
    def subscribe(self, pattern: Topic) -> None:
        self.wanted.add(pattern)
        self.carry_out(self.interest.subscribed(pattern))

    @rule(pattern=st.sampled_from(PATTERNS))
    def unsubscribe(self, pattern: Topic) -> None:
        self.wanted.discard(pattern)
        for patterns in (self.in_force, *self.waiting.values()):
            patterns.discard(pattern)
        self.carry_out(self.interest.unsubscribed(pattern))

    @rule()
    def ask_echo(self) -> None:
        self.number += 1
        mark = b"\xffecho:%d" % self.number
        self.waiting[mark] = set(self.wanted)
        self.carry_out(self.interest.echo(mark))

    @rule()
    def join(self) -> None:
        self.number += 1
        key = b"%d" % self.number
        self.nodes[key] = Node()
        self.carry_out(self.interest.joined(key))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        before = data.draw(st.sampled_from(sorted(self.nodes)))
        self.number += 1
        key = data.draw(st.sampled_from([before, b"%d" % self.number]))
        node = self.nodes[key] = self.nodes.pop(before)
        node.inbox.clear()
        node.has_failed = False
        node.page.hub_lost()
        self.carry_out(self.interest.joined(key, before))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[key]
        self.carry_out(self.interest.left(key))

    @precondition(lambda self: any(node.inbox for node in self.nodes.values()))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """Its queue was full: the word is gone, and nothing is told until it has room again."""
        keys = sorted(key for key, node in self.nodes.items() if node.inbox)
        node = self.nodes[data.draw(st.sampled_from(keys))]
        node.inbox.clear()
        node.has_failed = True

    @precondition(lambda self: any(node.has_failed for node in self.nodes.values()))
    @rule(data=st.data())
    def reach(self, data: st.DataObject) -> None:
        keys = sorted(key for key, node in self.nodes.items() if node.has_failed)
        self.reach_again(data.draw(st.sampled_from(keys)))

    @precondition(lambda self: any(node.inbox for node in self.nodes.values()))
    @rule(data=st.data(), lapse=st.sampled_from([0.0, 1.0, LINGER_S]))
    def hear(self, data: st.DataObject, lapse: float) -> None:
        self.now += lapse
        keys = sorted(key for key, node in self.nodes.items() if node.inbox)
        self.read(data.draw(st.sampled_from(keys)))

    def reach_again(self, key: bytes) -> None:
        self.nodes[key].has_failed = False
        self.carry_out(self.interest.resend(key))

    def read(self, key: bytes) -> None:
        node = self.nodes[key]
        word = node.inbox.popleft()
        node.page.expire(self.now)
        before = node.page.patterns
        changed = node.page.told(word.generation, word.added, word.removed, word.full, self.now)
        assert changed or node.page.patterns == before
        self.carry_out(self.interest.written(key, node.page.generation))

    @invariant()
    def what_was_called_in_force_is_on_every_page(self) -> None:
        assert self.interest.wanted == self.wanted
        for node in self.nodes.values():
            page = node.page.patterns
            assert EVERYTHING in page or not self.in_force - page


TestInterestMachine = InterestMachine.TestCase
