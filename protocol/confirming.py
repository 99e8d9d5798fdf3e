"""Confirm subscriptions at the hub, and fetch the past that their subscribers want.

    subscribe to a mark of one's own --> the hub answers it: those before it are in force everywhere
    --> ask for the past, behind all that was published here before --> the answer

Every word of this may be lost to a full queue or with a hub, and is said again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from secrets import token_bytes
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.feed import ECHO, Recall, Recalled, ToHub
from protocol.names import Topic
from protocol.reactor import Reactor, Timer

if TYPE_CHECKING:
    import zmq

AGAIN_S: Final = 1.0
"""How soon a mark or the past is asked for again, seconds."""

Confirmed: TypeAlias = Callable[[tuple[bytes, ...]], None]
"""Given runs that hold what is wanted of the past; `Recall` says what that is. They and what has
been delivered since the subscription overlap, without a hole."""


@dataclass(slots=True)
class _Asked:
    """What is asked of the past for one new subscriber, once its subscription is in force."""

    message: Recall
    then: Confirmed
    mark: bytes = b""
    is_due: bool = False
    timer: Timer | None = None


class Confirming:
    """The subscriptions of one peer that are not confirmed yet; lives as long as it.

    Args:
        down: The peer's SUB socket.
        tell: Tells the hub; without one, it is told when it is `joined`.
    """

    def __init__(
        self, reactor: Reactor, down: "zmq.Socket[bytes]", tell: Callable[[ToHub], bool]
    ) -> None:
        self._reactor = reactor
        self._down = down
        self._tell = tell
        self._echoes: dict[bytes, Callable[[], None]] = {}
        self._asked: dict[int, _Asked] = {}
        self._numbers = count(1)

    def close(self) -> None:
        """Ask for nothing any more."""
        for asked in self._asked.values():
            if asked.timer is not None:
                asked.timer.cancel()

    # --- marks ------------------------------------------------------------------------------------

    def echo(self, then: Callable[[], None]) -> bytes:
        """Call back once every subscription of now is in force; give the mark that tells."""
        # Subscriptions travel in order, so when the hub answers this one the others are in force.
        mark = ECHO + token_bytes(12).hex().encode()
        self._echoes[mark] = then
        self._down.subscribe(mark)
        return mark

    def withdraw(self, mark: bytes) -> None:
        """Wait for a mark no more."""
        if self._echoes.pop(mark, None) is not None:
            self._down.unsubscribe(mark)

    def came(self, mark: bytes) -> None:
        """Take in the hub's answer to a mark, perhaps another peer's."""
        then = self._echoes.pop(mark, None)
        if then is not None:
            self._down.unsubscribe(mark)
            then()

    # --- the past ---------------------------------------------------------------------------------

    def confirm(self, pattern: Topic, last: int, since: float, then: Confirmed) -> None:
        """Call back once every subscription of now is in force, with the past."""
        asked = _Asked(Recall(next(self._numbers), pattern, last, since), then)
        self._asked[asked.message.request] = asked
        self._ask(asked)

    def joined(self) -> None:
        """There is a hub, perhaps another one: what was asked of the last one is asked of it."""
        for asked in self._asked.values():
            if asked.is_due:
                self._tell(asked.message)

    def recalled(self, recalled: Recalled) -> None:
        """Take in the hub's answer."""
        asked = self._asked.pop(recalled.request, None)
        if asked is not None:
            if asked.timer is not None:
                asked.timer.cancel()
            asked.then(recalled.frames)

    def _ask(self, asked: _Asked) -> None:
        if asked.is_due:
            self._tell(asked.message)
        else:
            self.withdraw(asked.mark)
            asked.mark = self.echo(lambda: self._recall(asked))
        asked.timer = self._reactor.call_later(AGAIN_S, lambda: self._ask(asked))

    def _recall(self, asked: _Asked) -> None:
        # Behind everything published here before, so the hub's answer holds that.
        asked.is_due = True
        self._tell(asked.message)
