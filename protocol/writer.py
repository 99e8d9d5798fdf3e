"""Write the items of a plain generator, as fast as its reader reads them. Runs in the callee.

It runs as far as its reader's credit and the lane's room reach. Then it is suspended, and its
thread serves other calls, until there is more of both; it is closed, its `finally` run, when the
reader has abandoned it, has died, or the deadline has passed.
"""

import traceback
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from protocol.calls import STREAM, WINDOW
from protocol.turn import CURRENT, TURN, Current, belongs

if TYPE_CHECKING:
    from protocol.line import Line
    from protocol.reactor import Timer


class Writer:
    """One stream in its callee; lives until its end is said.

    Args:
        write: Sends an item; False while there is no room for it, and raises if it cannot travel.
        finish: Says that the stream has ended, with the generator's own return value.
        fail: Says what the generator has raised.
    """

    def __init__(
        self,
        line: "Line",
        current: Current,
        items: Generator[object, None, object],
        write: Callable[[object], bool],
        finish: Callable[[object], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._line = line
        self._current = current
        self._items = items
        self._write = write
        self._finish = finish
        self._fail = fail
        self._kept: list[object] = []
        """The item that is written next, if there was no room for it yet."""
        self._credit = WINDOW
        self._is_busy = self._is_over = False
        self._is_queued = self._is_later = False
        # Whether it is called back already once there is room, or its thread waits no longer.
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Say that there is a stream, and write as much as may be written at once."""
        current = self._current
        current.more, current.stop = self._more, self._go_on
        self._line.say(current.number, STREAM)
        if TURN.reactor is not None:
            self._timer = TURN.reactor.call_at(current.deadline, current.cancel)
        self._go_on()

    def _more(self, count: int) -> None:
        self._credit = min(self._credit + count, WINDOW)
        self._go_on()

    def _go_on(self) -> None:
        if self._is_busy or self._is_over:
            return
        if self._has_to_wait():
            if not self._is_later:  # its reader may ask as often as it likes
                self._is_later = True
                TURN.later.append(self._go_on_later)
                assert TURN.reactor is not None
                TURN.reactor.nudge()
            return
        self._is_busy = True
        token = CURRENT.set(self._current)
        try:
            if self._line.lane.is_gathering:
                self._line.release()  # nobody knows when the next item is
            self._write_on()
        finally:
            CURRENT.reset(token)
            self._is_busy = False

    def _has_to_wait(self) -> bool:
        """Say whether its thread is in the middle of something that nothing may run beside."""
        if TURN.reactor is None:
            return False  # the thread waits for what this is an argument of
        return self._line.is_looking or bool(
            # A thread that waits does nothing for strangers.
            TURN.waiting and not belongs(self._current.chain, self._line.home.own())
        )

    def _go_on_later(self) -> None:
        self._is_later = False
        self._go_on()

    def _go_on_when(self, queue: list[Callable[[], object]]) -> None:
        if not self._is_queued:
            self._is_queued = True
            queue.append(self._go_on_queued)

    def _go_on_queued(self) -> None:
        self._is_queued = False
        self._go_on()

    def _write_on(self) -> None:
        try:
            while not self._current.is_cancelled:
                if self._line.lane.has_unsent:
                    self._go_on_when(self._line.when_flushed)
                    return
                if not self._next():
                    return
            self._end()
            self._fail(GeneratorExit())  # which nobody is told: nobody wants to know
        except StopIteration:
            self._end()
            self._finish(None)
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
            self._end()
            self._fail(error)

    def _next(self) -> bool:
        """Write one item; False while the reader wants none, or has no room for it."""
        if not self._kept:
            if not self._credit:
                return False
            self._kept.append(next(self._items))
            self._credit -= 1
        if not self._write(self._kept[0]):
            self._go_on_when(self._line.when_room)
            return False
        self._kept.clear()
        return True

    def _end(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._items.close()  # an item that cannot travel has left it suspended
        except BaseException:  # noqa: BLE001 - its `finally` may raise anything; the caller has an outcome
            traceback.print_exc()
