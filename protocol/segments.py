"""Shared memory as it lies in one process: mapped once, gone when nothing refers to it any more.

What arrives is a view: a ctypes array over the mapping that carries its lease, so that every slice
of an array or memoryview keeps both. Nothing here is unmapped by hand: the last reference does it.
Imports ctypes, so it is imported late. The mmap module would keep a descriptor for each mapping,
of which a worker has 1024.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from protocol.errors import RemoteProtocolError

_SEAL_SEAL: Final = 0x1
_SEAL_SHRINK: Final = 0x2
_SEAL_GROW: Final = 0x4
_SEAL_FUTURE_WRITE: Final = 0x10
SEALS: Final = _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW | _SEAL_FUTURE_WRITE
"""The kernel's own numbers; `fcntl` names the last one from Python 3.13 on."""

_GET_SEALS: Final = 1034
_READ: Final = 1
_WRITE: Final = 2
_SHARED: Final = 1
_FAILED: Final = ctypes.c_void_p(-1).value

_libc: Final = ctypes.CDLL(None, use_errno=True)
_mmap: Final = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_munmap: Final = _libc.munmap
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Segment:
    """One segment, mapped; lives as long as anything refers to it.

    Attributes:
        number: The node's number for it.
        size: Bytes.
        shared: The lanes whose readers have it.
        used: Bytes of the one array that lies in it, if there is one.
    """

    __slots__ = (
        "_at_end",
        "_live",
        "_unmap",
        "address",
        "number",
        "shared",
        "size",
        "used",
        "view",
    )

    def __init__(
        self,
        number: int,
        fd: int,
        size: int,
        live: dict[int, int],
        at_end: Callable[[int], object] | None = None,
    ) -> None:
        """Map it.

        Args:
            fd: Its descriptor, which stays the caller's and is not needed afterwards.
            live: Where it is counted as long as it is mapped, its size by its address.
            at_end: Called with its number when it is unmapped; it is mapped writable then.

        Raises:
            OSError: This process has no room for it.
        """
        self._live: dict[int, int] | None = None
        protection = _READ | (_WRITE if at_end is not None else 0)
        address = _mmap(None, size, protection, _SHARED, fd, 0)
        if address in {None, _FAILED}:
            number = ctypes.get_errno() or errno.ENOMEM
            raise OSError(number, os.strerror(number))
        self.number = number
        self.size = size
        self.address: int = address
        self.shared: set[int] = set()
        self.used = 0
        self.view = _kind(size).from_address(address)
        live[address] = size
        self._live, self._at_end, self._unmap = live, at_end, _munmap

    def lease(self, lease: int, freed: Any) -> Any:  # noqa: ANN401 - a deque; a ctypes array
        """Give a view that keeps the segment mapped, and appends `lease` to `freed` at its end."""
        view = _leased_kind(self.size).from_address(self.address)
        view.leased = self, freed, lease
        return view

    def offset_of(self, array: Any) -> int:  # noqa: ANN401 - a numpy array
        """Say how far from the segment's beginning a contiguous view of it begins."""
        if array.nbytes == self.used:
            return 0  # all of it: addresses take longer to find out
        try:
            begin = ctypes.addressof(ctypes.c_ubyte.from_buffer(array))
        except (BufferError, TypeError, ValueError):
            # Read-only, in Fortran's order, or of a type that shows no buffer: the slow way.
            begin = array.__array_interface__["data"][0]
        return begin - self.address

    def own(self) -> Any:  # noqa: ANN401 - a ctypes array
        """Give a writable view that keeps the segment mapped."""
        view = _own_kind(self.size).from_address(self.address)
        view.segment = self
        return view

    def __del__(self) -> None:
        if self._live is None:
            return
        self._live.pop(self.address, None)
        self._unmap(self.address, self.size)
        if self._at_end is not None:
            self._at_end(self.number)


class Leased:
    """What marks a view that carries a lease."""

    __slots__ = ()
    leased: tuple[Segment, Any, int]
    """The segment, and where its lease goes at the end."""

    def __del__(self) -> None:
        _, freed, lease = self.leased
        freed.append(lease)


class Own:
    """What marks a view of a segment that this process may write to; see `Arena.empty`."""

    __slots__ = ()
    segment: Segment


def segment_under(array: Any) -> Segment | None:  # noqa: ANN401 - a numpy array
    """Give the segment of this process's own that an array is a view of."""
    base = array
    while (under := getattr(base, "base", None)) is not None:
        base = under
    return base.segment if isinstance(base, Own) else None


def check(fd: int, size: int) -> None:
    """Make sure that nobody can change a segment's size, or map it anew for writing.

    Raises:
        RemoteProtocolError: It is not sealed, or not so large.
    """
    try:
        seals = fcntl.fcntl(fd, _GET_SEALS)
    except OSError:
        seals = 0
    if seals & SEALS != SEALS or os.fstat(fd).st_size != size:
        raise RemoteProtocolError("a segment arrived that is not sealed, or of another size")


# Types are made once for each size; there are four sizes to a doubling (pool.py).


@lru_cache(maxsize=128)
def _kind(size: int) -> Any:  # noqa: ANN401 - a class
    return ctypes.c_ubyte * size


@lru_cache(maxsize=128)
def _leased_kind(size: int) -> Any:  # noqa: ANN401
    return type("Leased", (Leased, _kind(size)), {"__slots__": ("leased",)})


@lru_cache(maxsize=128)
def _own_kind(size: int) -> Any:  # noqa: ANN401
    return type("Own", (Own, _kind(size)), {"__slots__": ("segment",)})
