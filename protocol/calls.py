"""What lies in a lane's frames; no I/O. A lane carries the same from both of its ends.

    a call   [number, service, method, arguments, keywords or nil, deadline, chain or nil]
    a word   [number, code, ...]     about the call of that number; the codes are those of `Code`

A call of a function that came as an argument names no service, and the function's number as its
method. The deadline is on the machine's monotonic clock, seconds: both ends of a lane share it.
The chain lists the calls that led to this one, outermost first.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgpack

from protocol.errors import RemoteProtocolError, SpiralHostError, from_wire, to_wire
from protocol.turn import MAX_CHAIN

MAX_CLOCK: Final = 1e15
"""Seconds that no clock shows; a deadline beyond is none that can be waited for."""

CREDITS: Final = 256
"""Calls under way in one direction of a lane, before its caller waits and its callee refuses."""

WINDOW: Final = 32
"""Items of a stream that may be on their way; a reader gives new credit for half of it at once."""


class Code(enum.IntEnum):
    """What a word says; the callee says the first four, the caller the next two."""

    VALUE = 0
    """`[number, 0, value]`: the outcome; of a stream, its end."""
    ERROR = 1
    """`[number, 1, kind of error, [its fields]]`: the outcome."""
    STREAM = 2
    """`[number, 2]`: the outcome is a stream, whose items follow."""
    ITEM = 3
    """`[number, 3, value]`: one item more."""
    CANCEL = 4
    """`[number, 4]`: the answer is not wanted any more."""
    CREDIT = 5
    """`[number, 5, count]`: so many items more are wanted."""
    FREE = 6
    """`[0, 6, leases]`: nobody looks any more at what came by shared memory; either end says it."""


VALUE: Final = int(Code.VALUE)
ERROR: Final = int(Code.ERROR)
STREAM: Final = int(Code.STREAM)
ITEM: Final = int(Code.ITEM)
CANCEL: Final = int(Code.CANCEL)
CREDIT: Final = int(Code.CREDIT)
FREE: Final = int(Code.FREE)
"""The same as plain integers, for comparing a hundred thousand times a second."""

CALL_PARTS: Final = 7
"""Parts of a call as it was packed."""

BEGIN: Final = 2
"""Parts of the word that a stream has begun; what comes of it too early is kept behind them."""

_LENGTHS: Final = {VALUE: 3, ERROR: 4, STREAM: 2, ITEM: 3, CANCEL: 2, CREDIT: 3, FREE: 3}
_LINK_PARTS: Final = 3
_VALUE_PARTS: Final = 3

Call: TypeAlias = list[Any]
"""A call as it arrived: number, service, method, arguments, keywords, deadline, chain; then, if
functions came as arguments, the list of them."""


def call_parts(
    number: int,
    service: str,
    method: str,
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    deadline: float,
    chain: Sequence[object],
) -> tuple[object, ...]:
    """Give a call as it is packed."""
    return number, service, method, arguments, keywords or None, deadline, chain or None


def error_parts(number: int, error: SpiralHostError) -> tuple[object, ...]:
    """Give the word for an outcome that is an error."""
    return number, ERROR, *to_wire(error)


def is_call(parts: Any) -> bool:  # noqa: ANN401 - it is whatever the other side said
    """Tell a call from a word, both having been unpacked.

    Raises:
        RemoteProtocolError: It is neither.
    """
    if type(parts) is list:
        if len(parts) == CALL_PARTS:
            number, service, method, arguments, keywords, deadline, chain = parts
            if (
                type(service) is type(method) is str
                and type(arguments) is list
                and type(number) is int
                and type(deadline) is float
                and -MAX_CLOCK < deadline < MAX_CLOCK  # not so: infinity, and what is no number
                and (keywords is None or type(keywords) is dict)
                and (chain is None or (type(chain) is list and len(chain) <= MAX_CHAIN))
            ):
                for link in chain or ():
                    if type(link) is not list or len(link) != _LINK_PARTS:
                        break
                    caller, of_caller, name = link
                    if not (type(caller) is type(of_caller) is int and type(name) is str):
                        break
                else:
                    return True
        elif len(parts) > 1 and type(parts[0]) is int:
            code = parts[1]
            if type(code) is int and _LENGTHS.get(code) == len(parts):
                return False
    raise RemoteProtocolError("a frame that is neither a call nor a word about one")


def is_value(parts: Any) -> bool:  # noqa: ANN401 - whatever the peer said
    """Say whether it is the word that a call has given a value; nearly every answer is."""
    return (
        type(parts) is list
        and len(parts) == _VALUE_PARTS
        and type(parts[0]) is type(parts[1]) is int
        and parts[1] == VALUE
    )


def head_of(frame: bytes) -> tuple[int, bool] | None:
    """Say which call a frame is about that cannot be decoded as a whole; None if nothing is there.

    A map with lists as its keys can be packed and not unpacked, so this happens to honest peers.

    Returns:
        The call's number, and whether the frame is the call itself. Never raises.
    """
    try:
        unpacker = msgpack.Unpacker()
        unpacker.feed(bytes(frame[:16]))
        parts, number = unpacker.read_array_header(), unpacker.unpack()
        what = frame[unpacker.tell()]
    except Exception:  # noqa: BLE001 - msgpack has five kinds of exception for bad input
        return None
    if parts < 2 or type(number) is not int or number < 1:
        return None
    return number, what >> 5 == _SHORT_TEXT or what in _TEXT


_SHORT_TEXT: Final = 0b101
_TEXT: Final = frozenset({0xD9, 0xDA, 0xDB})
"""How msgpack begins a text: three bits and its length, or one of three bytes."""


def error_of(parts: list[Any]) -> SpiralHostError:
    """Build the error of an `ERROR` word again.

    Raises:
        RemoteProtocolError: Its fields are none.
    """
    _, _, kind, fields = parts
    if type(kind) is not str or type(fields) is not list:
        raise RemoteProtocolError("an error with parts of the wrong type")
    return from_wire(kind, tuple(str(field) for field in fields))
