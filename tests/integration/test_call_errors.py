"""A call that fails says whose turn it is, what happened and where; its lane goes on."""

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.errors import LocalProtocolError, RemoteProtocolError, UsageError
from spiral_host import Host, RemoteError, WorkerLost
from tests.hosts import PLUGINS, all_ready, plugin


@pytest.fixture(scope="module")
def host(shared: Host) -> Host:
    """The shared host with a plugin in which everything fails."""
    assert all_ready(shared.load([plugin("faulty"), plugin("asker")]))
    return shared


@pytest.fixture
def faulty(host: Host) -> Iterator[Any]:
    """Its stub, which answers afterwards on the lane that it had before."""
    stub = host.get_service("faulty")
    pid = host.get("faulty").pid
    assert stub.echo(1) == 1
    line = stub.echo.caller.lines.by_service["faulty"]
    yield stub
    assert stub.echo(2) == 2
    assert stub.echo.caller.lines.by_service["faulty"] is line
    assert host.get("faulty").pid == pid


class TestWhatAPluginRaises:
    @pytest.mark.parametrize("method", ["fail", "fail_soon"])
    @pytest.mark.parametrize(
        "kind", [ValueError, KeyError, TypeError, PermissionError, ZeroDivisionError, TimeoutError]
    )
    def test_builtin(self, faulty: Any, method: str, kind: type[Exception]) -> None:  # noqa: ANN401
        """Is caught as itself, in every form of call, and is a `RemoteError` as well."""
        fail = getattr(faulty, method)
        soon = getattr(faulty.aio, method)

        async def main() -> None:
            await soon(kind.__name__, "not this")

        calls: list[Callable[[], object]] = [
            lambda: fail(kind.__name__, "not this"),
            lambda: fail.submit(kind.__name__, "not this").result(),
            lambda: asyncio.run(main()),
        ]
        for call in calls:
            with pytest.raises(kind, match="not this") as caught:
                call()
            assert isinstance(caught.value, RemoteError)
            assert caught.value.type_name == kind.__name__

    def test_its_own(self, faulty: Any) -> None:  # noqa: ANN401
        """Keeps its name, and is caught as the builtin that it is a kind of."""
        with pytest.raises(KeyError) as caught:
            faulty.fail_on_its_own()
        error = caught.value
        assert isinstance(error, RemoteError)
        assert (error.type_name, error.text, error.builtin) == (
            "OwnError",
            "'unheard of'",
            "KeyError",
        )

    def test_says_where(self, faulty: Any) -> None:  # noqa: ANN401
        """Plugin, service, method and call are named; no two calls have the same id."""
        ids = set()
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                faulty.fail("ValueError", "no")
            error = caught.value
            assert (error.plugin, error.service, error.method) == ("faulty", "faulty", "fail")
            ids.add(error.call_id)
        assert len(ids - {""}) == 2

    def test_traceback(self, faulty: Any) -> None:  # noqa: ANN401
        """Shows the plugin's lines and what led to them, and nothing of this machine."""
        with pytest.raises(RuntimeError, match="no secret") as caught:
            faulty.fail_for_a_reason()
        assert isinstance(caught.value, RemoteError)
        text = caught.value.traceback
        assert "FileNotFoundError" in text
        assert 'raise RuntimeError("no secret") from error' in text
        assert "faulty.py" in text
        assert "direct cause" in text
        for folder in (str(PLUGINS), str(Path(__file__).parents[2]), str(Path.home())):
            assert folder not in text
            assert folder not in str(caught.value)

    @pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
    def test_what_ends_programs(self, faulty: Any, kind: str) -> None:  # noqa: ANN401
        """Ends neither the plugin nor its caller."""
        with pytest.raises(RemoteError) as caught:
            faulty.raise_in_the_end(kind)
        assert caught.value.type_name == kind

    @pytest.mark.parametrize("kind", ["StopIteration", "StopAsyncIteration"])
    def test_what_ends_loops(self, faulty: Any, kind: str) -> None:  # noqa: ANN401
        """Ends no loop of the caller's."""
        with pytest.raises(RemoteError):
            [faulty.raise_in_the_end(kind) for _ in range(2)]

    def test_through_another_plugin(self, host: Host, faulty: Any) -> None:  # noqa: ANN401
        """Keeps type and text; the plugin named is the one that was called, its trace shows all."""
        with pytest.raises(ValueError, match="innermost") as caught:
            host.get_service("asker").call("faulty", "fail", "ValueError", "innermost")
        assert isinstance(caught.value, RemoteError)
        assert (caught.value.plugin, caught.value.call) == ("asker", "asker.call")
        assert "faulty.py" in caught.value.traceback
        assert "asker.py" in caught.value.traceback


class TestWhatIsNotThere:
    @pytest.mark.parametrize("name", ["nothing", "ctx", "WONT_TRAVEL"])
    def test_a_method(self, faulty: Any, name: str) -> None:  # noqa: ANN401
        """Is named, with those that are there."""
        with pytest.raises(UsageError, match=f"no method '{name}'.*fail_soon"):
            getattr(faulty, name)()

    @pytest.mark.parametrize("name", ["_private", "_ctx", "__init__", "__class__dict", "__dict"])
    def test_a_private_one(self, faulty: Any, name: str) -> None:  # noqa: ANN401
        """A stub has none."""
        with pytest.raises(AttributeError):
            getattr(faulty, name).nothing  # noqa: B018 - `__init__` is the stub's own

    @pytest.mark.parametrize("name", ["_private", "__init__", "echo.__globals__", "_ctx.log", ""])
    def test_not_even_by_name(self, faulty: Any, name: str) -> None:  # noqa: ANN401
        """Nor does it help to ask for it behind the stub's back: there are no attribute walks."""
        method = faulty.echo.options()
        method.what = ("faulty", name, "faulty.x", None)
        with pytest.raises(UsageError, match="no method"):
            method()

    @pytest.mark.parametrize("arguments", [(), (1, 2), (1, 2, 3)])
    def test_an_argument(self, faulty: Any, arguments: tuple[int, ...]) -> None:  # noqa: ANN401
        """Too few or too many are what they are in Python, and nothing has run."""
        before = faulty.echoed()
        with pytest.raises(TypeError, match="argument"):
            faulty.echo(*arguments)
        with pytest.raises(TypeError, match="argument"):
            faulty.echo(1, unknown=2)
        assert faulty.echoed() == before


def cyclic() -> list[Any]:
    circle: list[Any] = [1]
    circle.append([circle])
    return circle


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


BAD_ARGUMENTS: dict[str, tuple[object, str]] = {
    "a set": ([{"x": {1}}], r"arguments\[0\]\[0\]\['x'\]: a set; send a sorted list"),
    "an object": ({"x": object()}, r"arguments\[0\]\['x'\]: an object"),
    "a tuple as a key": ({"x": {(1, 2): 3}}, r"arguments\[0\]\['x'\].*key \(1, 2\)"),
    "70 bits": ([1 << 70], r"arguments\[0\]\[0\]: an integer of more than 64 bits"),
    "a circle": (cyclic(), r"arguments\[0\]\[1\]\[0\]: a list that contains itself"),
    "too deep": (deep(2000), "nested deeper"),
    "objects in an array": ([np.array([object()])], r"arguments\[0\]\[0\]"),
    "half a character": ({"x": "\ud800"}, r"arguments\[0\]\['x'\]: text with half a character"),
    "too large": ("x" * (1 << 20), "limit"),
    "a generator": ([iter(())], r"arguments\[0\]\[0\]"),
}


class TestWhatCannotTravel:
    @pytest.mark.parametrize(("value", "why"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
    def test_as_an_argument(self, faulty: Any, value: object, why: str) -> None:  # noqa: ANN401
        """Its place is named where the call is made; nothing is sent, and nothing runs."""
        before = faulty.echoed()

        async def main() -> None:
            await faulty.aio.echo(value)

        calls: list[Callable[[], object]] = [
            lambda: faulty.echo(value),
            lambda: faulty.echo.submit(value).result(),
            lambda: asyncio.run(main()),
        ]
        for call in calls:
            with pytest.raises(LocalProtocolError, match=why):
                call()
        assert faulty.echoed() == before

    def test_as_a_keyword(self, faulty: Any) -> None:  # noqa: ANN401
        """The argument is named."""
        with pytest.raises(LocalProtocolError, match=r"keywords\['value'\]\[1\]: a set"):
            faulty.echo(value=[1, {2}])

    @pytest.mark.parametrize("method", ["give", "give_soon"])
    @pytest.mark.parametrize(
        ("what", "why"),
        [
            ("a set", r"result\['x'\]\[1\]: a set; send a sorted list"),
            ("an object", r"result\['x'\]\[1\]: an object"),
            ("an integer of 70 bits", r"result\['x'\]\[1\]: an integer of more than 64 bits"),
            ("a circle", r"result\['x'\]\[1\]\[1\]\[0\]: a list that contains itself"),
            ("too deep", "nested deeper"),
            ("too large", "limit"),
            ("half a character", r"result\['x'\]\[1\]: text with half a character"),
            ("a path", r"result\['x'\]\[1\]: a PosixPath; send text"),
            ("a class", r"result\['x'\]\[1\]"),
        ],
    )
    def test_as_a_result(self, faulty: Any, method: str, what: str, why: str) -> None:  # noqa: ANN401
        """The plugin's side says so in its place."""
        with pytest.raises(RemoteError, match=why) as caught:
            getattr(faulty, method)(what)
        assert caught.value.type_name == "LocalProtocolError"

    @pytest.mark.parametrize("method", ["give", "give_soon"])
    def test_what_only_its_reader_finds(self, faulty: Any, method: str) -> None:  # noqa: ANN401
        """A key that can be packed and not unpacked is named by the side that cannot read it."""
        why = rf"faulty.{method}: result\['x'\]\[1\]: its key \(1, 2\) is a tuple"
        with pytest.raises(RemoteProtocolError, match=why):
            getattr(faulty, method)("a tuple as a key")
        with pytest.raises(RemoteProtocolError, match=why):
            getattr(faulty, method).submit("a tuple as a key").result()
        stream = faulty.stream("a tuple as a key")
        assert next(stream) == 1
        with pytest.raises(RemoteProtocolError, match="key"):
            next(stream)
        assert list(stream) == []

    def test_objects_in_an_array(self, faulty: Any) -> None:  # noqa: ANN401
        """The same for an array of Python's objects."""
        with pytest.raises(RemoteError, match=r"result\['x'\]\[1\]"):
            faulty.give_array_of_objects()

    def test_as_an_item(self, faulty: Any) -> None:  # noqa: ANN401
        """What the stream had given before is given; then it ends with the reason."""
        stream = faulty.stream("a set")
        assert next(stream) == 1
        with pytest.raises(RemoteError, match=r"result\[0\]: a set"):
            next(stream)
        assert list(stream) == []

    def test_just_shallow_enough(self, faulty: Any) -> None:  # noqa: ANN401
        """What is nested less deep than the limit travels."""
        assert faulty.echo(deep(400)) == deep(400)

    def test_what_does_travel(self, faulty: Any) -> None:  # noqa: ANN401
        """Numbers that are none, the largest and the smallest, and odd keys."""
        assert math.isnan(faulty.echo(math.nan))
        odd = [math.inf, -math.inf, 2**64 - 1, -(2**63), {1: 2, None: 3, 1.5: 4, b"k": 5}, "\0", ""]
        assert faulty.echo(odd) == odd
        assert faulty.echo((1, (2, 3))) == [1, [2, 3]]


class TestWhoDies:
    @pytest.fixture
    def mortal(self, host: Host) -> Any:  # noqa: ANN401 - a stub
        """The same plugin, forgiven for its earlier deaths."""
        assert host.restart("faulty").ok
        return host.get_service("faulty")

    @pytest.mark.parametrize(
        ("method", "arguments", "cause"),
        [("kill_itself", (), "SIGKILL"), ("leave", (3,), "exit status 3")],
    )
    def test_its_caller_is_told_how(
        self,
        mortal: Any,  # noqa: ANN401
        method: str,
        arguments: tuple[int, ...],
        cause: str,
    ) -> None:
        """`WorkerLost` carries whose worker it was and its cause of death, in every form."""

        async def main() -> None:
            await getattr(mortal.aio, method)(*arguments)

        die = getattr(mortal, method)
        calls: list[Callable[[], object]] = [
            lambda: die(*arguments),
            lambda: die.submit(*arguments).result(),
            lambda: asyncio.run(main()),
        ]
        for call in calls:
            with pytest.raises(WorkerLost) as caught:
                call()
            assert (caught.value.plugin_id, caught.value.cause) == ("faulty", cause)
        assert mortal.echo(1) == 1

    def test_deeper_in(self, host: Host, mortal: Any) -> None:  # noqa: ANN401
        """What a plugin that was called has lost is that plugin's error, not its own death."""
        with pytest.raises(RemoteError, match="faulty was lost") as caught:
            host.get_service("asker").call("faulty", "kill_itself")
        assert (caught.value.type_name, caught.value.plugin) == ("WorkerLost", "asker")
        assert not isinstance(caught.value, WorkerLost)
        assert host.get_service("asker").call("faulty", "echo", 1) == 1
