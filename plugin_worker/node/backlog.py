"""Have what waits for the other end of an umbilical sent as soon as that can work."""

from collections.abc import Callable
from typing import Final

from protocol.reactor import Reactor
from protocol.umbilical import Umbilical

AGAIN_S: Final = 0.05
"""After how long it is tried again, where nothing tells that it would work now."""


def flush_later(reactor: Reactor, umbilical: Umbilical, flush: Callable[[], None]) -> None:
    """Call back when there is room, or after a while if it is not room that lacks.

    Args:
        flush: Does nothing once the umbilical is closed; if all has not left, it comes here again.
    """
    if not umbilical.is_held_up:
        reactor.watch_writable(umbilical.fd, flush)
        return
    # There is room: to watch for it would call back at once, and again.
    reactor.forget_writable(umbilical.fd)
    if umbilical.is_tried_again:
        return

    def again() -> None:
        umbilical.is_tried_again = False
        flush()

    umbilical.is_tried_again = True
    reactor.call_later(AGAIN_S, again)
