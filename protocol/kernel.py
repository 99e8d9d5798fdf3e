"""What a call asks of the kernel, and the one thing it reads of a frame: by the shortest way.

Nothing here waits but `wait`. Where this is compiled, `kernel.pyx` says the same in C.
"""

import os
import select
import struct
from typing import Final

_LENGTH: Final = struct.Struct("!I")

_AT_ONCE: Final = 32
"""Descriptors that the kernel tells of at once. Where it is not said, Python asks the C library for
room for a thousand each time; for these it has some in store."""


def read(fd: int, most: int) -> bytes:
    """Read what is there, so many bytes at most; raises as `os.read`."""
    return os.read(fd, most)


def write(fd: int, data: bytes | bytearray) -> int:
    """Write what there is room for; say how many bytes. Raises as `os.write`."""
    return os.write(fd, data)


def write_frame(fd: int, body: bytes) -> int:
    """Write `u32 length, body`, or as much of it as there is room for; as `write`."""
    return os.write(fd, head_of(body) + body)


def length_at(data: bytes | bytearray, at: int) -> int:
    """Give the length of a frame's body, from the four bytes that lie there."""
    length: int = _LENGTH.unpack_from(data, at)[0]
    return length


def head_of(body: bytes) -> bytes:
    """Give the four bytes that lie before a frame's body: its length."""
    return _LENGTH.pack(len(body))


def cut(data: bytes | bytearray, start: int, end: int) -> bytes:
    """Give some of the bytes."""
    return bytes(data[start:end])


def put(page: memoryview, at: int, data: bytes) -> None:
    """Write bytes into memory that others read."""
    page[at : at + len(data)] = data


def wait(epoll: select.epoll, longest_s: float) -> list[tuple[int, int]]:
    """Wait until something has happened, or the time is up; less than 0 is for ever.

    Returns:
        Descriptors, and what has happened to each: as `select.epoll.poll`.
    """
    return epoll.poll(longest_s, _AT_ONCE)
