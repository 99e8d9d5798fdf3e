"""The callee's side of calls: finds the method, runs it, builds the reply. No I/O.

Only public methods of the object that was offered can be reached, by the names they had then;
there are no attribute walks.
"""

import traceback
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from protocol.calls import Call, Pack, pack_error_reply, pack_value_reply
from protocol.codec import MAX_MESSAGE
from protocol.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    RemoteError,
    SpiralHostError,
    UsageError,
)
from protocol.names import parse_service, shown
from protocol.turn import TURN

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TRACEBACK: Final = 32 * 1024
"""Characters of a traceback that travel; the end is kept, it says most."""


class Counter(Protocol):
    """Where calls are counted."""

    def count_call(self) -> None:
        """Count a call that was answered."""

    def count_error(self) -> None:
        """Count a call that raised."""


class Servant:
    """The services that one process offers; lives as long as the process's connection."""

    def __init__(self, counter: Counter) -> None:
        self.served = 0
        """Calls that were taken in, whatever came of them."""
        self._counter = counter
        self._objects: dict[str, object] = {}
        self._targets: dict[tuple[str, str], Callable[..., Any]] = {}
        self._methods: dict[str, tuple[str, ...]] = {}

    @property
    def offers(self) -> dict[str, tuple[str, ...]]:
        """The services and their methods."""
        return dict(self._methods)

    def offer(self, name: str, service: object) -> tuple[str, ...]:
        """Take in a service; an earlier one of this name is replaced.

        Raises:
            UsageError: The name is no service name, or the object has no public method.
        """
        parse_service(name)
        methods = public_methods(service)
        if not methods:
            raise UsageError(f"service {name}: {type(service).__name__} has no public method")
        self.withdraw(name)
        self._methods[name] = methods
        self._objects[name] = service
        self._targets.update({(name, method): getattr(service, method) for method in methods})
        return methods

    def withdraw(self, name: str) -> bool:
        """Forget a service; say whether it was there."""
        self._objects.pop(name, None)
        methods = self._methods.pop(name, ())
        for method in methods:
            del self._targets[name, method]
        return bool(methods)

    def object_of(self, name: str) -> object | None:
        """Give the object that is offered under a name, or None."""
        return self._objects.get(name)

    def serve(self, call: Call, peer: int, peer_name: str, pack: Pack) -> bytes:
        """Carry out a call and give the frame of its reply.

        Args:
            peer: The caller's incarnation, `peer_name` its name; its lane says so, not the frame.
            pack: The serving thread's own packer.
        """
        number, service, method, arguments, keywords, deadline, chain = call
        self.served += 1
        target = self._targets.get((service, method))
        if target is None:
            return pack_error_reply(pack, number, self._missing(service, method))
        if deadline < monotonic():
            late = DeadlineExceeded(f"{service}.{method}", 0.0)
            return pack_error_reply(pack, number, late)
        turn = TURN
        outer = turn.chain, turn.deadline
        turn.chain, turn.deadline = (*(chain or ()), [peer, number, peer_name]), deadline
        try:
            value = target(*arguments, **keywords) if keywords else target(*arguments)
            reply = pack_value_reply(pack, number, value)
            if len(reply) > MAX_MESSAGE:
                raise LocalProtocolError(
                    f"a result of {len(reply)} bytes; the limit is {MAX_MESSAGE}"
                )
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises goes to its caller
            self._counter.count_error()
            return pack_error_reply(pack, number, _reported(f"{service}.{method}", error))
        finally:
            turn.chain, turn.deadline = outer
        self._counter.count_call()
        return reply

    def _missing(self, service: str, method: str) -> SpiralHostError:
        if service not in self._methods:
            return UsageError(f"service {shown(service)} is not offered here any more")
        known = ", ".join(self._methods[service])
        return UsageError(f"service {service} has no method {shown(method)}; it has {known}")


def public_methods(service: object) -> tuple[str, ...]:
    """Name what may be called: callables of the object's class whose names begin with a letter."""
    kind = type(service)
    names = (name for name in dir(kind) if name.isascii() and name[0].isalpha())
    return tuple(name for name in names if callable(getattr(kind, name)))


def _reported(call: str, error: BaseException) -> SpiralHostError:
    if isinstance(error, LocalProtocolError):
        return RemoteError(call, type(error).__name__, str(error))
    # The first frame is `serve` itself, which tells a plugin's author nothing.
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    lines = traceback.format_exception(type(error), error, frames)
    text = "".join(lines)[-MAX_TRACEBACK:]
    return RemoteError(call, type(error).__name__, _text_of(error), text)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:4096]
    except BaseException:  # noqa: BLE001 - a plugin's own __str__ may do anything
        return "(its message cannot be read)"
