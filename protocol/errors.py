"""Every error that people may catch, named for whose turn it is to act.

Each carries its subject as attributes and says in one line what is wrong and what cures it.
`to_wire` and `from_wire` carry them between processes as text; code never travels.
"""

import builtins
import errno
from collections.abc import Callable
from functools import cache
from typing import Any, Final


class SpiralHostError(Exception):
    """The base of every error that this project raises on purpose."""

    def fields(self) -> list[str]:
        """Give the constructor's arguments, in order, as they travel to another process."""
        return [travelling(str(argument)) for argument in self.args]


class UsageError(SpiralHostError):
    """The caller asked for something that cannot be meant: a bad name, an unknown plugin."""


class NoDaemon(SpiralHostError):
    """Nobody serves this run directory."""

    def __init__(self, run_dir: str, why: str = "") -> None:
        super().__init__(run_dir, why)
        self.run_dir = run_dir
        self.why = why

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return f"no daemon serves {self.run_dir}{why}; start one with: spiral-host start"


class ManifestError(SpiralHostError):
    """A plugin's declaration is wrong; its author has to change it.

    Attributes:
        plugin_id: The plugin, or its path while its id is not known.
        field: The field of the manifest, or the file's name when it cannot be read at all.
    """

    def __init__(self, plugin_id: str, field: str, text: str) -> None:
        super().__init__(plugin_id, field, text)
        self.plugin_id = plugin_id
        self.field = field
        self.text = text

    def __str__(self) -> str:
        return f"{self.plugin_id}: {self.field}: {self.text}"


class LoadFailed(SpiralHostError):
    """A plugin could not be brought up: its import, its metadata or its on_load raised."""

    def __init__(self, plugin_id: str, reason: str, traceback: str = "") -> None:
        super().__init__(plugin_id, reason, traceback)
        self.plugin_id = plugin_id
        self.reason = reason
        self.traceback = traceback

    def __str__(self) -> str:
        return f"plugin {self.plugin_id} did not load: {self.reason}"


class DeadlineExceeded(SpiralHostError):
    """The caller's time ran out; the call may have been carried out all the same."""

    def __init__(self, call: str, after_s: float | str) -> None:
        super().__init__(call, after_s)
        self.call = call
        self.after_s = float(after_s)

    def __str__(self) -> str:
        return f"{self.call}: no answer after {self.after_s:g} s; it may still be running"


class Cancelled(SpiralHostError):
    """The caller no longer wants the answer."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return f"{self.call}: cancelled"


class Overloaded(SpiralHostError):
    """The callee has as much to do as it may hold; nothing of this call was carried out."""

    def __init__(self, service: str, retry_after: float | str, why: str = "") -> None:
        super().__init__(service, retry_after, *([why] if why else []))
        self.service = service
        self.retry_after = float(retry_after)
        self.why = why

    def __str__(self) -> str:
        why = f": {self.why}" if self.why else ""
        return f"{self.service}: overloaded{why}; try again in {self.retry_after:g} s"


class LimitReached(SpiralHostError):
    """A plugin uses as much as it may; nothing of this was done.

    Attributes:
        limit: The word of the manifest's `[limits]`.
        allowed: How much that is, for people.
    """

    def __init__(self, limit: str, plugin_id: str, allowed: str) -> None:
        super().__init__(limit, plugin_id, allowed)
        self.limit = limit
        self.plugin_id = plugin_id
        self.allowed = allowed

    def __str__(self) -> str:
        return (
            f"{self.plugin_id}: limit {self.limit} is reached: {self.allowed}; "
            "ask for more in [limits], up to what the operator's [limits] allow"
        )


class PermissionDenied(SpiralHostError, PermissionError):
    """The operator did not grant this; a builtin PermissionError too, for code that knows those.

    Attributes:
        permission: The word that would have to be granted: `read`, `network`, `services`, ...
        what: What was tried, as a person would ask for it: a path, a port, a name.
        plugin_id: Who tried; empty where that is not known.
        errno: As the kernel would have refused it.
    """

    def __init__(self, permission: str, what: str, plugin_id: str = "") -> None:
        # Not by `super()`: OSError comes next, and reads meaning into arguments.
        self.args = (permission, what, plugin_id)
        self.permission = permission
        self.what = what
        self.plugin_id = plugin_id
        self.errno = errno.EACCES if permission in ("read", "write") else errno.EPERM
        self.strerror = f"the operator did not grant {permission}"

    def __str__(self) -> str:
        whose = f"{self.plugin_id}: " if self.plugin_id else ""
        return (
            f"{whose}the operator did not grant {self.permission}: {self.what}; ask for it in "
            f"[permissions], then: spiral-host grant {self.plugin_id or 'ID'}"
        )


class ServiceUnavailable(SpiralHostError):
    """Nobody offers this service now; nothing of the call was carried out."""

    def __init__(self, service: str, why: str) -> None:
        super().__init__(service, why)
        self.service = service
        self.why = why

    def __str__(self) -> str:
        return f"service {self.service} is not available: {self.why}"


class WorkerLost(SpiralHostError):
    """The callee's process died while it had the call; the call may have been carried out.

    Attributes:
        plugin_id: Whose process it was.
        cause: How it ended, as `protocol.messages.Cause` says it.
        call: The call that was lost, `service.method`, or empty when that is not known.
    """

    def __init__(self, plugin_id: str, cause: str, call: str = "") -> None:
        super().__init__(plugin_id, cause, *([call] if call else []))
        self.plugin_id = plugin_id
        self.cause = cause
        self.call = call

    def __str__(self) -> str:
        during = self.call or "the call"
        return (
            f"worker of {self.plugin_id} was lost during {during}: {self.cause}; the call may have "
            "run, so make it again only if twice does no harm"
        )


class RemoteError(SpiralHostError):
    """The plugin's own code raised; what travels is text, never code.

    Where the plugin raised a builtin exception, or a kind of one, what arrives is of that type
    too, so `except ValueError` catches it. Whatever a callee's own calls came to (`WorkerLost`,
    `DeadlineExceeded`) also arrives like this: it is not the fate of the call that was made here.

    Attributes:
        call: The call that raised, `service.method`.
        type_name: The exception's class, as its author named it.
        text: Its message.
        traceback: The callee's traceback, frames of plugins and libraries only, for people.
        builtin: The nearest builtin class that the exception is of, or empty.
        plugin: Id of the plugin whose code raised; the caller's side knows it, it does not travel.
        call_id: The call's `incarnation:number`, which does not travel either.
    """

    def __init__(
        self, call: str, type_name: str, text: str, traceback: str = "", builtin: str = ""
    ) -> None:
        # Not by `super()`: what comes next may be OSError, which reads meaning into arguments.
        self.args = (call, type_name, text, traceback, builtin)
        self.call = call
        self.type_name = type_name
        self.text = text
        self.traceback = traceback
        self.builtin = builtin
        self.plugin = ""
        self.call_id = ""

    @property
    def service(self) -> str:
        """The service that was called."""
        return self.call.rpartition(".")[0]

    @property
    def method(self) -> str:
        """The method that raised."""
        return self.call.rpartition(".")[2]

    def __str__(self) -> str:
        return r"\n".join(f"{self.call} raised {self.type_name}: {self.text}".splitlines())

    def __reduce__(self) -> tuple[Any, ...]:
        # The classes that are builtin ones too have no place in a module to be found at.
        return _remote_error, self.args, vars(self)


class ProtocolError(SpiralHostError):
    """Somebody broke the protocol; see the two below for who."""


class LocalProtocolError(ProtocolError):
    """We were asked to send what the protocol cannot carry; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol; its connection ends, nobody else's."""


_BUILTIN: Final = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, StopIteration | StopAsyncIteration | Warning | BaseExceptionGroup)
    and kind is not Exception
    and kind.__name__ == name
}
"""The builtin types that a caller may catch. What ends loops and processes is not for a callee to
raise, a group is nothing without its parts, and `IOError` is only an old name."""

_CATCHABLE: Final = frozenset(_BUILTIN.values())


def builtin_of(kind: type[BaseException]) -> str:
    """Name the nearest builtin class that an exception is of and may be caught as, or nothing."""
    return next((base.__name__ for base in kind.__mro__ if base in _CATCHABLE), "")


def _remote_error(*fields: str) -> RemoteError:
    """Build what arrives when a plugin raised; also what copying and pickling call."""
    builtin = fields[4] if len(fields) > 4 else ""
    return _remote_kind(builtin)(*fields) if builtin in _BUILTIN else RemoteError(*fields)


@cache
def _remote_kind(builtin: str) -> type[RemoteError]:
    base = _BUILTIN[builtin]
    # Who shows an ImportError or a SyntaxError reads `msg`, not `str()`.
    body = {"__module__": __name__, **({"msg": property(str)} if hasattr(base, "msg") else {})}
    return type(f"Remote{builtin}", (RemoteError, base), body)


_TRAVELLING: Final[dict[str, Callable[..., SpiralHostError]]] = {
    "RemoteError": _remote_error,
    **{
        kind.__name__: kind
        for kind in (
            UsageError,
            NoDaemon,
            ManifestError,
            LoadFailed,
            DeadlineExceeded,
            Cancelled,
            Overloaded,
            LimitReached,
            PermissionDenied,
            ServiceUnavailable,
            WorkerLost,
            LocalProtocolError,
            RemoteProtocolError,
        )
    },
}


def travelling(text: str) -> str:
    """Escape the lone surrogates in a text: half a character cannot travel."""
    return text.encode("utf-8", "backslashreplace").decode()


def to_wire(error: SpiralHostError) -> tuple[str, tuple[str, ...]]:
    """Turn an error into its name and its constructor's arguments, as text."""
    kind = RemoteError if isinstance(error, RemoteError) else type(error)
    return kind.__name__, tuple(error.fields())


def from_wire(kind: str, fields: tuple[str, ...]) -> SpiralHostError:
    """Build the error again; what nobody knows becomes a `RemoteProtocolError` that quotes it."""
    try:
        return _TRAVELLING[kind](*fields)
    except (KeyError, TypeError, ValueError):
        return RemoteProtocolError(f"an unknown kind of error arrived: {kind[:80]!r}")


def in_a_line(error: BaseException) -> str:
    """Say what somebody else's code has raised: type and message, at most 300 characters."""
    try:
        text = str(error).split("\n", 1)[0]
    except BaseException:  # noqa: BLE001 - a plugin's own __str__ may do anything
        text = "(its message cannot be read)"
    return travelling(f"{type(error).__name__}: {text}"[:300])
