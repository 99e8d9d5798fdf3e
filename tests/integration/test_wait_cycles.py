"""Calls that wait for each other end at once, one of them with the circle in its text."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from spiral_host import Host, RemoteError
from tests.hosts import DEADLINE, all_ready

PLUGIN = '''
# /// script
# [tool.spiral-host]
# id = "{me}"
# version = "1.0.0"
# concurrency = {concurrency}
# ///
from plugin_worker import Plugin

class Service:
    def __init__(self, ctx):
        self.ctx = ctx

    def cross(self, other):
        """Meet all others in the application, so that none is called before all are busy."""
        self.ctx.wait_service("app", 10).meet("{me}")
        return ["{me}", *self.ctx.wait_service(other, 10).plain()]

    def chain(self, path):
        self.ctx.wait_service("app", 10).meet("{me}")
        return self.go(path)

    def go(self, path):
        return ["{me}", *(self.ctx.wait_service(path[0], 10).go(path[1:]) if path else [])]

    def plain(self):
        return ["{me}"]

    async def soon(self):
        return ["{me}"]

    async def cross_soon(self, other):
        await self.ctx.wait_service("app", 10).aio.meet("{me}")
        return ["{me}", *await self.ctx.wait_service(other, 10).aio.soon()]

    def ask_back(self, other, method):
        """Call what calls this plugin."""
        return ["{me}", *self.ctx.wait_service(other, 10).call("{me}", method)]

    def call(self, other, method):
        return ["{me}", *getattr(self.ctx.wait_service(other, 10), method)()]

class Party(Plugin):
    def on_load(self, ctx):
        ctx.register_service("{me}", Service(ctx))
'''

AT_ONCE_S = 10.0
"""Far less than the deadline of a call, on a machine that is busy with other tests."""


class App:
    """Where the parties meet."""

    def __init__(self, parties: int) -> None:
        self._here: set[str] = set()
        self._parties = parties
        self._all: asyncio.Event | None = None

    async def meet(self, me: str) -> None:
        """Wait until all are here."""
        self._all = self._all or asyncio.Event()
        self._here.add(me)
        if len(self._here) == self._parties:
            self._all.set()
        await self._all.wait()


def load(host: Host, folder: Path, names: list[str], concurrency: int) -> None:
    """Load parties, and say where they meet."""
    for me in names:
        (folder / f"{me}.py").write_text(PLUGIN.format(me=me, concurrency=concurrency))
    assert all_ready(host.load(folder))


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory, shared: Host) -> Host:
    """The shared host with three plugins that do one thing at a time, and two that do two."""
    load(shared, tmp_path_factory.mktemp("plugins"), ["a", "b", "c"], 1)
    load(shared, tmp_path_factory.mktemp("plugins"), ["x", "y"], 2)
    return shared


@pytest.fixture
def meeting(parties: Host, request: pytest.FixtureRequest) -> Iterator[Host]:
    """That host, in which so many are to meet as the test says, or two."""
    parties.register_service("app", App(getattr(request, "param", 2)))
    yield parties
    parties.unregister_service("app")


def outcomes(host: Host, ways: Sequence[tuple[str, str, object]]) -> tuple[list[Any], list[str]]:
    """Make calls at the same time; give the values, and the texts of the errors."""
    started = time.monotonic()
    futures = [
        getattr(host.get_service(who), method).submit(argument) for who, method, argument in ways
    ]
    values, texts = [], []
    for future in futures:
        error = future.exception(DEADLINE)
        if error is None:
            values.append(future.result())
        else:
            assert isinstance(error, RemoteError)
            assert error.type_name == "ServiceUnavailable"
            texts.append(error.text)
    assert time.monotonic() - started < AT_ONCE_S
    return values, texts


class TestUnrelatedCalls:
    @pytest.mark.parametrize("_again", range(3))
    def test_of_two(self, meeting: Host, _again: int) -> None:
        """A calls B while B calls A: one fails and names the circle, the other has its answer."""
        values, texts = outcomes(meeting, [("a", "cross", "b"), ("b", "cross", "a")])
        assert values in ([["a", "b"]], [["b", "a"]])
        (text,) = texts
        assert "a -> b -> a" in text or "b -> a -> b" in text

    @pytest.mark.parametrize("meeting", [3], indirect=True)
    def test_of_three(self, meeting: Host) -> None:
        """The same over a third: one failure is enough for the others to be answered."""
        circle = [("a", "cross", "b"), ("b", "cross", "c"), ("c", "cross", "a")]
        values, texts = outcomes(meeting, circle)
        assert len(values) == 2
        (text,) = texts
        assert any(
            turn in text for turn in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")
        )

    @pytest.mark.parametrize("meeting", [3], indirect=True)
    def test_no_circle(self, meeting: Host) -> None:
        """A row of those that wait is none: each has its answer when the one before has."""
        row = [("a", "cross", "b"), ("b", "cross", "c"), ("c", "chain", [])]
        values, texts = outcomes(meeting, row)
        assert (values, texts) == ([["a", "b"], ["b", "c"], ["c"]], [])

    def test_over_longer_ways(self, meeting: Host) -> None:
        """A waits for C by way of B, and C for A."""
        values, texts = outcomes(meeting, [("a", "chain", ["b", "c"]), ("c", "chain", ["a"])])
        assert len(values) == len(texts) == 1
        assert any(turn in texts[0] for turn in (" -> ".join(pair) for pair in pairwise("abca")))

    def test_with_room_for_two(self, meeting: Host) -> None:
        """A plugin with another thread to serve in waits for nobody: no alarm."""
        values, texts = outcomes(meeting, [("x", "cross", "y"), ("y", "cross", "x")])
        assert (values, texts) == ([["x", "y"], ["y", "x"]], [])

    def test_of_coroutines(self, meeting: Host) -> None:
        """Coroutines hold up nobody: what waits in them goes on beside what comes."""
        values, texts = outcomes(meeting, [("a", "cross_soon", "b"), ("b", "cross_soon", "a")])
        assert (values, texts) == ([["a", "b"], ["b", "a"]], [])


class TestOneChain:
    def test_a_plain_method_is_entered_again(self, parties: Host) -> None:
        """A calls B, B calls A: A serves it while it waits."""
        assert parties.get_service("a").ask_back("b", "plain") == ["a", "b", "a"]

    def test_an_async_one_is_refused(self, parties: Host) -> None:
        """Its thread waits and cannot go on with its loop; the circle is named, at once."""
        started = time.monotonic()
        with pytest.raises(RemoteError, match="a -> b -> here") as caught:
            parties.get_service("a").ask_back("b", "soon")
        assert time.monotonic() - started < AT_ONCE_S
        assert "async def" in caught.value.text
        assert caught.value.type_name == "ServiceUnavailable"
        assert parties.get_service("a").soon() == ["a"]

    def test_an_endless_circle(self, parties: Host) -> None:
        """Plugins that call each other for ever are stopped with the beginning of it."""
        with pytest.raises(RemoteError, match="a -> b -> a"):
            parties.get_service("a").go(["b", "a"] * 40)
        assert parties.get_service("b").plain() == ["b"]
