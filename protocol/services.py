"""Services as plugins and applications both meet them: offer, find, and arrays to call with."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from protocol.errors import ServiceUnavailable, UsageError
from protocol.stub import DEFAULT_TIMEOUT_S, Options

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from protocol.arena import Arena

T = TypeVar("T")


class Provider(Protocol):
    """What a process has to do for it."""

    @property
    def arena(self) -> "Arena":
        """The process's shared memory."""

    def offer(self, name: str, service: object, kind: Callable[..., Any] | None) -> None:
        """Offer a service."""

    def withdraw(self, name: str) -> bool:
        """Offer it no more."""

    def find_service(self, name: str, wait_s: float, options: Options) -> Any:  # noqa: ANN401
        """Give a stub, the object itself if it is the process's own, or None."""


class Services(ABC):
    """The services of a process and those of others."""

    @property
    @abstractmethod
    def _provider(self) -> Provider:
        """Who does it."""

    def register_service(
        self, name: str, service: object, kind: Callable[..., Any] | None = None
    ) -> None:
        """Offer an object: its public methods can be called from other processes.

        Arguments are checked by the methods' annotations before a method runs.

        Args:
            kind: A `typing.Protocol`: its methods are offered, by its annotations, and no others.

        Raises:
            UsageError: The name is no service name, the object has no public method or is not what
                `kind` says, or an annotation names what cannot travel.
        """
        self._provider.offer(name, service, kind)

    def unregister_service(self, name: str) -> bool:
        """Offer it no more; say whether it was offered."""
        return self._provider.withdraw(name)

    @overload
    def get_service(self, name: str, *, timeout: float = ..., wait: bool = ...) -> Any: ...  # noqa: ANN401

    @overload
    def get_service(
        self, name: str, kind: Callable[..., T], *, timeout: float = ..., wait: bool = ...
    ) -> T | None: ...

    def get_service(
        self,
        name: str,
        kind: Callable[..., T] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        wait: bool = True,
    ) -> Any:
        """Give a stub of a service, the object itself if it is this process's own, else None.

        Args:
            kind: What the service is to be, most often a `typing.Protocol`; results are given as
                its annotations have them, and type checkers know the stub as one.
            timeout: Seconds that each call may take.
            wait: Whether a call waits while nobody offers the service any more, as during a
                restart, or fails at once.

        Raises:
            UsageError: The name is no text, `kind` no class with public methods, or the timeout no
                time.
        """
        name = _text(name)
        return self._provider.find_service(name, 0.0, Options(kind, timeout, wait))

    @overload
    def wait_service(self, name: str, timeout: float) -> Any: ...  # noqa: ANN401

    @overload
    def wait_service(self, name: str, timeout: float, kind: Callable[..., T]) -> T: ...

    def wait_service(self, name: str, timeout: float, kind: Callable[..., T] | None = None) -> Any:
        """Give a stub as soon as somebody offers the service.

        Args:
            timeout: Seconds to wait for that.
            kind: As for `get_service`.

        Raises:
            ServiceUnavailable: Nobody did in time.
        """
        name = _text(name)
        stub = self._provider.find_service(name, timeout, Options(kind))
        if stub is None:
            raise ServiceUnavailable(name, f"nobody offered it within {timeout:g} s")
        return stub

    def empty(self, shape: int | tuple[int, ...], dtype: "DTypeLike") -> "NDArray[Any]":
        """Give an array in shared memory: sending it, or a contiguous part of it, copies nothing.

        It is all zeros, and writable. Whoever it was sent to sees what is written to it later, so
        write to it first, and to another one while they still look.

        Raises:
            LocalProtocolError: Its dtype cannot travel, or there is no room: 2 GiB a process.
        """
        return self._provider.arena.empty(shape, dtype)


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise UsageError(f"a service's name is text, not {type(name).__name__}")
    return name
