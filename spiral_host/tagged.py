"""Write any event as one line of JSON, and read it again. Opens no file.

What JSON lacks is an object with one key that says what it is:

    {"$bytes": BASE64}    {"$float": "nan" | "inf" | "-inf"}    {"$time": [SECONDS, NANOSECONDS]}
    {"$array": {"dtype": "<f8", "shape": [2, 3], "data": BASE64}}     rows first, little end first
    {"$map": [[KEY, VALUE], ...]}     a key is no text, or begins with $

An event comes back as a subscriber in another process would have been given it: tuples as lists,
dataclasses as maps, enums as their values, arrays read-only.
"""

import json
import math
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NoReturn

import msgpack

from protocol.arrays import build, describe, is_array, is_numpy
from protocol.codec import default
from protocol.errors import LocalProtocolError, RemoteProtocolError, UsageError
from protocol.events import BUILT_IN, PluginEvent, from_fields

MAX_LINE: Final = 1 << 20
"""Bytes of one line; an event of 48 KiB takes a tenth of it, one of 48 KiB of empty values half."""

LINE_START: Final = b'{"type": '
"""Opens every line, so that no other file is taken for a recording and continued."""

MAX_DEPTH: Final = 100
"""Values within values; some more and Python's own JSON reader gives up."""

_JSON: Final = json.JSONEncoder(allow_nan=False)
_STAMPS: Final = ("source", "seq", "ts")
_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_line(event: PluginEvent) -> bytes:
    """Write an event as one line of ASCII, with its line break.

    Raises:
        LocalProtocolError: It holds what could not have travelled, or is too long or too deep.
    """
    row = {key: _plain(value, MAX_DEPTH) for key, value in event.to_dict().items()}
    line = _JSON.encode(row).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise LocalProtocolError(f"{event.type} takes {len(line)} bytes; the limit is {MAX_LINE}")
    return line


def from_line(line: bytes) -> PluginEvent:
    """Read an event again, with its stamps.

    Raises:
        UsageError: The line is none that `to_line` gives; the text says why.
    """
    try:
        row = json.loads(line.decode(), parse_constant=_refuse)
        return _event({key: _value(value) for key, value in _exactly(dict, row).items()})
    except (ValueError, TypeError, KeyError, RecursionError, RemoteProtocolError) as error:
        raise UsageError(f"it holds no event ({_why(error)})") from None


def _event(row: dict[str, Any]) -> PluginEvent:
    event_type = _exactly(str, row.pop("type"))
    stamps = [row.pop(name) for name in _STAMPS]
    if event_type not in BUILT_IN and set(row) != {"data"}:
        raise UsageError(f"{event_type} is no type of this version, and has no data of its own")
    event = from_fields(event_type, row if event_type in BUILT_IN else row["data"])
    source, seq = _exactly(str, stamps[0]), _exactly(int, stamps[1])
    if type(stamps[2]) not in {float, int} or not math.isfinite(stamps[2]):
        raise ValueError("ts is no time")
    event.stamp = (source, seq, float(stamps[2]))
    return event


# --- writing --------------------------------------------------------------------------------------

_NUMBERS_AND_TEXT: Final[tuple[tuple[type, Callable[[Any], object]], ...]] = (
    (int, int.__index__),
    (float, float.__float__),
    (str, str.__str__),
)
"""What an object of a class of the publisher's, or of numpy's, is beside that."""


def _plain(value: object, depth: int) -> object:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if not depth:
        raise LocalProtocolError(f"cannot record values more than {MAX_DEPTH} deep")
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}  # type: ignore[arg-type]
    if isinstance(value, dict):
        return _plain_map(value, depth - 1)
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    return _plain_other(value, depth)


def _plain_map(value: Mapping[object, object], depth: int) -> object:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _plain(item, depth) for key, item in value.items()}
    # The list and the pairs in it are two levels more, to who reads.
    pairs = ((_plain(key, depth), _plain(item, depth)) for key, item in value.items())
    return {"$map": [list(pair) for pair in pairs]}


def _plain_other(value: object, depth: int) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": _base64(bytes(value))}
    if isinstance(value, msgpack.Timestamp):
        return {"$time": [value.seconds, value.nanoseconds]}
    if is_numpy(value) and is_array(value):
        return _plain_array(value)
    if isinstance(value, Enum):
        return _plain(value.value, depth - 1)
    for kind, plainly in _NUMBERS_AND_TEXT:
        if isinstance(value, kind):
            return _plain(plainly(value), depth)
    return _plain(default(value), depth - 1)


def _plain_array(array: Any) -> object:  # noqa: ANN401 - numpy is not imported here
    description = describe(array.dtype, array.ndim)
    if type(description) is str:
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        description = array.dtype.str
    data = _base64(array.tobytes())
    return {"$array": {"dtype": description, "shape": list(array.shape), "data": data}}


def _base64(value: bytes) -> str:
    return b2a_base64(value, newline=False).decode("ascii")


# --- reading --------------------------------------------------------------------------------------


def _value(value: Any) -> Any:  # noqa: ANN401 - whatever the line holds
    if type(value) is list:
        return [_value(item) for item in value]
    if type(value) is not dict:
        return value
    for key in value:
        if key.startswith("$"):
            (said,) = value.values()
            return _TAGS[key](said)
    return {key: _value(item) for key, item in value.items()}


def _bytes(said: str) -> bytes:
    return a2b_base64(said, strict_mode=True)


def _array(said: dict[str, Any]) -> object:
    data = _bytes(said["data"])
    return build(data, 0, len(data), said["dtype"], said["shape"])


def _map(said: list[list[Any]]) -> object:
    return {_value(key): _value(item) for key, item in said}


_TAGS: Final[dict[str, Callable[[Any], object]]] = {
    "$array": _array,
    "$bytes": _bytes,
    "$float": _FLOATS.__getitem__,
    "$map": _map,
    "$time": lambda said: msgpack.Timestamp(*said),
}


def _exactly(kind: type, value: Any) -> Any:  # noqa: ANN401 - it is of that kind
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, got {type(value).__name__}")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def _why(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at character {error.pos + 1}"
        case RecursionError():
            return "nested too deep"
        case KeyError():
            return f"unknown or missing: {error}"
        case _:
            return str(error)
