import asyncio
import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from protocol.kernel import wait
from protocol.reactor import EVENTS, POLLIN, Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


class FakeZmq:
    """A ZeroMQ socket as the loop sees it: an edge, and an answer when asked."""

    def __init__(self, fd: int) -> None:
        self.FD: Any = fd
        self.events = 0

    def getsockopt(self, option: int) -> Any:  # noqa: ANN401 - as ZeroMQ's
        assert option == EVENTS
        return self.events


class TestDescriptors:
    def test_who_can_read_is_called(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A callback is called while there is something to read, and not otherwise.
        """
        one, other = pair
        seen: list[bytes] = []
        reactor.watch(one.fileno(), lambda: seen.append(one.recv(10)))
        reactor.turn(0)
        other.send(b"x")
        reactor.turn(0)
        reactor.turn(0)

        assert seen == [b"x"]

    def test_who_is_forgotten_is_not_called(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        Forgetting takes effect at once, for what was ready in the same turn too.
        """
        one, other = pair
        seen: list[str] = []

        def first() -> None:
            seen.append("one")
            reactor.forget(other.fileno())

        def second() -> None:
            seen.append("other")
            reactor.forget(one.fileno())

        reactor.watch(one.fileno(), first)
        reactor.watch(other.fileno(), second)
        one.send(b"x")
        other.send(b"x")
        reactor.turn(0)
        reactor.forget(one.fileno())
        reactor.forget(one.fileno())

        assert len(seen) == 1

    def test_room_to_write_is_told_until_it_is_forgotten(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A writer is called every turn; forgetting it leaves the reader.
        """
        one, other = pair
        seen: list[str] = []
        reactor.watch(one.fileno(), lambda: seen.append(one.recv(9).decode()))
        reactor.watch_writable(one.fileno(), lambda: seen.append("room"))
        reactor.turn(0)
        reactor.turn(0)
        reactor.forget_writable(one.fileno())
        reactor.forget_writable(one.fileno())
        other.send(b"read")
        reactor.turn(0)

        assert seen == ["room", "room", "read"]

    def test_a_writer_that_is_forgotten_leaves_nothing(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A descriptor that nobody watches any more wakes nobody when its other end leaves.
        """
        one, other = pair
        reactor.watch_writable(one.fileno(), lambda: None)
        reactor.forget_writable(one.fileno())
        other.close()

        assert wait(reactor._epoll, 0) == []
        reactor.watch_writable(one.fileno(), lambda: None)

    def test_the_end_of_the_other_side_is_something_to_read(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        Who waits for a peer is called when it leaves.
        """
        one, other = pair
        seen: list[bytes] = []
        reactor.watch(one.fileno(), lambda: seen.append(one.recv(1)))
        other.close()
        reactor.turn(0)

        assert seen == [b""]


class TestTimers:
    def test_what_is_due_is_called_in_order_and_once(self, reactor: Reactor) -> None:
        """
        Timers are called in the order of their moments, then of their making.
        """
        seen: list[int] = []
        for when, name in ((2.0, 3), (1.0, 1), (1.0, 2)):
            reactor.call_at(when, lambda name=name: seen.append(name))  # type: ignore[misc]
        reactor.turn()
        reactor.turn(0)

        assert seen == [1, 2, 3]

    def test_what_is_not_due_waits(self, reactor: Reactor) -> None:
        """
        A turn ends after the time it was given, whatever is due later.
        """
        seen: list[int] = []
        reactor.call_later(3600.0, lambda: seen.append(1))
        reactor.turn(0)

        assert seen == []

    def test_what_is_cancelled_is_not_called(self, reactor: Reactor) -> None:
        """
        Cancelling works before the moment, in the same turn and afterwards.
        """
        seen: list[str] = []
        later = reactor.call_at(2.0, lambda: seen.append("later"))
        reactor.call_at(1.0, later.cancel)
        gone = reactor.call_at(0.5, lambda: seen.append("gone"))
        gone.cancel()
        gone.cancel()
        reactor.turn(0)
        later.cancel()

        assert seen == []


class TestZmq:
    def test_a_socket_is_asked_before_the_loop_sleeps(self, reactor: Reactor) -> None:
        """
        What a callback left for later is taken up in the next turn, without any new edge.
        """
        fd = os.eventfd(0)
        zmq = FakeZmq(fd)
        seen: list[int] = []
        reactor.watch_zmq(zmq, lambda: seen.append(1))
        reactor.turn(0)
        zmq.events = POLLIN
        reactor.turn()
        reactor.turn()
        reactor.forget_zmq(zmq)
        reactor.turn(0)
        os.close(fd)

        assert seen == [1, 1]

    def test_sockets_are_read_in_the_order_in_which_they_are_watched(
        self, reactor: Reactor
    ) -> None:
        """
        Whatever their descriptors are, and whichever was ready first.
        """
        seen: list[int] = []
        sockets = [FakeZmq(os.eventfd(0)) for _ in range(40)]
        order = sockets[20:] + sockets[:20]
        for zmq in order:
            reactor.watch_zmq(zmq, partial(seen.append, zmq.FD))
            zmq.events = POLLIN
        reactor.turn(0)
        for zmq in sockets:
            reactor.forget_zmq(zmq)
            os.close(zmq.FD)

        assert seen == [zmq.FD for zmq in order]


class TestWaitFor:
    def test_others_are_served_meanwhile(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        Who waits for one descriptor has the others' callbacks called, and not its own.
        """
        one, other = pair
        seen: list[str] = []
        reactor.watch(one.fileno(), lambda: seen.append("one"))
        reactor.watch(other.fileno(), lambda: seen.append(other.recv(9).decode()))
        one.send(b"x")
        assert reactor.wait_for(one.fileno(), time.monotonic() + 60)
        other.send(b"y")
        assert reactor.wait_for(one.fileno(), time.monotonic() + 60)

        assert seen == ["x"]

    def test_what_must_not_wait_is_done_first(self, reactor: Reactor) -> None:
        """
        It is asked for each time; by who keeps what there is of it, only while there is some.
        """
        asked: list[str] = []

        def meanwhile() -> bool:
            asked.append("first")
            return True

        reactor.meanwhile = meanwhile
        assert reactor.wait_for(-1, time.monotonic())
        reactor.urgent = there = [1]
        assert reactor.wait_for(-1, time.monotonic())
        there.clear()
        assert not reactor.wait_for(-1, time.monotonic())

        assert asked == ["first"] * 2

    def test_time_is_up(self, reactor: Reactor) -> None:
        """
        A moment that is past is not waited for.
        """
        assert not reactor.wait_for(-1, time.monotonic())


class TestRun:
    def test_it_turns_until_all_is_over(self, reactor: Reactor) -> None:
        """
        `step` comes first, as long as it has more, and after what has nudged.
        """
        seen: list[str] = []
        answers: list[bool | None] = [True, False, None]

        def due() -> None:
            seen.append("timer")
            reactor.nudge()

        def step() -> bool | None:
            seen.append("step")
            if len(answers) == 2:
                reactor.call_at(0.0, due)
            return answers.pop(0)

        reactor.run(step)

        assert seen == ["step", "step", "timer", "step"]

    def test_it_goes_on_inside_asyncio(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        Once a loop is needed, descriptors, timers, nudges and tasks are all served in it.
        """
        one, other = pair
        seen: list[str] = []

        def readable() -> None:
            seen.append(one.recv(9).decode())
            reactor.call_later(0.001, late)
            reactor.nudge()

        def late() -> None:
            seen.append("timer")
            reactor.nudge()

        async def task() -> None:
            await asyncio.sleep(0)
            seen.append("task")
            reactor.nudge()

        def step() -> bool | None:
            if reactor.loop is None:
                reactor.needs_asyncio = True
                reactor.watch(one.fileno(), readable)
                other.send(b"read")
            elif "timer" in seen and not tasks:
                tasks.append(reactor.loop.create_task(task()))
            return None if "task" in seen else False

        tasks: list[object] = []
        reactor.run(step)

        assert seen == ["read", "timer", "task"]

    def test_what_a_callback_raises_ends_it_inside_asyncio_too(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        The loop does not go on without the callback, logging its error for ever.
        """
        one, other = pair

        def readable() -> None:
            raise EOFError

        reactor.watch(one.fileno(), readable)
        other.send(b"x")
        reactor.needs_asyncio = True
        with pytest.raises(EOFError):
            reactor.run(lambda: False)

    def test_what_tasks_have_gathered_leaves_before_anything_is_called_back(
        self, reactor: Reactor, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        """
        A callback may keep the thread, and what is unsent would wait for it.
        """
        one, other = pair
        seen: list[str] = []

        def readable() -> None:
            seen.append("read")
            reactor.nudge()

        def step() -> bool | None:
            if reactor.loop is None:
                reactor.needs_asyncio = True
                reactor.watch(one.fileno(), readable)
                reactor.unsent["tasks"] = lambda: seen.append("sent")
                other.send(b"x")
            return None if "read" in seen else False

        reactor.run(step)

        assert seen[:2] == ["sent", "read"]

    def test_who_waits_sends_what_was_gathered(self, reactor: Reactor) -> None:
        """
        Also when there is no time left to wait.
        """
        seen: list[str] = []
        reactor.unsent["answers"] = lambda: seen.append("sent")

        assert not reactor.wait_for(-1, 0.0)
        assert not reactor.wait_for(-1, 0.0)
        assert seen == ["sent"]

    def test_tasks_that_are_left_run_their_finally(self, reactor: Reactor) -> None:
        """
        When all is over, nothing is left hanging, and the loop is closed.
        """
        seen: list[str] = []

        async def task() -> None:
            seen.append("begun")
            reactor.nudge()
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("finally")

        tasks: list[object] = []

        def step() -> bool | None:
            reactor.needs_asyncio = True
            if reactor.loop is not None and not tasks:
                tasks.append(reactor.loop.create_task(task()))
            return None if seen else False

        reactor.run(step)

        assert seen == ["begun", "finally"]
        assert reactor.loop is not None
        assert reactor.loop.is_closed()
