import asyncio
import select
from collections.abc import AsyncIterator

import pytest

from protocol.calls import WINDOW
from protocol.codec import MAX_MESSAGE
from protocol.errors import RemoteError, SpiralHostError
from protocol.line import Line
from protocol.listen import read
from protocol.running import Target, is_cancelled, run
from protocol.turn import CURRENT, NOBODY
from tests.unit.protocol.lines_parts import Callee, Counter, Dynamic, Peer, Wire


class Unreadable(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError


class Math:
    """A service whose methods do whatever methods may do."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.gate = asyncio.Event()

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    def fail(self) -> None:
        raise ValueError("no \udcff" * 9999)

    def leave(self) -> None:
        raise SystemExit(1)

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def unreadable(self) -> None:
        raise Unreadable

    def large(self) -> list[int]:
        return [1] * (MAX_MESSAGE + 1)

    def odd(self) -> object:
        return {1, 2}

    def hidden(self) -> object:
        return asyncio.sleep(0)

    async def wait(self) -> str:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.seen.append(is_cancelled())
            raise
        finally:
            self.seen.append("finally")
        return "done"

    async def rows(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.seen.append("closed")

    async def odd_later(self) -> object:
        return {1}

    async def who(self) -> object:
        await asyncio.sleep(0)
        return CURRENT.get().chain


@pytest.fixture
def math(callee: Callee) -> Math:
    math = Math()
    callee.servant.offer("math", math)
    return math


@pytest.fixture
def peer(callee: Callee, math: Math) -> Dynamic:
    peer = callee.peer()
    yield peer
    peer.lane.close()


class Divider:
    def divide(self, number: int) -> float:
        return number / 0


class TestOutcome:
    def test_a_value_is_said_and_counted(self, callee: Callee, peer: Peer) -> None:
        """
        Arguments reach the method, by place and by name.
        """
        peer.say(5, "math", "add", [2], {"b": 3}, 1e12, None)
        peer.call(6, "add", 2)

        assert callee.answers(peer) == [(5, 5), (6, 3)]
        assert (callee.counter.calls, callee.counter.errors) == (2, 0)

    def test_an_error_shows_no_frame_of_ours(self, callee: Callee, peer: Peer) -> None:
        """
        Compiled or not: it is the plugin's own code that its author looks for.
        """
        callee.servant.offer("calc", Divider())
        peer.say(5, "calc", "divide", [1], None, 1e12, None)
        callee.turn()

        said = str(peer.hear())
        assert "ZeroDivisionError" in said
        assert "in divide" in said
        assert "running" not in said.replace("test_running", "")

    def test_it_is_counted_before_it_is_said(
        self, callee: Callee, peer: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Who has its answer and asks for the figures finds the call among them; till then it runs.
        """
        counter, said = callee.counter, list[bool]()

        def look(slot: int) -> None:
            said.append(bool(select.select([peer.lane.fd], [], [], 0)[0]))

        monkeypatch.setattr(counter, "succeeded", lambda: look(0))
        monkeypatch.setattr(counter, "leave", look)
        peer.call(5, "add", 1)

        assert callee.answers(peer) == [(5, 2)]
        assert said == [False, True]

    @pytest.mark.parametrize(
        ("method", "type_name"),
        [
            ("fail", "ValueError"),
            ("leave", "SystemExit"),
            ("interrupt", "KeyboardInterrupt"),
            ("unreadable", "Unreadable"),
            ("large", "LocalProtocolError"),
            ("odd", "LocalProtocolError"),
            ("odd_later", "LocalProtocolError"),
            ("hidden", "TypeError"),
            ("add", "TypeError"),
        ],
    )
    def test_whatever_a_plugin_raises_goes_to_its_caller(
        self, callee: Callee, peer: Peer, method: str, type_name: str
    ) -> None:
        """
        Nothing that a method does, not even leaving, ends the one that serves it.
        """
        peer.call(5, method)
        ((_, error),) = callee.answers(peer)

        assert isinstance(error, RemoteError)
        assert (error.type_name, error.call) == (type_name, f"math.{method}")
        assert (callee.counter.calls, callee.counter.errors) == (0, 1)
        peer.call(6, "add", 1)
        assert callee.answers(peer) == [(6, 2)]

    def test_a_result_that_cannot_travel_is_explained(self, callee: Callee, peer: Peer) -> None:
        """
        The author is told where in it the trouble is.
        """
        peer.call(5, "odd")
        ((_, error),) = callee.answers(peer)

        assert "a set; send a sorted list" in str(error)

    def test_nothing_is_left_of_it(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        However a call ended, no trace of it stays, in the line nor in the thread.
        """
        math.gate.set()
        for number, method in enumerate(("fail", "odd", "wait", "odd_later", "hidden")):
            peer.call(number, method)
        callee.turn()
        callee.turn()

        (line,) = callee.server._lines
        assert not line.running
        assert not callee.counter.running
        assert CURRENT.get() is NOBODY
        assert len(peer.outcomes()) == 5

    def test_arguments_are_let_go_before_the_answer(self, wire: Wire) -> None:
        """
        What came by shared memory goes back with the answer.
        """
        call = [5, "math", "add", [object()], {"b": object()}, 1e12, None]
        run(wire.line, call, Target("math.add", lambda *_, **__: None, Counter()), 0.0)

        assert call[3] == []
        assert not call[4]


class TestCancel:
    def test_who_looks_sees_that_nobody_waits(self, callee: Callee, peer: Peer) -> None:
        """
        A cancel, the caller's end and the deadline all say the same; who was told so says nothing.
        """
        seen: list[bool] = []

        class Looker:
            def look(self, how: str) -> str:
                seen.append(is_cancelled())
                if how == "cancel":
                    peer.say(5, 4)
                elif how == "deadline":
                    callee.clock.now += 100
                elif how == "leave":
                    peer.lane.close()
                seen.append(is_cancelled())
                return "half a result"

        callee.servant.offer("looker", Looker())
        for how in ("nothing", "cancel", "deadline", "leave"):
            peer.call(5, "look", how, service="looker", deadline=callee.clock.now + 50)
            callee.turn()
            if how == "nothing":
                assert peer.outcomes() == [(5, "half a result")]
            elif how != "leave":
                assert peer.hear_all() == []

        assert seen == [False, False, False, True, False, True, False, True]

    def test_outside_a_call_nothing_is_cancelled(self) -> None:
        """
        Who serves nobody may ask too.
        """
        assert not is_cancelled()

    def test_what_a_cancelled_call_raises_is_not_said(self, callee: Callee, peer: Peer) -> None:
        """
        Nor counted: its caller has its outcome already.
        """

        class Raiser:
            def work(self) -> None:
                peer.say(5, 4)
                assert is_cancelled()
                raise ValueError

        callee.servant.offer("raiser", Raiser())
        peer.call(5, "work", service="raiser")

        assert callee.answers(peer) == []
        assert callee.counter.errors == 0


class TestTask:
    def test_others_are_served_meanwhile(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        An `async def` that waits holds up nobody.
        """
        peer.call(5, "wait")
        callee.turn()
        peer.call(6, "add", 1)
        assert callee.answers(peer) == [(6, 2)]
        assert callee.counter.awaiting == {0}
        math.gate.set()

        assert callee.answers(peer) == [(5, "done")]

    def test_it_knows_its_call(self, callee: Callee, peer: Peer) -> None:
        """
        Between its steps other calls are served, and each task has its own chain.
        """
        for number in (5, 6):
            peer.call(number, "who", chain=[[9, number, "x"]])

        assert callee.answers(peer) == [(n, [[9, n, "x"], [1, n, "app"]]) for n in (5, 6)]

    @pytest.mark.parametrize("how", ["cancel", "leave"])
    def test_a_cancel_ends_it(self, callee: Callee, math: Math, peer: Peer, how: str) -> None:
        """
        It has CancelledError raised in it and runs its `finally`; nothing is said.
        """
        peer.call(5, "wait")
        callee.turn()
        if how == "cancel":
            peer.say(5, 4)
        else:
            peer.lane.close()
        callee.turn()

        assert math.seen == [True, "finally"]
        assert callee.counter.errors == 0
        if how == "cancel":
            assert callee.answers(peer) == []

    def test_the_deadline_ends_it(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        Nobody waits any longer, so it does not go on.
        """
        peer.call(5, "wait", deadline=callee.clock.now + 1e-3)
        callee.turn()
        assert callee.reactor.loop is not None
        while not math.seen:
            callee.turn()

        assert math.seen == [True, "finally"]
        assert callee.answers(peer) == []

    def test_without_a_loop_it_is_refused(self, wire: Wire) -> None:
        """
        A coroutine where nobody can run it is an error of the one that offered it.
        """
        wire.peer.call(5, "x")

        def serve(line: Line, call: Dynamic) -> None:
            run(line, call, Target("math.wait", lambda: asyncio.sleep(0), Counter()), 0.0)

        wire.line.serve = serve
        read(wire.line, wire.clock.now + 1, NOBODY)
        ((_, error),) = wire.peer.outcomes()

        assert isinstance(error, SpiralHostError)
        assert "asynchronous" in str(error)


class TestAsyncStream:
    def test_items_come_as_credit_allows(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        A reader that gives no credit stops the writer; one that does lets it go on.
        """
        peer.call(5, "rows", WINDOW + 10)
        callee.turn()
        callee.turn()
        begin, *items = peer.hear_all()
        assert begin == [5, 2]
        assert items == [[5, 3, n] for n in range(WINDOW)]
        peer.say(5, 5, 4)
        for _ in range(3):
            callee.turn()
        assert peer.hear_all() == [[5, 3, WINDOW + n] for n in range(4)]
        peer.say(5, 5, 1 << 60)
        for _ in range(3):
            callee.turn()

        assert peer.hear_all() == [[5, 3, WINDOW + n] for n in range(4, 10)] + [[5, 0, None]]
        assert math.seen == ["closed"]

    def test_an_abandoned_one_is_closed(self, callee: Callee, math: Math, peer: Peer) -> None:
        """
        Its `finally` runs, at once.
        """
        peer.call(5, "rows", 1000)
        callee.turn()
        peer.say(5, 4)
        callee.turn()

        assert math.seen == ["closed"]
        assert [5, 0, None] not in peer.hear_all()
