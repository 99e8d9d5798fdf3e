"""Say what a numpy array is in plain values, and build it again, read-only, over what arrived.

A small array travels inside its frame, as the extension type `ARRAY`; a large one's bytes lie in a
segment (outgoing.py, incoming.py), and only its description travels. numpy is imported only once
an array arrives: whoever has one to send has it imported already.
"""

import struct
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import msgpack

from protocol.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARRAY: Final = 1
"""msgpack's extension type: u16 length, msgpack [dtype, shape, padding], bytes in C order."""

_LENGTH: Final = struct.Struct("!H")
_ALIGNED: Final = 16
"""The bytes begin so far from where numpy would have to read them piecemeal."""

_SHORT: Final = 128
"""Bytes of what is said of an array, as far as it is remembered from one arrival to the next."""

_LONGEST: Final = 64
"""Characters of a dtype that is one, not columns; numpy's own have a third of that."""

_MAX_DIMENSIONS: Final = 32
"""numpy 1's own limit; numpy 2 allows 64, but both ends have to read it."""

_MAX_NESTING: Final = 16
"""Columns within columns, or arrays within columns."""

_OURS: Final = frozenset({"numpy", "protocol.arrived"})
_REGISTERED: Final = 2
"""numpy's `isbuiltin` of a dtype that another library has added."""


def is_numpy(value: object) -> bool:
    """Say whether a value is numpy's, without importing numpy."""
    return type(value).__module__ in _OURS


def is_array(value: object) -> bool:
    """Say whether a value of numpy's is an array, rather than a number, a dtype or a class."""
    kind = type(value)  # the attribute of an array itself takes a microsecond to make
    return hasattr(kind, "__array_interface__") and hasattr(kind, "__setitem__")


def to_extension(value: "NDArray[Any] | np.generic") -> object:
    """Turn an array into an extension value, and a numpy scalar into a plain one.

    Raises:
        LocalProtocolError: It cannot be described, or holds Python objects.
    """
    kind = type(value)  # as above
    if not (hasattr(kind, "__array_interface__") and hasattr(kind, "tobytes")):
        raise LocalProtocolError(f"cannot send a {kind.__name__}; send an array")
    head = _head(value.dtype, value.shape)
    if not is_array(value) and value.dtype.names is None:
        return value.item()
    return new_extension(ARRAY, head + _content(value))


def _content(value: "NDArray[Any] | np.generic") -> bytes:
    """Give the bytes of an array in C order; what lies between its columns is nobody's, and 0.

    numpy copies columns alone: between them would stay what this process had there before.
    """
    body = value.tobytes()
    gaps = None if value.dtype.names is None or not body else _gaps(value.dtype)
    if gaps is None:
        return body
    import numpy as np  # noqa: PLC0415 - it is there: somebody has an array

    rows = np.frombuffer(bytearray(body), np.uint8).reshape(-1, value.dtype.itemsize)
    rows[:, gaps] = 0
    return rows.tobytes()


@lru_cache(maxsize=16)
def _gaps(dtype: "np.dtype[Any]") -> "NDArray[np.bool_] | None":
    """Say of each byte of a record whether it belongs to no column; None if each does."""
    gaps = _unused(dtype)
    return gaps if gaps.any() else None


def _unused(dtype: "np.dtype[Any]") -> "NDArray[np.bool_]":
    import numpy as np  # noqa: PLC0415 - as above

    if dtype.subdtype is not None and dtype.itemsize:
        base, _ = dtype.subdtype
        return np.tile(_unused(base), dtype.itemsize // base.itemsize)
    unused = np.full(dtype.itemsize, fill_value=dtype.names is not None)
    for column, offset, *_ in (dtype.fields or {}).values():
        unused[offset : offset + column.itemsize] &= _unused(column)
    return unused


def new_extension(code: int, body: bytes) -> object:
    """Make what msgpack packs as an extension, without the checks that take longer than that."""
    return tuple.__new__(msgpack.ExtType, (code, body))


@lru_cache(maxsize=256)
def _head(dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> bytes:
    """Give what comes before the bytes of an array."""
    head: bytes = msgpack.packb([describe(dtype, len(shape)), list(shape), b""])
    padding = -(_LENGTH.size + len(head)) % _ALIGNED
    head = head[:-1] + bytes([padding]) + bytes(padding)
    if len(head) >= 1 << 16:
        raise LocalProtocolError("cannot send an array of so many columns; send it in parts")
    return _LENGTH.pack(len(head)) + head


def from_extension(body: bytes) -> "NDArray[Any]":
    """Build the array again, read-only, over the bytes that arrived.

    Raises:
        RemoteProtocolError: The header lies about what follows.
    """
    try:
        (length,) = _LENGTH.unpack_from(body)
        head = body[_LENGTH.size : _LENGTH.size + length]
        description, shape = _known_head(head) if length <= _SHORT else _read_head(head)
    except Exception as error:  # noqa: BLE001 - msgpack has five kinds of exception for bad input
        raise RemoteProtocolError(f"an array arrived that is none: {error}") from None
    begin = _LENGTH.size + length
    return build(body, begin, len(body) - begin, description, shape)


def _read_head(head: bytes) -> tuple[object, object]:
    description, shape, _ = msgpack.unpackb(head)
    return description, shape


_known_head = lru_cache(maxsize=256)(_read_head)


def describe(dtype: "np.dtype[Any]", dimensions: int) -> object:
    """Describe a dtype in plain values.

    Raises:
        LocalProtocolError: It holds Python objects, or the other side could not build it.
    """
    if dimensions > _MAX_DIMENSIONS:
        raise LocalProtocolError(f"cannot send an array of {dimensions} dimensions")
    return _remembered(dtype)


@lru_cache(maxsize=256)
def _remembered(dtype: "np.dtype[Any]") -> object:
    if dtype.hasobject:
        raise LocalProtocolError("cannot send an array of Python objects; give it a plain dtype")
    if not dtype.itemsize:
        raise LocalProtocolError(f"cannot send an array of {dtype!r}, which is nothing")
    return _described(dtype)


def _described(dtype: "np.dtype[Any]", depth: int = 0) -> object:
    if depth > _MAX_NESTING or dtype.isbuiltin == _REGISTERED:
        raise LocalProtocolError(f"cannot send an array of {dtype}; send a view of plain numbers")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_described(base, depth + 1), list(shape)]
    if dtype.names is None or dtype.fields is None:
        return dtype.str
    columns = [dtype.fields[name] for name in dtype.names]
    formats = [_described(column[0], depth + 1) for column in columns]
    titles = [column[2] if len(column) > 2 else None for column in columns]
    if any(title is not None and type(title) is not str for title in titles):
        raise LocalProtocolError("cannot send columns whose titles are no text")
    return [list(dtype.names), formats, [column[1] for column in columns], dtype.itemsize, titles]


def build(
    memory: bytes | memoryview,
    begin: int,
    size: int,
    description: object,
    shape: object,
    order: Literal["C", "F"] = "C",
) -> "NDArray[Any]":
    """Build an array over its bytes, which it keeps alive.

    Args:
        memory: Where they lie, read-only; or the array could be made writable.
        begin: Where in it they begin, `size` how many they are.

    Raises:
        RemoteProtocolError: What it is said to be does not fit its bytes, or would hold objects.
    """
    _, frombuffer, arrived = _numpy()
    try:
        dtype, width = _known(description) if type(description) is str else _new(description)
        if type(shape) is not list or len(shape) > _MAX_DIMENSIONS or not _are_lengths(shape):
            raise RemoteProtocolError("an array arrived whose shape is none")
        if size % width:
            raise RemoteProtocolError("an array arrived that does not fit its bytes")
        flat = frombuffer(memory, dtype, size // width, begin)
        if [len(flat)] != shape:
            flat = flat.reshape(shape, order=order)
        array: NDArray[Any] = flat.view(arrived)
    except RemoteProtocolError:
        raise
    except Exception as error:  # noqa: BLE001 - numpy has as many kinds as there are bad headers
        raise RemoteProtocolError(f"an array arrived that is none: {error}") from None
    return array


def _are_lengths(shape: list[Any]) -> bool:
    """Say whether all are whole numbers, and none below 0."""
    for length in shape:  # noqa: SIM110 - a generator for each array would take longer
        if type(length) is not int or length < 0:
            return False
    return True


def _new(description: object) -> "tuple[np.dtype[Any], int]":
    dtype = _understood(_numpy()[0], description)
    if dtype.hasobject or not dtype.itemsize:
        raise RemoteProtocolError("an array of Python objects or of nothing arrived")
    return dtype, dtype.itemsize


_known = lru_cache(maxsize=256)(_new)


@cache
def _numpy() -> tuple[Any, Any, Any]:
    """Give what builds an array; import numpy, now that one has really arrived."""
    import numpy as np  # noqa: PLC0415 - see above

    from protocol.arrived import ArrivedArray  # noqa: PLC0415 - it needs numpy

    return np.dtype, np.frombuffer, ArrivedArray


def _understood(new: Any, description: Any, depth: int = 0) -> "np.dtype[Any]":  # noqa: ANN401 - numpy's class, and what the peer said
    if type(description) is str:
        if len(description) > _LONGEST:
            raise RemoteProtocolError("an array arrived whose type has too long a name")
        dtype: np.dtype[Any] = new(description)
        if dtype.names is not None or dtype.subdtype is not None:  # those are not sent as text
            raise RemoteProtocolError("an array arrived of columns that are no list")
        return dtype
    if depth > _MAX_NESTING:
        raise RemoteProtocolError("an array of too many columns within columns arrived")
    if len(description) == 2:
        base, shape = description
        return new((_understood(new, base, depth + 1), tuple(shape)))  # type: ignore[no-any-return]
    names, formats, offsets, size, titles = description
    columns = {"names": names, "offsets": offsets, "itemsize": size, "titles": titles}
    kinds = [_understood(new, one, depth + 1) for one in formats]
    return new({**columns, "formats": kinds})  # type: ignore[no-any-return]
