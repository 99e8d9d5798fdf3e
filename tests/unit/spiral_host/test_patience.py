import threading
from collections.abc import Callable
from functools import partial

import pytest

from spiral_host import patience
from spiral_host.patience import Patience
from tests.clock import Clock
from tests.hosts import eventually

DEADLINE = 10.0


class TestInTime:
    def test_what_is_done_is_given(self) -> None:
        one = Patience[object]()
        assert one.do("a", 1, lambda: 1) == 1
        assert one.do("a", 1, threading.current_thread) is not threading.current_thread()

    def test_what_is_raised_is_raised(self) -> None:
        """
        And stands in nobody's way.
        """
        one = Patience[float]()
        with pytest.raises(ZeroDivisionError):
            one.do("a", 1, lambda: 1 // 0)
        assert one.do("a", 1, lambda: 1) == 1


class Slow:
    """Work that is not done before it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.begun = 0

    def __call__(self) -> str:
        self.begun += 1
        assert self.let.wait(DEADLINE)
        return "slow"


@pytest.mark.usefixtures("impatient")
class TestLate:
    def test_what_takes_too_long_keeps_only_its_own_waiting(self) -> None:
        """
        Until it is done nothing else is begun for the same: threads that hang do not add up.
        """
        one, slow = Patience[str](), Slow()
        for about in ("x", "x", "y"):
            with pytest.raises(TimeoutError):
                one.do("a", about, slow)
        assert eventually(lambda: slow.begun)
        assert eventually(lambda: given(one, "b", "x", lambda: "quick") == "quick")
        slow.let.set()
        assert eventually(lambda: given(one, "a", "y", lambda: "other") == "other")
        assert slow.begun == 1

    def test_what_comes_late_is_given_to_whoever_asks_again(self) -> None:
        """
        Once: what is asked for after that is done anew.
        """
        one, slow = Patience[str](), Slow()
        with pytest.raises(TimeoutError):
            one.do("a", "x", slow)
        slow.let.set()
        assert eventually(lambda: given(one, "a", "x", slow) == "slow")
        assert slow.begun == 1
        assert eventually(lambda: given(one, "a", "x", lambda: "new") == "new")

    def test_what_came_too_late_is_done_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        It may have changed by now.
        """
        one, slow = Patience[str](), Slow()
        with pytest.raises(TimeoutError):
            one.do("a", "x", slow)
        monkeypatch.setattr(patience, "FRESH_S", 0.0)
        monkeypatch.setattr(patience, "LEAST_S", DEADLINE)  # or what is new might be late, too
        slow.let.set()
        found: list[str] = []

        def ask() -> bool:
            found.append(given(one, "a", "x", lambda: "new"))
            return any(found)

        assert eventually(ask)
        assert "slow" not in found


class Never(threading.Event):
    """Does not come: who waits for it waits by a clock that is fed by hand."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def set(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0.0
        return False


def test_many_that_are_slow_share_what_is_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Each alone may keep the loop so long, all together not for so much longer.
    """
    clock = Clock()
    begun = clock.now
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.1)
    monkeypatch.setattr(patience, "BUDGET_S", 0.2)
    monkeypatch.setattr(patience, "_Work", partial(patience._Work, is_done=Never(clock)))
    one = Patience[str]()
    for _ in range(2):  # who was waited for once is only asked
        for number in range(50):
            with pytest.raises(TimeoutError):
                one.do(f"p{number}", "x", str)
    assert clock.now - begun < 50 * patience.PATIENCE_S / 2


def given(one: Patience[str], whose: str, about: str, work: Callable[[], str]) -> str:
    """Give what came of it, or nothing yet."""
    try:
        return one.do(whose, about, work)
    except TimeoutError:
        return ""
