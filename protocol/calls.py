"""Calls and replies as they lie in a lane's frames; no I/O.

    call   [number, service, method, arguments, keyword arguments or nil, deadline, chain or nil]
    reply  [number, 0, value]   or   [number, 1, kind of error, [its fields]]

The deadline is on the machine's monotonic clock, seconds: both ends of a lane share it. The chain
lists the calls that led to this one, outermost first; a call that nothing led to has none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from protocol.codec import unpack_value
from protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    SpiralHostError,
    from_wire,
    to_wire,
)
from protocol.turn import MAX_CHAIN, Link

Pack = Callable[[object], bytes]

_VALUE: Final = 0
_ERROR: Final = 1
_CALL_PARTS: Final = 7
_ERROR_PARTS: Final = 4


def pack_call(
    pack: Pack,
    number: int,
    service: str,
    method: str,
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    deadline: float,
    chain: Sequence[object],
) -> bytes:
    """Build a call's frame.

    Raises:
        LocalProtocolError: An argument cannot travel; nothing was sent.
    """
    try:
        return pack((number, service, method, arguments, keywords or None, deadline, chain or None))
    except (LocalProtocolError, TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(
            f"{service}.{method}: an argument cannot travel: {error}"
        ) from None


Call = tuple[int, str, str, list[Any], dict[str, Any] | None, float, list[Link] | None]
"""A call as it arrived: number, service, method, arguments, keywords, deadline, chain."""


def unpack_call(frame: bytes) -> Call:
    """Read a call's frame.

    Raises:
        RemoteProtocolError: It is no call.
    """
    parts = unpack_value(frame)
    if type(parts) is not list or len(parts) != _CALL_PARTS:
        raise RemoteProtocolError("a frame that is no call")
    number, service, method, arguments, keywords, deadline, chain = parts
    if (
        type(number) is not int
        or type(service) is not str
        or type(method) is not str
        or type(arguments) is not list
        or not (keywords is None or type(keywords) is dict)
        or type(deadline) is not float
        or not (chain is None or _is_chain(chain))
    ):
        raise RemoteProtocolError("a call with parts of the wrong type")
    return number, service, method, arguments, keywords, deadline, chain


def _is_chain(chain: object) -> bool:
    return (
        type(chain) is list
        and len(chain) <= MAX_CHAIN
        and all(type(link) is list and [*map(type, link)] == [int, int, str] for link in chain)
    )


def pack_value_reply(pack: Pack, number: int, value: object) -> bytes:
    """Build the reply that carries a value.

    Raises:
        LocalProtocolError: The value cannot travel.
    """
    try:
        return pack((number, _VALUE, value))
    except (LocalProtocolError, TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"the result cannot travel: {error}") from None


def pack_error_reply(pack: Pack, number: int, error: SpiralHostError) -> bytes:
    """Build the reply that carries an error."""
    kind, fields = to_wire(error)
    return pack((number, _ERROR, kind, fields))


def unpack_reply(frame: bytes) -> tuple[int, Any, SpiralHostError | None]:
    """Read a reply: its call's number, and the value or the error.

    Raises:
        RemoteProtocolError: It is no reply.
    """
    parts = unpack_value(frame)
    if type(parts) is list and len(parts) > 2 and type(parts[0]) is type(parts[1]) is int:
        if parts[1] == _VALUE:
            return parts[0], parts[2], None
        if parts[1] == _ERROR and len(parts) == _ERROR_PARTS and type(parts[3]) is list:
            fields = tuple(str(field) for field in parts[3])
            return parts[0], None, from_wire(str(parts[2]), fields)
    raise RemoteProtocolError("a frame that is no reply")
