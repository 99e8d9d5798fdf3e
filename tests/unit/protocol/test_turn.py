import contextvars
import threading

import pytest

from protocol.turn import CURRENT, MAX_CHAIN, NOBODY, TURN, Current, Link, belongs, spelled

CHAIN: list[Link] = [[1, 5, "app"], [2, 7, "b"]]


class TestTurn:
    def test_a_call_belongs_to_the_wait_that_led_to_it(self) -> None:
        """
        A chain belongs where it contains a call that this process, and no other, waits for.
        """
        TURN.waiting[7] = 3
        try:
            assert belongs(CHAIN, own=2)
            assert not belongs(CHAIN, own=1)
            assert not belongs(CHAIN[:1], own=2)
            assert not belongs(None, own=2)
        finally:
            TURN.waiting.clear()

    def test_what_a_future_leads_to_belongs(self) -> None:
        """
        So does a chain with a call of which this thread holds the future.
        """
        TURN.in_flight.add(7)
        try:
            assert belongs(CHAIN, own=2)
            assert not belongs(CHAIN, own=1)
        finally:
            TURN.in_flight.discard(7)

    def test_nothing_belongs_where_nobody_waits(self) -> None:
        """
        A thread that waits for nothing has led to nothing.
        """
        assert not belongs(CHAIN, own=2)

    def test_each_thread_has_its_own(self) -> None:
        """
        What one thread waits for is no business of another's.
        """
        seen: list[bool] = []
        TURN.waiting[7] = 3
        try:
            thread = threading.Thread(target=lambda: seen.append(belongs(CHAIN, own=2)))
            thread.start()
            thread.join()
        finally:
            TURN.waiting.clear()

        assert seen == [False]

    def test_a_chain_is_written_for_people(self) -> None:
        """
        Names, in the order of the calls.
        """
        assert spelled(CHAIN, "a") == "app -> b -> a"


class TestCurrent:
    def test_who_serves_nothing_is_in_nobodys_way(self) -> None:
        """
        Outside a call there is no chain, no deadline and nothing to cancel.
        """
        assert CURRENT.get() is NOBODY
        assert (NOBODY.chain, NOBODY.deadline, NOBODY.is_cancelled) == ((), float("inf"), False)
        assert MAX_CHAIN > 2

    def test_it_is_stopped_once(self) -> None:
        """
        However often a cancel is said, what serves the call is ended once.
        """
        stopped: list[bool] = []
        current = Current((), 1.0, None, 1)
        current.stop = lambda: stopped.append(current.is_cancelled)
        current.cancel()
        current.cancel()

        assert stopped == [True]

    @pytest.mark.parametrize("count", [0, 5])
    def test_credit_for_a_call_without_a_stream_is_harmless(self, count: int) -> None:
        """
        A reader that gives credit too late, or for nothing, changes nothing.
        """
        current = Current((), 1.0, None, 1)
        current.cancel()
        current.more(count)

        assert current.is_cancelled

    def test_each_context_has_its_own(self) -> None:
        """
        What runs in a copied context, as tasks do, does not change its maker's call.
        """
        current = Current((), 1.0, None, 1)
        contextvars.copy_context().run(CURRENT.set, current)

        assert CURRENT.get() is NOBODY
