"""Random processes that call each other, against the true graph of who waits for whom.

Threads serve, call and hold as `protocol.turn` says: a thread that waits runs what its own call has
led to and holds the rest. Each endpoint tells its waits late and in order; the node hears the
endpoints in any order.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from plugin_worker.node.cycles import Cycles
from protocol.messages import Deadlock, Held, WaitOver

Vertex = tuple[int, int]
Graph = dict[Vertex, set[Vertex]]


@dataclass(eq=False)
class Call:
    caller: int
    number: int
    callee: "Thread"
    chain: "tuple[Call, ...]"
    is_answered: bool = False
    is_doomed: bool = False
    has_failed: bool = False

    @property
    def vertex(self) -> Vertex:
        return self.caller, self.number

    @property
    def is_waited_for(self) -> bool:
        return not (self.is_answered or self.has_failed)


@dataclass(eq=False)
class Thread:
    """One thread's stack: what it runs and waits for, the inmost last."""

    process: int
    runs: list[Call | None] = field(default_factory=list)
    waits: list[Call] = field(default_factory=list)
    """Never more than it runs; as many when it waits."""
    inbox: deque[Call] = field(default_factory=deque)
    held: deque[Call] = field(default_factory=deque)
    told: set[tuple[Vertex, Vertex]] = field(default_factory=set)

    @property
    def is_waiting(self) -> bool:
        return bool(self.waits) and len(self.waits) == len(self.runs)

    def poll(self) -> None:
        """Take in what has come, unless plugin code runs."""
        if not self.runs and self.held:
            self.runs.append(self.held.popleft())
        while self.inbox and (self.is_waiting or not self.runs):
            call = self.inbox.popleft()
            if self.runs and not any(link in self.waits for link in call.chain):
                self.held.append(call)
            else:
                self.runs.append(call)

    def edges(self) -> list[tuple[Call, Call]]:
        """Give each call that is owed an answer, with each that has to be answered before."""
        owed = [
            (call, wait)
            for depth, call in enumerate(self.runs)
            if call is not None
            for wait in self.waits[depth:]
        ]
        return owed + [(call, wait) for call in self.held for wait in self.waits]


class World:
    def __init__(self, seed: int, processes: int, threads: int, liar: int = 0) -> None:
        self.random = random.Random(seed)
        self.names = {number: f"p{number}" for number in range(1, processes + 1)}
        self.threads = [Thread(process) for process in self.names for _ in range(threads)]
        self.said: dict[int, deque[Held | WaitOver]] = {number: deque() for number in self.names}
        self.cycles = Cycles(lambda one, other: True, self.names.__getitem__)
        self.calls: list[Call] = []
        self.liar = liar
        self.standing: set[tuple[Vertex, Vertex]] = set()
        """Edges of honest endpoints that the node has heard and not heard to be over."""
        self.found: list[tuple[Call, Deadlock]] = []

    # --- what processes do ------------------------------------------------------------------------

    def act(self) -> None:
        thread = self.random.choice(self.threads)
        thread.poll()
        if thread.is_waiting:
            self.resume(thread)
        elif self.random.random() < 0.65 and len(thread.runs) < 4:
            self.call(thread)
        elif thread.runs:
            self.answer(thread)

    def call(self, thread: Thread) -> None:
        if not thread.runs:
            thread.runs.append(None)  # something of its own accord: an event, a timer
        running = thread.runs[-1]
        callee = self.random.choice([one for one in self.threads if one.process != thread.process])
        chain = (*running.chain, running) if running else ()
        call = Call(thread.process, len(self.calls) + 1, callee, chain)
        self.calls.append(call)
        thread.waits.append(call)
        callee.inbox.append(call)
        thread.poll()

    def answer(self, thread: Thread) -> None:
        done = thread.runs.pop()
        if done is not None:
            done.is_answered = True
        thread.poll()

    def resume(self, thread: Thread) -> None:
        wait = thread.waits[-1]
        if wait.is_waited_for:
            return
        thread.waits.pop()
        if any(edge[1] == wait.vertex for edge in thread.told):
            self.said[thread.process].append(WaitOver(wait.number))

    def tell(self, thread: Thread) -> None:
        for call, wait in thread.edges():
            if (call.vertex, wait.vertex) not in thread.told:
                thread.told.add((call.vertex, wait.vertex))
                self.said[thread.process].append(
                    Held(
                        waits=wait.number,
                        waits_for=wait.callee.process,
                        holds=call.number,
                        holds_of=call.caller,
                    )
                )

    def fail_doomed(self) -> None:
        for call in self.calls:
            call.has_failed = call.has_failed or call.is_doomed

    # --- the liar ---------------------------------------------------------------------------------

    def lie(self) -> None:
        """Say anything of anybody's calls; answer what is owed, whatever was said of it."""
        pick = self.random
        mine = [thread for thread in self.threads if thread.process == self.liar]
        for thread in mine:
            if pick.random() < 0.1:
                for call in (*thread.runs, *thread.held):
                    if call is not None:
                        call.is_answered = True
        if not self.calls:
            return
        own, other = pick.choice(self.calls), pick.choice(self.calls)
        callee = own.callee.process if pick.random() < 0.7 else pick.choice(list(self.names))
        said = Held(waits=own.number, waits_for=callee, holds=other.number, holds_of=other.caller)
        self.said[self.liar].append(said if pick.random() < 0.9 else WaitOver(own.number))

    # --- what the node hears ----------------------------------------------------------------------

    def deliver(self, process: int) -> None:
        message = self.said[process].popleft()
        if process != self.liar:
            self.stand(process, message)
        deadlock = self.cycles.told(process, message)
        if deadlock is None:
            return
        for call in self.calls:
            if call.vertex == (process, deadlock.number):
                self.found.append((call, deadlock))
                self.check(call, deadlock)
                call.is_doomed = True

    def stand(self, process: int, message: Held | WaitOver) -> None:
        wait = (process, message.waits)
        if isinstance(message, WaitOver):
            self.standing = {edge for edge in self.standing if edge[1] != wait}
        else:
            self.standing.add(((message.holds_of, message.holds), wait))

    def check(self, call: Call, deadlock: Deadlock) -> None:
        if not self.liar:
            assert is_in_circle(self.truth(), call.vertex)
        elif call.caller != self.liar:
            if f"p{self.liar}" in deadlock.circle.split(" -> "):
                assert is_in_circle(self.as_the_liar_likes(), call.vertex)
            else:
                assert is_in_circle(self.truth(), call.vertex)

    def truth(self) -> Graph:
        """Give who waits for whom; a call that is to fail is in no circle any more."""
        graph: Graph = {}
        for thread in self.threads:
            if thread.process != self.liar:
                for call, wait in thread.edges():
                    if wait.is_waited_for and not wait.is_doomed:
                        graph.setdefault(call.vertex, set()).add(wait.vertex)
        return graph

    def as_the_liar_likes(self) -> Graph:
        """Give what honest endpoints have told, and have the liar answer nothing it was asked."""
        graph: Graph = {}
        for call, wait in self.standing:
            graph.setdefault(call, set()).add(wait)
        asked = [call.vertex for call in self.calls if call.callee.process == self.liar]
        asking = {call.vertex for call in self.calls if call.caller == self.liar}
        return graph | dict.fromkeys(asked, asking)

    # --- the run ----------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        for _ in range(steps):
            what = self.random.random()
            if what < 0.6:
                self.act()
            elif what < 0.75:
                self.tell(self.random.choice(self.threads))
            elif what < 0.95:
                self.deliver_one()
            else:
                self.fail_doomed()
            if self.liar and self.random.random() < 0.3:
                self.lie()

    def deliver_one(self) -> bool:
        speaking = [process for process, said in self.said.items() if said]
        if speaking:
            self.deliver(self.random.choice(speaking))
        return bool(speaking)

    def hear_everything(self) -> None:
        for thread in self.threads:
            self.tell(thread)
        while self.deliver_one():
            pass


def is_in_circle(graph: Graph, start: Vertex) -> bool:
    seen: set[Vertex] = set()
    ahead = list(graph.get(start, ()))
    while ahead:
        vertex = ahead.pop()
        if vertex == start:
            return True
        if vertex not in seen:
            seen.add(vertex)
            ahead.extend(graph.get(vertex, ()))
    return False


class TestCyclesSimulation:
    @given(
        seed=st.integers(0, 1 << 32),
        processes=st.integers(2, 4),
        threads=st.integers(1, 2),
        rounds=st.integers(1, 3),
    )
    @settings(max_examples=300, deadline=None)
    def test_a_circle_is_found_if_there_is_one_and_only_then(
        self, seed: int, processes: int, threads: int, rounds: int
    ) -> None:
        """
        Whatever the order of messages: nobody is told of a circle that is not there in that very
        moment, and when everything has been heard none is left in which no call was told to fail.
        """
        world = World(seed, processes, threads)
        for _ in range(rounds):
            world.run(120)
            world.hear_everything()
            truth = world.truth()
            assert not [vertex for vertex in truth if is_in_circle(truth, vertex)]

    @given(seed=st.integers(0, 1 << 32), threads=st.integers(1, 2))
    @settings(max_examples=300, deadline=None)
    def test_a_liar_makes_no_call_between_others_fail(self, seed: int, threads: int) -> None:
        """
        An honest endpoint is told of a circle only if it is there, or if it goes through a call
        made to the liar and one made by the liar that honest endpoints vouch for. And circles of
        others are found beside all lies.
        """
        world = World(seed, 4, threads, liar=4)
        world.run(250)
        world.hear_everything()
        truth = world.truth()
        assert not [vertex for vertex in truth if is_in_circle(truth, vertex)]

    def test_the_simulation_does_make_circles(self) -> None:
        """
        What the others show is not shown on worlds in which nothing ever happens.
        """
        found: list[str] = []
        for seed in range(100):
            world = World(seed, 4, 2)
            world.run(250)
            world.hear_everything()
            found += (deadlock.circle for _, deadlock in world.found)
        assert len(found) > 50
        assert {circle.count("->") for circle in found} >= {2, 3, 4}
