"""The bytes of our own `add(1, 2)` and of its reply, for those who only move bytes."""

from typing import Final

import msgpack

from protocol.calls import VALUE, call_parts

_HEAD: Final = 4
_NUMBER: Final = 500
"""A call's number takes three bytes during most of a worker's life."""


def lane_frames() -> tuple[bytes, bytes]:
    """Give a call and its reply as they lie in a lane."""
    call = call_parts(_NUMBER, "adder", "add", (1, 2), {}, 1.5, ())
    return _framed(call), _framed((_NUMBER, VALUE, 3))


def _framed(parts: tuple[object, ...]) -> bytes:
    body: bytes = msgpack.packb(parts)
    return len(body).to_bytes(_HEAD, "big") + body
