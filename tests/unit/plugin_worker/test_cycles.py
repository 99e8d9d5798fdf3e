import pytest

from plugin_worker.node.cycles import MAX_NAMES, MAX_STEPS, MAX_TOLD, MAX_WAITS, Cycles
from protocol.messages import FROM_ENDPOINT, TO_ENDPOINT, Deadlock, Held, WaitOver

A, B, C, LIAR = 1, 2, 3, 9
NAMES = {A: "a", B: "b", C: "c", LIAR: "liar"}

Edge = tuple[int, Held]


def held(teller: int, *, waits: tuple[int, int], holds: tuple[int, int]) -> Edge:
    """`teller` waits for call (number, callee) and owes call (caller, number) an answer."""
    (number, callee), (caller, other) = waits, holds
    return teller, Held(waits=number, waits_for=callee, holds=other, holds_of=caller)


class Node:
    """The decider on a machine where everybody has a lane with everybody, except as said."""

    def __init__(self, *apart: frozenset[int]) -> None:
        self.cycles = Cycles(
            lambda one, other: frozenset((one, other)) not in apart,
            lambda incarnation: NAMES.get(incarnation, f"p{incarnation}"),
        )

    def tell(self, *edges: Edge) -> list[Deadlock | None]:
        return [self.cycles.told(teller, message) for teller, message in edges]

    def over(self, teller: int, number: int) -> None:
        assert self.cycles.told(teller, WaitOver(number)) is None


A_AND_B = (
    held(A, waits=(1, B), holds=(B, 7)),
    held(B, waits=(7, A), holds=(A, 1)),
)
"""a waits for b, and b for a, in calls that have nothing to do with each other."""


class TestCycles:
    def test_two_that_wait_for_each_other_are_found(self) -> None:
        """
        The one whose word closes the circle is told which call fails, and around whom it goes.
        """
        assert Node().tell(*A_AND_B) == [None, Deadlock(7, "b -> a -> b")]
        assert Node().tell(*A_AND_B[::-1]) == [None, Deadlock(1, "a -> b -> a")]

    def test_a_call_in_the_middle_of_another_is_part_of_the_circle(self) -> None:
        """
        a calls b, which calls c before it answers, and c calls a: nobody but c and a holds a call.
        """
        edges = (
            held(A, waits=(1, B), holds=(C, 30)),
            held(B, waits=(20, C), holds=(A, 1)),
            held(C, waits=(30, A), holds=(B, 20)),
        )
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            *before, last = Node().tell(*(edges[which] for which in order))
            assert before == [None, None]
            first = last.circle[0] if last else ""
            turned = {"a": "a -> b -> c -> a", "c": "c -> a -> b -> c"}
            assert last == Deadlock({"a": 1, "c": 30}[first], turned[first])

    def test_a_line_is_no_circle(self) -> None:
        """
        Who only waits behind others is told nothing.
        """
        node = Node()
        assert node.tell(
            held(B, waits=(20, C), holds=(A, 1)),
            held(A, waits=(1, B), holds=(LIAR, 5)),
            held(LIAR, waits=(5, A), holds=(B, 99)),
        ) == [None, None, None]

    def test_threads_of_one_process_are_told_apart(self) -> None:
        """
        b waits for a, whose other thread is free: calls wait for each other, not processes.
        """
        node = Node()
        first_thread = held(A, waits=(1, B), holds=(C, 30))
        second_thread = held(A, waits=(2, C), holds=(B, 7))
        assert node.tell(first_thread, held(B, waits=(7, A), holds=(A, 1)), second_thread) == [
            None,
            None,
            None,
        ]
        assert node.tell(held(C, waits=(30, A), holds=(A, 2))) == [
            Deadlock(30, "c -> a -> b -> a -> c")
        ]

    def test_a_wait_that_is_over_closes_no_circle(self) -> None:
        """
        What an endpoint has taken back counts no more; saying so twice is harmless.
        """
        node = Node()
        node.tell(A_AND_B[0])
        node.over(A, 1)
        node.over(A, 1)
        node.over(C, 1)
        assert node.tell(A_AND_B[1]) == [None]
        assert node.tell(A_AND_B[0]) == [Deadlock(1, "a -> b -> a")]

    def test_of_several_waits_one_being_over_leaves_the_others(self) -> None:
        """
        A thread that waits inside a wait still has the outer one when the inner is over.
        """
        node = Node()
        node.tell(A_AND_B[0], held(A, waits=(2, C), holds=(B, 7)))
        node.over(A, 2)
        assert node.tell(A_AND_B[1]) == [Deadlock(7, "b -> a -> b")]

    def test_one_call_of_a_circle_fails_and_no_other(self) -> None:
        """
        Until the doomed call has failed, what is told of it makes no second call fail.
        """
        node = Node()
        node.tell(*A_AND_B)
        again = held(A, waits=(1, B), holds=(B, 7))
        more = held(B, waits=(7, A), holds=(A, 2))
        other = held(A, waits=(2, B), holds=(B, 7))
        assert node.tell(again, more, other) == [None, None, None]

        node.over(B, 7)
        assert node.tell(more) == [Deadlock(7, "b -> a -> b")]

    def test_the_dead_are_forgotten(self) -> None:
        """
        What an endpoint told ends with it; its last calls close no circle for those who live.
        """
        node = Node()
        node.tell(A_AND_B[0])
        node.cycles.forget(A)
        node.cycles.forget(A)
        assert node.tell(A_AND_B[1]) == [None]

    def test_a_call_sent_again_to_a_successor_starts_afresh(self) -> None:
        """
        A call has one callee at a time: the last that its caller named.
        """
        node = Node()
        node.tell(held(A, waits=(1, C), holds=(B, 7)), A_AND_B[0])
        assert node.tell(A_AND_B[1]) == [Deadlock(7, "b -> a -> b")]

        node = Node()
        node.tell(A_AND_B[0], held(A, waits=(1, C), holds=(B, 7)))
        assert node.tell(A_AND_B[1]) == [None]

    def test_a_large_circle_is_told_in_a_few_words(self) -> None:
        """
        The text names the first and the last of a circle of many.
        """
        node = Node()
        size = 100
        edges = [
            held(
                10 + at,
                waits=(at, 10 + (at + 1) % size),
                holds=(10 + (at - 1) % size, (at - 1) % size),
            )
            for at in range(size)
        ]
        *_, last = node.tell(*edges)
        assert last is not None
        assert last.circle.count("->") == MAX_NAMES
        assert last.circle.startswith("p109 -> p10 -> p11 -> p12 -> ... -> ")
        assert last.circle.endswith(" -> p107 -> p108 -> p109")

    @pytest.mark.parametrize(
        "message", [Held(waits=1, waits_for=2, holds=3, holds_of=4), WaitOver(1)]
    )
    def test_its_messages_travel(self, message: Held | WaitOver) -> None:
        """
        What endpoints tell and what they are told arrives as it was sent.
        """
        assert FROM_ENDPOINT.decode(FROM_ENDPOINT.encode(message)) == message
        deadlock = Deadlock(7, "b -> a -> b")
        assert TO_ENDPOINT.decode(TO_ENDPOINT.encode(deadlock)) == deadlock


class TestLiars:
    """Each tries to have a call between honest endpoints fail that would be answered."""

    def test_a_call_made_to_another_is_not_the_liars_to_speak_of(self) -> None:
        """
        a waits for b, and the liar says that it owes this answer, and waits for a.
        """
        node = Node()
        assert node.tell(
            held(LIAR, waits=(5, A), holds=(A, 1)),
            held(A, waits=(1, B), holds=(LIAR, 5)),
        ) == [None, None]

    def test_another_endpoints_wait_is_not_the_liars_to_tell(self) -> None:
        """
        a circle that is one edge short is not closed by a liar that uses the others' numbers.
        """
        node = Node()
        node.tell(held(B, waits=(7, A), holds=(A, 1)))
        assert node.tell(held(LIAR, waits=(1, B), holds=(B, 7))) == [None]
        assert node.tell(held(C, waits=(30, A), holds=(B, 8))) == [None]

    def test_a_call_that_the_liar_never_made_is_nobodys_to_answer(self) -> None:
        """
        The liar owes a an answer and says that it waits for b, which knows nothing of it.
        """
        node = Node()
        assert node.tell(
            held(LIAR, waits=(5, B), holds=(A, 1)),
            held(A, waits=(1, LIAR), holds=(B, 7)),
            held(B, waits=(7, A), holds=(C, 30)),
        ) == [None, None, None]

    def test_a_liar_ends_nobodys_wait_but_its_own(self) -> None:
        """
        A circle of others is found, whatever the liar says is over.
        """
        node = Node()
        node.tell(A_AND_B[0])
        for number in range(10):
            node.over(LIAR, number)
        assert node.tell(A_AND_B[1]) == [Deadlock(7, "b -> a -> b")]

    def test_whoever_closes_a_circle_of_its_own_making_is_told(self) -> None:
        """
        A liar that makes up a circle of its own calls harms itself.
        """
        node = Node()
        assert node.tell(
            held(LIAR, waits=(5, LIAR), holds=(LIAR, 5)),
            held(LIAR, waits=(6, LIAR), holds=(LIAR, 5)),
        )[0] == Deadlock(5, "liar -> liar")

    def test_without_a_lane_nothing_is_believed(self) -> None:
        """
        Two that have no lane cannot have called each other.
        """
        node = Node(frozenset((A, B)))
        assert node.tell(*A_AND_B) == [None, None]
        assert Node(frozenset((A, C))).tell(*A_AND_B)[1] == Deadlock(7, "b -> a -> b")

    @pytest.mark.parametrize(
        "edge",
        [held(A, waits=(1, B), holds=(C, 30)), held(A, waits=(1, C), holds=(B, 7))],
        ids=["caller", "callee"],
    )
    def test_what_is_said_of_strangers_is_not_even_kept(self, edge: Edge) -> None:
        """
        Both whom an endpoint owes and whom it waits for have to be at the end of a lane of its own.
        """
        node = Node(frozenset((A, C)))
        node.tell(edge)
        assert node.cycles._endpoints == {}

    def test_what_one_endpoint_tells_is_bounded(self) -> None:
        """
        A flood is not kept, makes no endpoint but its own unheard, and is forgotten when over.
        """
        node = Node()
        for number in range(2 * MAX_TOLD):
            node.tell(held(LIAR, waits=(number, B), holds=(A, number)))
        kept = node.cycles._endpoints[LIAR]
        assert sum(1 + len(wait.owed) for wait in kept.waits.values()) <= MAX_TOLD
        assert node.tell(*A_AND_B)[1] is not None

        circle = (
            held(LIAR, waits=(MAX_TOLD, A), holds=(A, 50)),
            held(A, waits=(50, LIAR), holds=(LIAR, MAX_TOLD)),
        )
        assert node.tell(*circle) == [None, None]
        node.over(LIAR, 0)
        assert node.tell(circle[0]) == [Deadlock(MAX_TOLD, "liar -> a -> liar")]
        for number in range(2 * MAX_TOLD):
            node.over(LIAR, number)
        assert LIAR not in node.cycles._endpoints

    def test_doomed_calls_count_towards_the_bound(self) -> None:
        """
        A liar that never takes note of its failed calls is no longer heard, and nothing grows.
        """
        node = Node()
        for number in range(2 * MAX_TOLD):
            node.tell(held(LIAR, waits=(number, LIAR), holds=(LIAR, number)))
        assert len(node.cycles._endpoints[LIAR].waits) <= MAX_TOLD

    def test_one_call_waits_for_so_many_others(self) -> None:
        """
        No thread waits deeper than a chain of calls is long.
        """
        node = Node()
        for number in range(2 * MAX_WAITS):
            node.tell(held(LIAR, waits=(number, B), holds=(A, 1)))
        assert len(node.cycles._endpoints[LIAR].owed[A, 1]) == MAX_WAITS

    def test_a_search_is_bounded(self) -> None:
        """
        A circle through more calls than are looked at for one message is left to its deadlines.
        """
        for size, is_found in ((MAX_STEPS, True), (MAX_STEPS + 2, False)):
            node = Node()
            *_, last = node.tell(
                *(
                    held(
                        10 + at,
                        waits=(at, 10 + (at + 1) % size),
                        holds=(10 + (at - 1) % size, (at - 1) % size),
                    )
                    for at in range(size)
                )
            )
            assert (last is not None) is is_found
