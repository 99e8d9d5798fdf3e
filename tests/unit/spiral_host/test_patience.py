import threading

import pytest

from spiral_host import patience
from spiral_host.patience import Patience

DEADLINE = 10.0


def test_what_is_done_in_time_is_given() -> None:
    one = Patience()
    assert one.do(lambda: 1) == 1
    assert one.do(threading.current_thread) is not threading.current_thread()


def test_what_is_raised_is_raised() -> None:
    """
    And stands in nobody's way.
    """
    one = Patience()
    with pytest.raises(ZeroDivisionError):
        one.do(lambda: 1 // 0)
    assert one.do(lambda: 1) == 1


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Until it is done nothing else is begun: threads that hang do not add up.
    """
    monkeypatch.setattr(patience, "PATIENCE_S", 0.01)
    let, done = threading.Event(), threading.Event()
    one = Patience()

    def slow() -> None:
        assert let.wait(DEADLINE)
        done.set()

    with pytest.raises(TimeoutError):
        one.do(slow)
    with pytest.raises(TimeoutError):
        one.do(lambda: pytest.fail("begun"))

    let.set()
    assert done.wait(DEADLINE)
    one._last.wait(DEADLINE)
    monkeypatch.setattr(patience, "PATIENCE_S", DEADLINE)
    assert one.do(lambda: 1) == 1
