import linecache
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import msgpack
import pytest

from protocol.codec import new_packer, pack_value, unpack_value
from protocol.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    Overloaded,
    RemoteError,
    ServiceUnavailable,
    SpiralHostError,
    WorkerLost,
    from_wire,
    to_wire,
)
from protocol.remote import MAX_TEXT, MAX_TRACEBACK, report, set_root

PLUGIN = """
def fail():
    raise ValueError("no")

def chain():
    try:
        fail()
    except ValueError as error:
        raise KeyError("gone") from error

def context():
    try:
        fail()
    finally:
        {}["x"]

def hidden():
    try:
        fail()
    except ValueError:
        raise OSError(2, "No such file", __file__) from None

def recurse():
    recurse()

def pack(pack):
    pack({1, 2})

def make_path():
    import pathlib
    pathlib.Path(__file__, "x").read_text()

def again(error):
    raise error

def group():
    try:
        fail()
    except ValueError as error:
        raise ExceptionGroup("many", [error, ExceptionGroup("in", [error])])
"""


class Liar(ValueError):
    """An exception that raises whatever it is asked."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        """Raise."""
        raise SystemExit


class Secretive(Exception):
    """An exception that does not say what led to it."""

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        """Raise."""
        raise RuntimeError


class Endless(Exception):
    """An exception that has more to say than anybody reads."""

    def __str__(self) -> str:
        return "ä" * 1_000_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def plugin(home: Path) -> Iterator[dict[str, Any]]:
    """Run a plugin's file that lies in the home folder."""
    root = home / "greeter"
    root.mkdir()
    path = root / "plugin.py"
    path.write_text(PLUGIN)
    set_root(str(root))
    names = {"__file__": str(path), "__name__": "plugin"}
    exec(compile(PLUGIN, str(path), "exec"), names)
    yield names
    set_root("")
    linecache.clearcache()


def caught(function: Callable[..., object], *arguments: object) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is wanted
        # Without this test's own frame, which no plugin's traceback has.
        here = error.__traceback__
        return error.with_traceback(here.tb_next if here else None)
    raise AssertionError("nothing was raised")


def through(call: str, error: BaseException) -> RemoteError:
    """Give what the caller of `call` gets when its handler raises."""
    arrived = from_wire(*to_wire(report(call, error)))
    assert isinstance(arrived, RemoteError)
    return arrived


class TestReport:
    def test_a_traceback_is_as_python_writes_it(self, plugin: dict[str, Any]) -> None:
        """
        The call, the type, the message, and the frames by names that the author knows.
        """
        error = report("greeter.fail", caught(plugin["fail"]))

        assert (error.call, error.type_name, error.text) == ("greeter.fail", "ValueError", "no")
        assert error.builtin == "ValueError"
        assert error.traceback == (
            "Traceback (most recent call last):\n"
            '  File "plugin.py", line 3, in fail\n'
            '    raise ValueError("no")\n'
            "ValueError: no\n"
        )

    def test_what_led_to_it_is_written_first(self, plugin: dict[str, Any]) -> None:
        """
        Causes and contexts stand above, in Python's own words; suppressed ones do not.
        """
        cause = report("a.b", caught(plugin["chain"])).traceback
        context = report("a.b", caught(plugin["context"])).traceback
        hidden = report("a.b", caught(plugin["hidden"])).traceback

        told = "\n\nThe above exception was the direct cause of the following exception:\n\n"
        assert f"ValueError: no{told}Traceback" in cause
        assert cause.endswith("KeyError: 'gone'\n")
        assert "During handling of the above exception, another" in context
        assert "ValueError" not in hidden

    @pytest.mark.parametrize("name", ["fail", "chain", "hidden", "make_path", "group"])
    def test_no_host_path_travels(self, plugin: dict[str, Any], home: Path, name: str) -> None:
        """
        Neither the plugin's folder nor the home folder stands in what the caller gets.
        """
        error = report("greeter.fail", caught(plugin[name]))

        assert str(home) not in "".join(error.fields())
        assert '  File "plugin.py"' in error.traceback

    def test_our_own_frames_are_left_out(self, plugin: dict[str, Any]) -> None:
        """
        What a plugin sees of us is the message; what it sees of libraries are their names.
        """
        error = report("a.b", caught(plugin["pack"], pack_value))
        library = report("a.b", caught(plugin["make_path"])).traceback

        assert error.type_name == "LocalProtocolError"
        assert "codec.py" not in error.traceback
        assert error.traceback.endswith(
            "LocalProtocolError: cannot send a set; send a sorted list\n"
        )
        assert '  File "pathlib' in library

    def test_an_error_without_any_frame_is_still_said(self) -> None:
        """
        A call with the wrong arguments raises before any of the plugin's lines is reached.
        """
        assert report("a.b", TypeError("f() takes 1")).traceback == "TypeError: f() takes 1\n"
        assert report("a.b", TypeError()).traceback == "TypeError\n"

    def test_notes_and_parts_are_shown(self, plugin: dict[str, Any]) -> None:
        """
        What an author has added, and what a group is made of, one group deep.
        """
        noted = ValueError("no")
        noted.add_note("try\nyes")
        group = report("a.b", caught(plugin["group"]))

        assert report("a.b", noted).traceback == "ValueError: no\ntry\nyes\n"
        assert "  | ValueError: no\n  +---------------- 2" in group.traceback
        assert "  | ExceptionGroup: in (1 sub-exception)\n" in group.traceback
        assert group.builtin == ""

    def test_a_plugins_own_type_is_named_in_full(self) -> None:
        """
        The name alone for programs, with its module for people.
        """
        error = report("a.b", msgpack.FormatError("odd"))

        assert (error.type_name, error.builtin) == ("FormatError", "ValueError")
        assert error.traceback == "msgpack.exceptions.FormatError: odd\n"


class TestNested:
    def test_a_call_further_in_keeps_its_type_and_message(self, plugin: dict[str, Any]) -> None:
        """
        A calls B calls C: A sees what C raised, C's traceback above B's.
        """
        inner = through("c.fail", caught(plugin["fail"]))
        error = through("b.relay", caught(plugin["again"], inner))

        assert isinstance(error, ValueError)
        assert (error.call, error.type_name, error.text) == ("b.relay", "ValueError", "no")
        assert error.traceback == (
            "Traceback (most recent call last):\n"
            '  File "plugin.py", line 3, in fail\n'
            '    raise ValueError("no")\n'
            "ValueError: no\n\n"
            "The above exception was raised by the call of c.fail, made here:\n\n"
            "Traceback (most recent call last):\n"
            '  File "plugin.py", line 34, in again\n'
            "    raise error\n"
            "RemoteError: c.fail raised ValueError: no\n"
        )

    @pytest.mark.parametrize(
        "error",
        [
            WorkerLost("math", "SIGSEGV"),
            DeadlineExceeded("math.add", 30.0),
            ServiceUnavailable("math", "nobody offers it"),
            Overloaded("math", 1.0),
            LocalProtocolError("arguments[0]: a set"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_befell_the_callees_own_calls_is_not_the_callers_fate(
        self, error: SpiralHostError
    ) -> None:
        """
        Who catches WorkerLost may be sure that the worker it called has died.
        """
        arrived = through("b.relay", error)

        assert type(arrived) is RemoteError
        assert (arrived.type_name, arrived.text) == (type(error).__name__, str(error))
        assert arrived.traceback == f"{type(error).__name__}: {error}\n"


class TestHostile:
    def test_an_exception_that_cannot_be_read_is_reported(self) -> None:
        """
        Whatever its methods do, the caller learns what it was.
        """
        error = report("a.b", caught(lambda: (_ for _ in ()).throw(Liar())))

        assert (error.type_name, error.builtin) == ("Liar", "ValueError")
        assert error.text == "(its message cannot be read)"
        assert error.traceback.endswith("Liar: (its message cannot be read)\n")
        assert report("a.b", Secretive("x")).traceback == "Secretive: x\n"

    def test_circles_of_causes_and_endless_chains_end(self) -> None:
        """
        Each exception is written once, and only the last of very many.
        """
        first, last = ValueError("first"), KeyError("last")
        first.__cause__, last.__cause__ = last, first
        assert report("a.b", last).traceback.count("first") == 1

        error = ValueError("0")
        for number in range(1, 5000):
            later = ValueError(str(number))
            later.__cause__, error = error, later
        assert report("a.b", error).traceback.count("ValueError") == 16

        group: Exception = ValueError("innermost")
        for _ in range(5000):
            group = ExceptionGroup("g", [group] * 40)
        assert report("a.b", group).traceback.count("  +----") == 16

    def test_texts_have_a_limit(self) -> None:
        """
        A message keeps its beginning, a traceback its end.
        """
        error = Endless()
        error.__notes__ = ["ü" * 9999] * 99 + ["last"]
        told = report("a.b", error)

        assert told.text == "ä" * MAX_TEXT
        assert MAX_TRACEBACK // 2 < len(told.traceback.encode()) <= MAX_TRACEBACK
        assert told.traceback.startswith("...\nü")
        assert told.traceback.endswith("ü\n")

    def test_endless_recursion_is_shown_short(self, plugin: dict[str, Any]) -> None:
        """
        Of a thousand frames the first and the last are enough.
        """
        written = report("a.b", caught(plugin["recurse"])).traceback

        assert written.count("in recurse") == 48
        assert " more frames]\n" in written
        assert "RecursionError: maximum recursion depth" in written

    def test_half_a_character_travels_escaped(self) -> None:
        """
        Names and messages with lone surrogates do not stop the report.
        """
        code = compile("raise ValueError('\\udcff')", "odd.py", "exec").replace(
            co_filename="odd\udcff.py", co_name="no\udcff"
        )
        error = report("a.b", caught(FunctionType(code, {})))

        assert unpack_value(new_packer()(to_wire(error)))
        assert r"odd\udcff.py" in error.traceback
        assert error.text == r"\udcff"

    def test_a_plain_exception_costs_little(self, plugin: dict[str, Any]) -> None:
        """
        Raising is an ordinary outcome: a report takes less than 200 us, on any machine of today.
        """
        error = caught(plugin["fail"])
        report("a.b", error)
        started = time.process_time()
        for _ in range(200):
            report("a.b", error)

        assert (time.process_time() - started) / 200 < 200e-6
