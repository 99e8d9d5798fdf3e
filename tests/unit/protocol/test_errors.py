import copy
import pickle
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    LimitReached,
    LoadFailed,
    LocalProtocolError,
    ManifestError,
    NoDaemon,
    Overloaded,
    PermissionDenied,
    RemoteError,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
    builtin_of,
    from_wire,
    to_wire,
)

TRAVELLERS = [
    UsageError("no such plugin"),
    NoDaemon("/run/x"),
    NoDaemon("/run/x", "refused"),
    ManifestError("greeter", "version", "is missing"),
    LoadFailed("greeter", "import raised", "Traceback"),
    DeadlineExceeded("math.add", 30.0),
    Cancelled("math.add"),
    Overloaded("math", 1.5),
    Overloaded("math", 1.5, "its caller may make 5 calls a second (call_rate)"),
    LimitReached("event_rate", "greeter", "5 events a second"),
    PermissionDenied("network", "port 443"),
    PermissionDenied("read", "/srv/images", "greeter"),
    ServiceUnavailable("math", "nobody offers it"),
    WorkerLost("math", "SIGSEGV"),
    WorkerLost("math", "SIGSEGV", "math.add"),
    RemoteError("math.div", "ZeroDivisionError", "division\nby zero", "Traceback"),
    from_wire("RemoteError", ("math.div", "Worse", "by zero", "Traceback", "ZeroDivisionError")),
    LocalProtocolError("too long"),
    RemoteProtocolError("garbage"),
]


NEVER = [
    "Exception",
    "BaseException",
    "StopIteration",
    "StopAsyncIteration",
    "GeneratorExit",
    "SystemExit",
    "KeyboardInterrupt",
    "ExceptionGroup",
    "UserWarning",
    "print",
    "__import__",
    "object",
    "IOError",
    "RemoteError",
    "",
]
ODD = [
    "OSError",
    "TimeoutError",
    "BlockingIOError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeTranslateError",
    "KeyError",
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
    "TabError",
    "AttributeError",
    "NameError",
    "MemoryError",
    "RecursionError",
    "ValueError",
]
"""Builtin types with constructors, attributes or texts of their own, and one without."""

TEXTS = st.text(max_size=8)


class TestErrors:
    @pytest.mark.parametrize("error", TRAVELLERS, ids=repr)
    def test_an_error_travels_whole(self, error: SpiralHostError) -> None:
        """
        What arrives is of the same class, with the same subject and the same words.
        """
        arrived = from_wire(*to_wire(error))

        assert type(arrived) is type(error)
        assert str(arrived) == str(error)
        assert {**vars(arrived)} == {**vars(error)}

    @pytest.mark.parametrize("error", TRAVELLERS, ids=repr)
    def test_an_error_is_said_in_one_line(self, error: SpiralHostError) -> None:
        """
        Every error tells people what is wrong in one line.
        """
        assert str(error)
        assert "\n" not in str(error)

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [("Exploit", ()), ("RemoteError", ("one",)), ("Overloaded", ("math", "soon")), ("", ())],
    )
    def test_an_unknown_error_is_the_senders_fault(
        self, kind: str, fields: tuple[str, ...]
    ) -> None:
        """
        A kind that nobody knows, or with fields it does not have, breaks the protocol.
        """
        assert type(from_wire(kind, fields)) is RemoteProtocolError

    def test_half_a_character_travels_escaped(self) -> None:
        """
        A message with a lone surrogate, as file names give them, does not stop the error.
        """
        _, fields = to_wire(RemoteError("fs.open", "OSError", "no file \udcff"))

        assert fields[2] == r"no file \udcff"

    @given(
        st.sampled_from(["RemoteError", "WorkerLost", "Overloaded", "Exploit"]) | TEXTS,
        st.lists(TEXTS | st.sampled_from(["nan", "1e999", *ODD, *NEVER]), max_size=7),
    )
    def test_whatever_arrives_is_an_error(self, kind: str, fields: list[str]) -> None:
        """
        Any number of fields with any text is one of our errors, and can be shown and passed on.
        """
        error = from_wire(kind, tuple(fields))

        assert isinstance(error, SpiralHostError)
        assert not isinstance(error, RemoteError) or len(str(error).splitlines()) == 1
        assert str(from_wire(*to_wire(error))) == str(error)


class TestWorkerLost:
    def test_it_says_what_the_caller_may_do(self) -> None:
        """
        Whose process, how it ended, in which call, and that the call may have run.
        """
        assert str(WorkerLost("math", "SIGKILL (hung)", "math.add")) == (
            "worker of math was lost during math.add: SIGKILL (hung); the call may have run, "
            "so make it again only if twice does no harm"
        )
        assert "was lost during the call: SIGKILL" in str(WorkerLost("math", "SIGKILL"))
        assert WorkerLost("math", "SIGKILL").fields() == ["math", "SIGKILL"]


def arrived(builtin: str) -> RemoteError:
    error = from_wire("RemoteError", ("a.b", "Worse", "so\nbad", "Traceback\n  x", builtin))
    assert isinstance(error, RemoteError)
    return error


class TestRemoteError:
    def test_it_knows_which_call_it_is_about(self) -> None:
        """
        A service's name may have dots; a method's has none.
        """
        error = RemoteError("app.math.div", "ZeroDivisionError", "by zero")

        assert (error.service, error.method) == ("app.math", "div")
        assert (error.plugin, error.call_id, error.builtin) == ("", "", "")
        assert RemoteError("odd", "E", "").method == "odd"

    @pytest.mark.parametrize("builtin", ODD)
    def test_a_builtin_type_can_be_caught_as_itself(self, builtin: str) -> None:
        """
        What a plugin raised as a ValueError is caught as one, and is a RemoteError all the same.
        """
        kind = getattr(sys.modules["builtins"], builtin)
        with pytest.raises(kind) as caught:
            raise arrived(builtin)

        error = caught.value
        assert isinstance(error, RemoteError)
        assert type(error).__name__ == f"Remote{builtin}"
        assert type(error) is type(arrived(builtin))
        assert (error.type_name, error.text, error.builtin) == ("Worse", "so\nbad", builtin)
        assert str(error) == r"a.b raised Worse: so\nbad"
        assert to_wire(error) == ("RemoteError", error.args)

    @pytest.mark.parametrize("builtin", ODD)
    def test_what_a_builtin_type_brings_does_not_break_it(self, builtin: str) -> None:
        """
        Its attributes can be read, and Python can show it with a traceback.
        """
        error = arrived(builtin)
        # A BlockingIOError of Python's own has no such attribute either until it is set.
        names = set(dir(error)) - {"characters_written"}

        assert {name for name in names if not hasattr(error, name)} == set()
        assert getattr(error, "errno", None) is None
        assert r"a.b raised Worse: so\nbad" in "".join(traceback.format_exception(error))
        assert "Worse" in repr(error)

    @pytest.mark.parametrize("builtin", [*ODD, ""])
    def test_it_can_be_copied(self, builtin: str) -> None:
        """
        A copy, a deep one and one by pickle are of the same class, with everything it carries.
        """
        error = arrived(builtin)
        error.plugin, error.call_id = "greeter", "7:1"

        for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
            assert type(twin) is type(error)
            assert vars(twin) == vars(error)
            assert (str(twin), twin.args) == (str(error), error.args)

    @pytest.mark.parametrize("name", NEVER)
    def test_no_other_type_is_believed(self, name: str) -> None:
        """
        What ends loops or processes, and what is no exception, cannot be raised from outside.
        """
        assert type(arrived(name)) is RemoteError

    def test_the_nearest_builtin_type_is_named(self) -> None:
        """
        A plugin's own exception is named by the builtin one that it is a kind of.
        """

        class Worse(LookupError, OSError):
            pass

        assert builtin_of(Worse) == "LookupError"
        assert builtin_of(UnicodeDecodeError) == "UnicodeDecodeError"
        assert builtin_of(type(arrived("KeyError"))) == "KeyError"
        for kind in (Exception, SystemExit, StopIteration, UserWarning, ExceptionGroup, WorkerLost):
            assert builtin_of(kind) == ""
