import asyncio
import gc
import os
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from protocol.aio import AsyncStream
from protocol.calls import CREDITS, WINDOW
from protocol.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    RemoteError,
    ServiceUnavailable,
    UsageError,
    WorkerLost,
)
from protocol.reactor import Reactor
from protocol.stub import Options
from protocol.turn import TURN
from tests.clock import Clock
from tests.only_plain import only_plain
from tests.unit.protocol.lines_parts import Dynamic, Gives, Scripted, Wire

PATIENCE_S = 20
"""How long a test waits for what must happen, seconds."""


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run a test in an event loop."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await work()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> Dynamic:
    """Let the loop go round until something is so."""
    late = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < late
        await asyncio.sleep(0)
    return found


async def heard(wire: Wire) -> Dynamic:
    """Wait for the next frame's parts."""
    return await until(wire.peer.hear)


def stop_time(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the loop that runs go by the clock of the calls; only the test moves it from now on."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", wire.clock.monotonic)
    return wire.clock


@pytest.fixture
def wire(scripted: Scripted) -> Wire:
    return scripted.wire()


@pytest.fixture
def math(scripted: Scripted, wire: Wire) -> Dynamic:
    """A stub whose calls from coroutines go on `wire`."""
    own = Wire(scripted.clock, scripted)  # the thread's own, which no coroutine uses
    scripted.wires.appendleft(own)
    scripted.made.append(own)
    return scripted.stub()


class TestCall:
    def test_a_value_is_awaited(self, math: Dynamic, wire: Wire) -> None:
        """
        Several calls share the loop's line, and each has its own answer.
        """

        async def work() -> None:
            tasks = [asyncio.ensure_future(_get(math.aio.add(n))) for n in range(3)]
            calls = [await heard(wire) for _ in tasks]
            for call in reversed(calls):
                wire.peer.say(call[0], 0, call[3][0] * 10)
            assert await asyncio.gather(*tasks) == [0, 10, 20]
            assert not wire.line.pending

        run(work)

    @pytest.mark.parametrize("builtin", ["OSError", "TimeoutError", "EOFError", "ValueError"])
    def test_an_error_is_raised(self, math: Dynamic, wire: Wire, builtin: str) -> None:
        """
        A plugin's error is the plugin's, whatever it is: the line goes on.
        """

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            number = (await heard(wire))[0]
            wire.peer.fail(number, RemoteError("math.add", builtin, "no", "", builtin))
            with pytest.raises(RemoteError):
                await task
            assert not wire.line.is_lost
            assert wire.peer.hear_all() == []

        run(work)

    @pytest.mark.usefixtures("math")
    def test_what_a_results_constructor_raises_is_its_own(
        self, scripted: Scripted, wire: Wire
    ) -> None:
        """
        The line goes on, and so do the calls of others.
        """
        stub = scripted.stub(Options(kind=Gives))

        async def work() -> None:
            gives, adds = asyncio.create_task(stub.aio.give()), asyncio.create_task(stub.aio.add())
            for value in ({"value": -1}, 3):
                wire.peer.say((await heard(wire))[0], 0, value)
            assert await adds == 3
            with pytest.raises(ArithmeticError, match="negative"):
                await gives

        run(work)

    def test_nothing_is_begun_before_it_is_awaited(self, math: Dynamic, wire: Wire) -> None:
        """
        A call that nobody awaits is none.
        """
        math.aio.add(1)
        gc.collect()

        assert wire.peer.hear_all() == []

    def test_a_task_is_made_of_it_as_of_any_coroutine(self, math: Dynamic, wire: Wire) -> None:
        """
        Its value, its error and its end are the call's.
        """

        async def work() -> None:
            call = math.aio.add(7)
            assert repr(call) == "<call of math.add>"
            async with asyncio.TaskGroup() as group:
                value = group.create_task(call)
                wire.peer.say((await heard(wire))[0], 0, "seven")
            assert value.result() == "seven"
            task = asyncio.create_task(math.aio.add())
            number = (await heard(wire))[0]
            wire.peer.fail(number, RemoteError("math.add", "ValueError", "no", "", "ValueError"))
            with pytest.raises(RemoteError):
                await task
            task = asyncio.create_task(math.aio.add())
            number = (await heard(wire))[0]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await heard(wire) == [number, 4]

        run(work)

    def test_a_task_that_is_cancelled_at_once_calls_nobody(self, math: Dynamic, wire: Wire) -> None:
        """
        It has not taken its first step.
        """

        async def work() -> None:
            task = asyncio.create_task(math.aio.add())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            math.aio.add().close()
            await asyncio.sleep(0)
            assert wire.peer.hear_all() == []

        run(work)

    def test_cancelling_the_coroutine_cancels_the_call(self, math: Dynamic, wire: Wire) -> None:
        """
        The callee is told once, and a late answer is not heard.
        """

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            number = (await heard(wire))[0]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await heard(wire) == [number, 4]
            wire.peer.say(number, 0, "late")
            other = asyncio.ensure_future(_get(math.aio.add()))
            wire.peer.say((await heard(wire))[0], 0, "in time")
            assert await other == "in time"

        run(work)

    def test_time_runs_out(
        self, math: Dynamic, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The deadline ends the call, and the callee is told.
        """

        async def work() -> None:
            clock = stop_time(wire, monkeypatch)
            task = asyncio.ensure_future(_get(math.aio.add(timeout=1)))
            number = (await heard(wire))[0]
            clock.now += 1
            await until(task.done)
            with pytest.raises(DeadlineExceeded, match=r"math\.add"):
                await task
            assert await heard(wire) == [number, 4]

        run(work)

    def test_each_call_has_its_own_time(
        self, math: Dynamic, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        One that has less time than those before it is given up first, and they later.
        """

        async def work() -> None:
            order: list[float] = []

            async def give_up(time_s: float) -> None:
                with pytest.raises(DeadlineExceeded):
                    await math.aio.add(timeout=time_s)
                order.append(time_s)

            clock = stop_time(wire, monkeypatch)
            patient = asyncio.ensure_future(_get(math.aio.add(timeout=4)))
            number = (await heard(wire))[0]
            others = [asyncio.ensure_future(give_up(time_s)) for time_s in (3, 1, 2)]
            for _ in others:
                await heard(wire)
            for given_up in ([1], [1, 2], [1, 2, 3]):
                clock.now += 1
                await until(lambda: len(order) >= len(given_up))  # noqa: B023 - asked at once
                assert order == given_up
            wire.peer.say(number, 0, "at last")
            assert await patient == "at last"
            await asyncio.gather(*others)

        run(work)

    @only_plain
    def test_calls_of_one_turn_of_the_loop_leave_together(
        self, math: Dynamic, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The first leaves at once, and the others before the loop has turned once more.
        """
        writes: list[int] = []
        real = os.write

        def write(fd: int, frames: bytes) -> int:
            writes.append(fd)
            return real(fd, frames)

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            wire.peer.say((await heard(wire))[0], 0, None)
            await task
            monkeypatch.setattr(os, "write", write)
            tasks = [asyncio.ensure_future(_get(math.aio.add(n))) for n in range(10)]
            await asyncio.sleep(0)
            assert writes == [wire.line.lane.fd]
            await asyncio.sleep(0)
            assert writes == [wire.line.lane.fd] * 2
            calls = wire.peer.hear_all()
            assert [call[3] for call in calls] == [[n] for n in range(10)]
            for call in calls:
                wire.peer.say(call[0], 0, None)
            await asyncio.gather(*tasks)

        run(work)

    def test_they_leave_before_a_handler_of_the_thread_runs(
        self, math: Dynamic, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Its reactor knows what is unsent, for as long as it is.
        """
        reactor = Reactor()
        monkeypatch.setattr(TURN, "reactor", reactor)

        async def work() -> None:
            tasks = [asyncio.ensure_future(_get(math.aio.add(n))) for n in range(3)]
            await until(lambda: reactor.unsent)
            (send,) = reactor.unsent.values()
            send()
            calls = wire.peer.hear_all()
            assert (len(calls), reactor.unsent) == (3, {})
            for call in calls:
                wire.peer.say(call[0], 0, None)
            await asyncio.gather(*tasks)

        run(work)
        reactor.close()

    def test_calls_that_could_not_leave_are_made_again(
        self, scripted: Scripted, math: Dynamic, wire: Wire
    ) -> None:
        """
        When the callee is gone, the one that had left is lost, and those behind it never ran.
        """
        successor = scripted.wire()

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            wire.peer.say((await heard(wire))[0], 0, None)
            await task
            tasks = [asyncio.ensure_future(_get(math.aio.add(n))) for n in range(3)]
            asyncio.get_running_loop().call_soon(wire.peer.lane.close)  # behind the first turn
            calls = [await heard(successor) for _ in range(2)]
            assert [call[3] for call in calls] == [[1], [2]]
            for call in calls:
                successor.peer.say(call[0], 0, "again")
            with pytest.raises(WorkerLost):
                await tasks[0]
            assert await asyncio.gather(*tasks[1:]) == ["again"] * 2

        run(work)

    def test_many_calls_that_could_not_leave_are_made_again(
        self, scripted: Scripted, math: Dynamic, wire: Wire
    ) -> None:
        """
        Also those that one of them would have had leave before the loop's next turn.
        """
        successor = scripted.wire()
        large = bytes(15_000)
        count = 64 * 1024 // len(large) + 2

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            wire.peer.say((await heard(wire))[0], 0, None)
            await task
            lost = asyncio.ensure_future(_get(math.aio.add()))
            asyncio.get_running_loop().call_soon(wire.peer.lane.close)  # behind the first
            tasks = [asyncio.ensure_future(_get(math.aio.add(large))) for _ in range(count)]
            for _ in tasks:
                successor.peer.say((await heard(successor))[0], 0, "again")
            with pytest.raises(WorkerLost):
                await lost
            assert await asyncio.gather(*tasks) == ["again"] * count

        run(work)

    def test_a_death_is_told_to_each_with_its_cause(self, math: Dynamic, wire: Wire) -> None:
        """
        Those under way are lost and not made again; the node is waited for until the first
        deadline.
        """

        async def work() -> None:
            adds = [math.aio.add(timeout=timeout) for timeout in (4.0, 2.0, 3.0)]
            tasks = [asyncio.ensure_future(_get(add)) for add in adds]
            for _ in tasks:
                await heard(wire)
            wire.peer.lane.close()
            for task in tasks:
                with pytest.raises(WorkerLost, match="2 died"):
                    await task
            assert wire.home.mourned == [(2, wire.clock.now + 2.0)]

        run(work)

    def test_nonsense_ends_the_line(self, math: Dynamic, wire: Wire) -> None:
        """
        And with it whatever waits on it; the loop goes on.
        """

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            await heard(wire)
            wire.peer.lane.send(b"\xc1")
            with pytest.raises(WorkerLost):
                await task
            assert wire.peer.is_left

        run(work)

    def test_a_successor_is_called(self, scripted: Scripted, math: Dynamic, wire: Wire) -> None:
        """
        A callee that was gone before the call left is replaced, unnoticed.
        """
        second = scripted.wire()

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            wire.peer.say((await heard(wire))[0], 0, 1)
            assert await task == 1
            wire.peer.lane.close()
            task = asyncio.ensure_future(_get(math.aio.add()))
            second.peer.say((await heard(second))[0], 0, 2)
            assert await task == 2

        run(work)

    def test_an_idempotent_call_is_made_again(
        self, scripted: Scripted, math: Dynamic, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        When it was lost, at most twice.
        """
        monkeypatch.setattr(random, "random", lambda: 0.0)
        scripted.idempotent = {("math", "add")}
        wires = [wire, scripted.wire(), scripted.wire(), scripted.wire()]

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add()))
            for one in wires[:3]:
                await heard(one)
                one.peer.lane.close()
            with pytest.raises(WorkerLost):
                await task
            assert wires[3].peer.hear_all() == []

        run(work)

    def test_nobody_offers_it(self, scripted: Scripted, math: Dynamic, wire: Wire) -> None:
        """
        The refusal is raised, to each that waits for it.
        """
        scripted.wires.clear()

        async def work() -> None:
            calls = (_get(math.aio.add()) for _ in range(2))
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, ServiceUnavailable)

        run(work)

    def test_a_line_that_could_just_not_be_opened_is_asked_for_again(
        self, scripted: Scripted, math: Dynamic, wire: Wire
    ) -> None:
        """
        Who comes before the loop has turned finds the failed attempt, and does not wait for it.
        """

        async def come_just_then() -> None:
            lines = scripted.caller.aio._mine()
            await until(lambda: any(task.done() for task in lines._opening.values()))
            await math.aio.add()

        async def work() -> None:
            first = asyncio.create_task(math.aio.add())
            second = asyncio.create_task(come_just_then())
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ServiceUnavailable] * 2

        scripted.wires.clear()
        run(work)

    def test_calls_under_way_are_bounded(self, math: Dynamic, wire: Wire) -> None:
        """
        The others wait for an answer to one of them.
        """

        async def work() -> None:
            tasks = [asyncio.ensure_future(_get(math.aio.add())) for _ in range(CREDITS + 1)]
            calls = [await heard(wire) for _ in range(CREDITS)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert wire.peer.hear() is None
            wire.peer.say(calls[0][0], 0, None)
            await heard(wire)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        run(work)

    def test_what_cannot_travel_is_not_sent(self, math: Dynamic, wire: Wire) -> None:
        """
        As for any call, with the place.
        """

        async def work() -> None:
            with pytest.raises(LocalProtocolError, match=r"arguments\[0\]: a set"):
                await math.aio.add({1})
            assert wire.peer.hear_all() == []

        run(work)

    def test_a_large_call_leaves_while_the_loop_goes_on(self, math: Dynamic, wire: Wire) -> None:
        """
        A callee that reads slowly does not hold up the loop.
        """

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add(bytes(900_000))))
            call = await heard(wire)
            assert call[3] == [bytes(900_000)]
            wire.peer.say(call[0], 0, 1)
            assert await task == 1

        run(work)

    def test_functions_may_be_async_def(self, math: Dynamic, wire: Wire) -> None:
        """
        The loop can run them; they hold as long as the call.
        """

        async def function(number: int) -> int:
            await asyncio.sleep(0)
            return number + 1

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.add(function)))
            frame = await until(wire.peer.lane.receive)
            assert frame
            (number,) = wire.line.functions
            wire.peer.call(77, number, 5, service="")
            assert await heard(wire) == [77, 0, 6]
            wire.peer.say(next(iter(wire.line.pending)), 0, None)
            await task
            assert not wire.line.functions

        run(work)


class TestStream:
    def test_items_are_iterated_over(self, math: Dynamic, wire: Wire) -> None:
        """
        As they come; the writer has credit by halves.
        """

        async def work() -> None:
            taken: list[int] = []

            async def read() -> None:
                async for item in math.aio.rows():
                    taken.append(item)  # noqa: PERF401 - what was taken is looked at meanwhile

            task = asyncio.ensure_future(read())
            number = (await heard(wire))[0]
            wire.peer.say(number, 2)
            for item in range(WINDOW // 2):
                wire.peer.say(number, 3, item)
            assert await heard(wire) == [number, 5, WINDOW // 2]
            wire.peer.say(number, 3, "last")
            wire.peer.say(number, 0, None)
            await task
            assert taken == [*range(WINDOW // 2), "last"]

        run(work)

    @pytest.mark.parametrize("how", ["break", "aclose", "drop", "deadline"])
    def test_one_that_is_abandoned_is_cancelled(
        self, math: Dynamic, wire: Wire, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """
        However it is let go, the callee is told and closes its generator.
        """

        async def work() -> None:
            clock = stop_time(wire, monkeypatch)
            task = asyncio.ensure_future(_get(math.aio.rows(timeout=1)))
            number = (await heard(wire))[0]
            wire.peer.say(number, 2)
            stream = await task
            assert isinstance(stream, AsyncStream)
            del task
            if how == "aclose":
                await stream.aclose()
                await stream.aclose()
            elif how == "deadline":
                clock.now += 1
                with pytest.raises(DeadlineExceeded):
                    await anext(stream)
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
            elif how == "break":
                wire.peer.say(number, 3, 1)
                async for _ in stream:
                    break
            del stream
            gc.collect()
            assert await heard(wire) == [number, 4]
            assert wire.peer.hear_all() == []

        run(work)

    def test_its_error_comes_after_its_items(self, math: Dynamic, wire: Wire) -> None:
        """
        And so does its callee's death.
        """

        async def work() -> None:
            for how in ("error", "death"):
                task = asyncio.ensure_future(_get(math.aio.rows()))
                number = (await heard(wire))[0]
                wire.peer.say(number, 2)
                wire.peer.say(number, 3, 1)
                if how == "error":
                    wire.peer.fail(number, RemoteError("math.rows", "OSError", "no", "", "OSError"))
                else:
                    wire.peer.lane.close()
                stream = await task
                assert await anext(stream) == 1
                with pytest.raises(RemoteError if how == "error" else WorkerLost):
                    await anext(stream)

        run(work)

    def test_a_writer_that_sends_too_much_loses_its_lane(self, math: Dynamic, wire: Wire) -> None:
        """
        What waits for a slow reader is bounded by the reader.
        """

        async def work() -> None:
            task = asyncio.ensure_future(_get(math.aio.rows()))
            number = (await heard(wire))[0]
            wire.peer.say(number, 2)
            for item in range(WINDOW + 1):
                wire.peer.say(number, 3, item)
            stream = await task
            await until(lambda: wire.line.is_lost)
            with pytest.raises(WorkerLost):
                async for _ in stream:
                    pass

        run(work)

    def test_a_value_is_no_stream(self, math: Dynamic, wire: Wire) -> None:
        """
        Who iterates over a plain method's call is told to await it.
        """

        async def work() -> None:
            async def read() -> None:
                async for _ in math.aio.add():
                    pass

            task = asyncio.ensure_future(read())
            wire.peer.say((await heard(wire))[0], 0, 1)
            with pytest.raises(UsageError, match="await it"):
                await task

        run(work)


class TestLoops:
    def test_each_loop_has_a_line_of_its_own(
        self, scripted: Scripted, math: Dynamic, wire: Wire
    ) -> None:
        """
        A stub may be used by one loop after the other; the lines of a closed one are closed.
        """
        second = scripted.wire()

        def call(one: Wire) -> None:
            async def work() -> None:
                task = asyncio.ensure_future(_get(math.aio.add()))
                one.peer.say((await heard(one))[0], 0, 1)
                assert await task == 1

            run(work)

        call(wire)
        call(second)

        assert wire.peer.is_left
        assert not TURN.waiting


async def _get(call: Dynamic) -> Dynamic:
    return await call
