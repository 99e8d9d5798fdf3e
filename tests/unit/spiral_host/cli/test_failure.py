import click
import pytest

from protocol.errors import (
    DeadlineExceeded,
    NoDaemon,
    RemoteError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
    from_wire,
)
from spiral_host.cli.failure import Failure, explain, show

STATUS_OF = {
    "bad name": (UsageError("'../x' is no plugin id; use letters"), 2),
    "bad command line": (click.UsageError("Missing argument 'ID'."), 2),
    "unreadable": (click.FileError("x", "gone"), 1),
    "no daemon": (NoDaemon("/run/x"), 3),
    "raised": (RemoteError("math.div", "ZeroDivisionError", "division by zero"), 1),
    "died": (WorkerLost("alpha", "SIGSEGV"), 1),
    "late": (DeadlineExceeded("math.div", 1.0), 1),
    "unavailable": (ServiceUnavailable("math", "its worker restarts"), 1),
    "not ours": (PermissionError(13, "Permission denied", "/run/x"), 1),
    "bug": (KeyError("x"), 1),
}


@pytest.mark.parametrize(("error", "status"), STATUS_OF.values(), ids=STATUS_OF)
def test_every_error_has_a_status_and_a_cure(error: Exception, status: int) -> None:
    """
    2 is wrong usage, 3 no daemon, 1 everything else; the line says what to do about it.
    """
    failure = explain(error)

    assert failure.status == status
    assert "; " in failure.text


def test_a_plugins_builtin_error_is_not_taken_for_ours() -> None:
    """
    What a plugin raised as an OSError is its error, with the way to its traceback.
    """
    raised = from_wire("RemoteError", ("fs.open", "OSError", "no file", "Traceback", "OSError"))
    assert isinstance(raised, OSError)

    told = "fs.open raised OSError: no file; add --traceback to see where"
    assert explain(raised).text == told


def test_our_own_bug_is_one_line_until_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    People see a traceback of ours only when they ask for one.
    """
    monkeypatch.delenv("SPIRAL_HOST_DEBUG", raising=False)
    assert explain(KeyError("x")).detail == ""

    monkeypatch.setenv("SPIRAL_HOST_DEBUG", "1")
    assert "KeyError" in explain(KeyError("x")).detail


def test_a_failure_is_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A plugin's text cannot make an error two lines, nor colour its traceback.
    """
    show(Failure("alpha: bad\nspiral-host: all is well", detail="Traceback\n  \x1b[2J"))

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "spiral-host: alpha: bad\\nspiral-host: all is well\nTraceback\n  \\x1b[2J\n"


def test_a_new_kind_of_error_is_a_no() -> None:
    """
    An error that the table does not know is still told, with status 1.
    """
    assert explain(SpiralHostError("x is y; do z")).status == 1
