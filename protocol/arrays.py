"""Carry a numpy array inside a frame, and hand it over read-only.

numpy is imported only once an array arrives: whoever has one to send has it imported already.
Arrays larger than a frame do not travel this way.
"""

import struct
from typing import TYPE_CHECKING, Any, Final

import msgpack

from protocol.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARRAY: Final = 1
"""msgpack's extension type of an array: u16 length, msgpack [dtype, shape], bytes in C order."""

_LENGTH: Final = struct.Struct("!H")
_MAX_DIMENSIONS: Final = 32
"""numpy 1's own limit; numpy 2 allows 64, but both ends have to read it."""


def is_numpy(value: object) -> bool:
    """Say whether a value is numpy's, without importing numpy."""
    return type(value).__module__ == "numpy"


def to_extension(value: "NDArray[Any] | np.generic") -> object:
    """Turn an array into an extension value, and a numpy scalar into a plain one.

    Raises:
        LocalProtocolError: The array holds Python objects, which never travel.
    """
    if not hasattr(value, "__array_interface__") or not hasattr(value, "tobytes"):
        raise LocalProtocolError(f"cannot send a {type(value).__name__}; send an array")
    if value.dtype.hasobject:
        raise LocalProtocolError("cannot send an array of Python objects; give it a plain dtype")
    if value.shape == () and not _is_array(value):
        return value.item()
    dtype = value.dtype.str if value.dtype.names is None else _columns(value.dtype)
    if not value.dtype.itemsize or value.ndim > _MAX_DIMENSIONS:
        raise LocalProtocolError(f"cannot send an array of {value.ndim} dimensions of {dtype}")
    head = msgpack.packb([dtype, list(value.shape)])
    return msgpack.ExtType(ARRAY, _LENGTH.pack(len(head)) + head + value.tobytes())


def _columns(dtype: "np.dtype[Any]") -> list[Any]:
    columns: list[Any] = dtype.descr
    if all(isinstance(name, str) and name and isinstance(kind, str) for name, kind, *_ in columns):
        return columns
    raise LocalProtocolError("cannot send columns with titles, gaps or columns of their own")


def _is_array(value: object) -> bool:
    return hasattr(value, "__setitem__")


def from_extension(body: bytes) -> "NDArray[Any]":
    """Build the array again, read-only, over the bytes that arrived.

    Raises:
        RemoteProtocolError: The header lies about what follows.
    """
    import numpy as np  # noqa: PLC0415 - only when an array really arrives

    try:
        (length,) = _LENGTH.unpack_from(body)
        dtype, shape = msgpack.unpackb(body[2 : 2 + length])
        if not isinstance(dtype, str):
            dtype = [tuple(column) for column in dtype]
        kind = np.dtype(dtype)
        if kind.hasobject or len(shape) > _MAX_DIMENSIONS:
            raise RemoteProtocolError("an array of Python objects or too many dimensions arrived")
        return np.frombuffer(body, kind, offset=2 + length).reshape(shape)
    except RemoteProtocolError:
        raise
    except Exception as error:  # noqa: BLE001 - numpy has as many kinds as there are bad headers
        raise RemoteProtocolError(f"an array arrived that is none: {error}") from None
