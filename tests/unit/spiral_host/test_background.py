"""Doing elsewhere what may wait for a disk."""

import queue
from typing import TYPE_CHECKING

import pytest

from spiral_host.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 10.0


class TestBackground:
    def test_what_came_of_it_is_told_in_the_loop(self) -> None:
        """
        The work is done in another thread, what follows by whoever runs the loop.
        """
        loop: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        found: list[int] = []
        background = Background(loop.put)
        background.do(lambda: 6 * 7, found.append)

        follows = loop.get(timeout=DEADLINE)
        assert found == []
        follows()
        assert found == [42]

    def test_a_bug_costs_what_it_was_doing_and_no_more(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """
        It is said on the daemon's own output; the next work is done.
        """
        loop: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        found: list[float] = []
        background = Background(loop.put)
        background.do(lambda: 1 / 0, found.append)
        background.do(lambda: 1.0, found.append)

        loop.get(timeout=DEADLINE)()
        assert found == [1.0]
        assert "ZeroDivisionError" in capfd.readouterr().err
