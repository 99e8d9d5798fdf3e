"""Say what went wrong in one line, with the exit status that scripts rely on.

Every line reads `spiral-host: <thing>: <what>; <cure>`. A plugin's traceback may follow it,
because that is its author's information; a traceback of ours never does.
"""

import os
from enum import IntEnum
from typing import Final

import click

from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    LoadFailed,
    NoDaemon,
    PermissionDenied,
    ProtocolError,
    RemoteError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
)
from spiral_host.harmless import harmless_line, harmless_text


class Status(IntEnum):
    """What the exit status tells a script."""

    YES = 0
    NO = 1
    USAGE = 2
    NO_DAEMON = 3


class Failure(Exception):
    """A command ends here.

    Attributes:
        text: Thing, what is wrong and the cure, for one line.
        status: The exit status.
        detail: Lines to show below, such as a plugin's traceback; may be empty.
    """

    def __init__(self, text: str, status: Status = Status.NO, *, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.detail = detail


CURES: Final[dict[type[SpiralHostError], str]] = {
    LoadFailed: "fix the plugin and load it again",
    DeadlineExceeded: "see what it is busy with: spiral-host logs ID",
    Cancelled: "call again",
    PermissionDenied: "the operator has to grant it",
    ServiceUnavailable: "see what is offered: spiral-host services",
    WorkerLost: "see why: spiral-host report ID",
    RemoteError: "add --traceback to see where",
    ProtocolError: "send less, or plainer values",
}
"""The cure, for the errors whose own text ends before it."""

STATUS: Final = {UsageError: Status.USAGE, NoDaemon: Status.NO_DAEMON}
"""All other errors are a plain no."""


def explain(error: Exception) -> Failure:
    """Turn any exception into the failure that people read."""
    match error:
        case Failure():
            return error
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "spiral-host"
            what = error.format_message().rstrip(".")
            return Failure(f"{what}; see: {command} --help", Status.USAGE)
        case SpiralHostError():
            return _raised_on_purpose(error)
        case OSError(filename=str(name), strerror=str(why)):
            return Failure(f"{name}: {why}; check that it is yours and that there is room")
        case _:
            return _bug(error)


def show(failure: Failure) -> None:
    """Print a failure where errors belong."""
    click.echo(f"spiral-host: {harmless_line(failure.text)}", err=True)
    if failure.detail:
        click.echo(harmless_text(failure.detail.rstrip("\n")), err=True)


def _raised_on_purpose(error: SpiralHostError) -> Failure:
    cure = next((f"; {cure}" for kind, cure in CURES.items() if isinstance(error, kind)), "")
    status = STATUS.get(type(error), Status.NO)
    return Failure(str(error) + cure, status, detail=getattr(error, "traceback", ""))


def _bug(error: Exception) -> Failure:
    import traceback  # noqa: PLC0415 - seldom needed, and start-up counts

    asked = bool(os.environ.get("SPIRAL_HOST_DEBUG"))
    cure = "please report it" if asked else "set SPIRAL_HOST_DEBUG=1 for a traceback, and report it"
    detail = "".join(traceback.format_exception(error)) if asked else ""
    return Failure(f"a bug of ours: {type(error).__name__}: {error}; {cure}", detail=detail)
