import threading
from collections.abc import Iterator

import pytest

from plugin_worker.node.aside import Aside
from protocol.reactor import Reactor

DEADLINE = 20.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


class TestAside:
    def test_what_came_of_a_job_is_told_in_the_loop(self, reactor: Reactor) -> None:
        """
        The job runs in another thread, one after the other.
        """
        aside, told = Aside(reactor, "test"), list[tuple[int, int]]()
        for _ in range(3):
            aside.do(threading.get_ident, lambda by: told.append((by, threading.get_ident())))
        while len(told) < 3:
            reactor.turn(DEADLINE)
        aside.close(DEADLINE)
        (workers, listeners) = (set(column) for column in zip(*told, strict=True))
        assert listeners == {threading.get_ident()}
        assert len(workers) == 1
        assert workers != listeners

    def test_a_job_that_fails_ends_no_other(
        self, reactor: Reactor, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """
        It is said what it came to, and the next one is done.
        """
        aside, told = Aside(reactor, "test"), list[str]()
        aside.do(lambda: str(1 // 0), told.append, lambda why: told.append(type(why).__name__))
        aside.do(lambda: 1 // 0, lambda _: told.append("nobody asked why it failed"))
        aside.do(lambda: "done", told.append)
        while "done" not in told:
            reactor.turn(DEADLINE)
        aside.close(DEADLINE)
        assert told == ["ZeroDivisionError", "done"]
        assert capfd.readouterr().err.count("ZeroDivisionError") == 2

    def test_one_who_fails_to_be_told_ends_neither_loop_nor_others(
        self, reactor: Reactor, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """
        The node is everybody's.
        """
        aside, told = Aside(reactor, "test"), list[int]()
        aside.do(lambda: 0, lambda zero: told.append(1 // zero))
        aside.do(lambda: 2, told.append)
        while not told:
            reactor.turn(DEADLINE)
        aside.close(DEADLINE)
        assert told == [2]
        assert "ZeroDivisionError" in capfd.readouterr().err

    def test_what_was_asked_before_the_end_is_done_and_told_nobody(self, reactor: Reactor) -> None:
        """
        A group has to be removed also when its node leaves.
        """
        aside, done, told = Aside(reactor, "test"), list[int](), list[None]()
        aside.do(lambda: done.append(1), told.append)
        aside.close(DEADLINE)
        assert (done, told) == ([1], [])
