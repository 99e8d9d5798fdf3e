"""Another plugin's service as an object: its public attributes are the service's methods.

stub.add(1, 2)            waits and gives the value
stub.add.submit(1, 2)     gives a future at once
await stub.aio.add(1, 2)  the same for a coroutine; `async for` reads a stream
stub.add(1, 2, timeout=5) with a deadline of its own
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import UsageError
from protocol.names import parse_method

if TYPE_CHECKING:
    import inspect

    from protocol.aio import AioCall
    from protocol.caller import Caller
    from protocol.future import Future
    from protocol.typed import Signature

DEFAULT_TIMEOUT_S: Final = 30.0
"""Long for a call and short for a person: half of gunicorn's patience, all of RPyC's."""

MAX_TIMEOUT_S: Final = 1e9
"""Thirty years, for who means to wait for ever."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a stub calls, unless a call says otherwise.

    Attributes:
        kind: What the service is to be, most often a `typing.Protocol`: results are given as its
            annotations have them. None is whatever it is.
        timeout: Seconds that each call may take, its stream included.
        wait: Whether a call waits for somebody to offer the service, or fails at once.
    """

    kind: Callable[..., Any] | None = None
    timeout: float = DEFAULT_TIMEOUT_S
    wait: bool = True


class Method:
    """One method of a service, ready to be called.

    Attributes:
        timeout: Seconds that each call may take, its stream included.
        waits: Whether a call waits for somebody to offer the service, or fails at once.
    """

    __slots__ = ("_call", "caller", "name", "service", "timeout", "waits", "what")

    def __init__(
        self,
        caller: "Caller",
        service: str,
        name: str,
        timeout: float,
        *,
        waits: bool,
        signature: "Signature | None" = None,
    ) -> None:
        self.service = service
        self.name = name
        self.what = (service, name, f"{service}.{name}", signature)
        self.timeout = timeout
        self.waits = waits
        self.caller = caller
        self._call = caller.call

    def __call__(self, *arguments: object, **keywords: Any) -> Any:  # noqa: ANN401
        """Call it in the process that offers it; see `Caller.call` for what may be raised.

        The keyword `timeout` is the call's own deadline, seconds; a parameter of the method that
        has this name is given by position.
        """
        method = self._within(keywords) if keywords and "timeout" in keywords else self
        return self._call(method, arguments, keywords)

    def submit(self, *arguments: object, **keywords: Any) -> "Future":  # noqa: ANN401
        """Call it without waiting for its value; takes what calling it takes."""
        method = self._within(keywords) if keywords and "timeout" in keywords else self
        return self.caller.submit(method, arguments, keywords)

    def _within(self, keywords: dict[str, Any]) -> "Method":
        """Take a call's own deadline out of its keywords, and give this method with it."""
        return self.options(timeout=keywords.pop("timeout"))

    def options(self, *, timeout: float | None = None, wait: bool | None = None) -> "Method":
        """Give this method with other options.

        Args:
            timeout: Seconds that each call may take.
            wait: Whether to wait while nobody offers the service.

        Raises:
            UsageError: The timeout is no time.
        """
        return Method(
            self.caller,
            self.service,
            self.name,
            self.timeout if timeout is None else parse_timeout(timeout),
            waits=self.waits if wait is None else wait,
            signature=self.what[3],
        )

    @property
    def __signature__(self) -> "inspect.Signature":
        """What it takes, for `inspect` and for help: known where the stub's kind was asked for."""
        from inspect import Parameter, Signature  # noqa: PLC0415 - for who asks

        known = self.what[3]
        if known is not None and known.parameters is not None:
            return known.parameters
        rest = ("arguments", Parameter.VAR_POSITIONAL), ("keywords", Parameter.VAR_KEYWORD)
        return Signature([Parameter(name, kind) for name, kind in rest])

    def __str__(self) -> str:
        return self.what[2]

    def __repr__(self) -> str:
        return f"<method {self}>"


class Stub:
    """A service of another process. May be used from any thread, and by `aio` from any loop."""

    def __init__(
        self,
        caller: "Caller",
        service: str,
        options: Options,
    ) -> None:
        self._signatures = None if options.kind is None else _results(options.kind)
        self._caller = caller
        self._service = service
        self._timeout = parse_timeout(options.timeout)
        self._wait = options.wait

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a Method, or `aio`
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "aio":
            self.__dict__[name] = found = Aio(self)
            return found
        signature = None
        if self._signatures is not None:
            if name not in self._signatures:
                raise AttributeError(f"service {self._service} has no {name} as it was asked for")
            signature = self._signatures[name]
        method = self.__dict__[name] = Method(
            self._caller,
            self._service,
            parse_method(name),
            self._timeout,
            waits=self._wait,
            signature=signature,
        )
        return method

    def __repr__(self) -> str:
        return f"<stub of service {self._service}>"


class Aio:
    """The same service for coroutines: each call is to be awaited, or iterated over."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> "AioMethod":
        if name.startswith("_"):
            raise AttributeError(name)
        found = self.__dict__[name] = AioMethod(getattr(self._stub, name))
        return found

    def __repr__(self) -> str:
        return f"{self._stub!r}.aio"


class AioMethod:
    """One method of a service for coroutines."""

    __slots__ = ("_method",)

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(self, *arguments: object, **keywords: Any) -> "AioCall":  # noqa: ANN401
        """Begin nothing yet; to be awaited, made a task of, or iterated over with `async for`."""
        from protocol.aio import AioCall  # noqa: PLC0415 - asyncio, for those who have it anyway

        method = self._method
        if "timeout" in keywords:
            method = method.options(timeout=keywords.pop("timeout"))
        return AioCall(method, arguments, keywords)

    def __repr__(self) -> str:
        return f"<method {self._method} for coroutines>"


def _results(kind: Callable[..., Any]) -> "dict[str, Signature]":
    from protocol.interface import interface_of_kind  # noqa: PLC0415 - for typed stubs only

    return interface_of_kind(kind)


def parse_timeout(timeout: float) -> float:
    """Check a number of seconds.

    Raises:
        UsageError: It is none, or not more than 0.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise UsageError(f"a timeout is a number of seconds above 0, not {timeout!r}")
    if not 0 < timeout <= MAX_TIMEOUT_S:
        raise UsageError(
            f"a timeout is a number of seconds above 0, {MAX_TIMEOUT_S:g} at most, not {timeout!r}"
        )
    return float(timeout)
