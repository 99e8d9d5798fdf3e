"""Every kind of method can be called in every form, from everywhere to everywhere."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from protocol.calls import CREDITS, WINDOW
from protocol.errors import LocalProtocolError, UsageError
from protocol.reactor import Reactor
from protocol.turn import TURN
from spiral_host import Host, RemoteError
from tests.hosts import DEADLINE, all_ready, eventually, plugin

MANY = 1500
"""Calls under way at the same time; more than one lane takes at once."""
assert MANY > 4 * CREDITS

LONG = 10 * WINDOW + 7
"""Items of a stream that is longer than what may be on its way, and ends within a window."""

FOR_EVER = 1 << 40


@pytest.fixture(scope="module")
def host(shared: Host) -> Host:
    """The shared host with a plugin that has every form, and one that calls it."""
    assert all_ready(shared.load([plugin("forms"), plugin("asker")]))
    return shared


@pytest.fixture
def forms(host: Host) -> Any:  # noqa: ANN401 - a stub has whatever methods the service has
    return host.get_service("forms")


@pytest.fixture
def asker(host: Host) -> Any:  # noqa: ANN401 - as above
    return host.get_service("asker")


class Own:
    """The same forms, in the application."""

    def add(self, first: int, second: int) -> int:
        return first + second

    async def add_soon(self, first: int, second: int) -> int:
        await asyncio.sleep(0)
        return first + second

    def count(self, upto: int) -> Iterator[int]:
        yield from range(upto)

    async def count_soon(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            await asyncio.sleep(0)
            yield number

    def apply(self, function: Callable[..., Any], values: list[Any]) -> list[Any]:
        return [function(value) for value in values]


@pytest.fixture(scope="module")
def own(host: Host) -> Iterator[str]:
    """The name of the application's own service."""
    host.register_service("own", Own())
    yield "own"
    host.unregister_service("own")


class TestFromAnApplication:
    @pytest.mark.parametrize("method", ["add", "add_soon"])
    def test_a_call(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """A plain and an `async def` method look the same to who calls and waits."""
        assert getattr(forms, method)(1, second=2) == 3

    @pytest.mark.parametrize("method", ["add", "add_soon"])
    def test_many_under_way(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """Futures are given before the calls are answered; each gets its own answer."""
        submit = getattr(forms, method).submit
        futures = [submit(number, 1) for number in range(MANY)]
        assert [future.result(DEADLINE) for future in futures] == list(range(1, MANY + 1))

    @pytest.mark.parametrize("method", ["add", "add_soon"])
    def test_coroutines(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """Any number of coroutines of one loop call at the same time."""

        async def main() -> list[int]:
            call = getattr(forms.aio, method)
            return list(await asyncio.gather(*(call(number, 1) for number in range(300))))

        assert asyncio.run(main()) == list(range(1, 301))

    def test_loops_one_after_another(self, forms: Any) -> None:  # noqa: ANN401
        """A stub outlives the event loop that it was used in."""

        async def main() -> int:
            value: int = await forms.aio.add(1, 2)
            return value

        assert [asyncio.run(main()) for _ in range(3)] == [3] * 3

    def test_a_future_calls_back(self, forms: Any) -> None:  # noqa: ANN401
        """Once, whether there is an outcome already or not."""
        done: list[int] = []
        future = forms.add.submit(1, 2)
        future.add_done_callback(lambda future: done.append(future.result()))
        assert future.result() == 3
        future.add_done_callback(lambda future: done.append(future.result() + 1))
        assert done == [3, 4]

    @pytest.mark.parametrize("method", ["text", "text_soon"])
    def test_large_answers_under_way(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """Answers that their caller does not take in yet, however many, harm nobody."""
        size = 500_000
        futures = [getattr(forms, method).submit(size) for _ in range(40)]
        assert [len(future.result()) for future in futures] == [size] * 40

    def test_a_future_belongs_to_its_thread(self, forms: Any) -> None:  # noqa: ANN401
        """Another one that waits for it is told so, and the call goes on."""
        future, told = forms.add.submit(1, 2), []

        def work() -> None:
            try:
                future.result()
            except UsageError as error:
                told.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(DEADLINE)
        (text,) = told
        assert "in the thread that made the call" in text
        assert future.result() == 3

    def test_large_calls_under_way(self, forms: Any) -> None:  # noqa: ANN401
        """Nor do large calls whose answers are large."""
        texts = [str(number % 10) * 500_000 for number in range(40)]
        futures = [forms.echo.submit(text) for text in texts]
        assert [future.result() for future in futures] == texts

    def test_large_ones_of_coroutines(self, forms: Any) -> None:  # noqa: ANN401
        """The same from one loop."""
        texts = [str(number % 10) * 500_000 for number in range(40)]

        async def main() -> list[str]:
            return list(await asyncio.gather(*(forms.aio.echo(text) for text in texts)))

        assert asyncio.run(main()) == texts

    def test_eight_threads(self, forms: Any) -> None:  # noqa: ANN401
        """One stub serves any number of threads, in all forms at the same time."""
        right = [0] * 8

        def work(me: int) -> None:
            for number in range(50):
                right[me] += forms.add(me, number) == me + number
                right[me] += list(forms.count(number)) == list(range(number))
                right[me] += forms.add_soon.submit(me, number).result() == me + number
                right[me] += forms.apply(lambda value: value + me, [number]) == [number + me]

        threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert right == [200] * 8


def test_what_an_application_has_ready_leaves_before_it_asks(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers to calls that came together do not wait for the daemon's answer."""
    left: list[bool] = []
    with closing(Reactor()) as reactor:
        reactor.unsent[reactor] = lambda: left.append(True)
        monkeypatch.setattr(TURN, "reactor", reactor)
        host.list_services()
        assert left


class TestFromAWorker:
    """To another worker, and to the application's own service: nothing looks different there."""

    @pytest.fixture(params=["forms", "own"])
    def service(self, request: pytest.FixtureRequest, own: str) -> str:
        """Either provider."""
        name: str = request.param
        return name

    @pytest.mark.parametrize("method", ["add", "add_soon"])
    def test_calls(self, asker: Any, service: str, method: str) -> None:  # noqa: ANN401
        """Waited for, submitted, and awaited."""
        assert asker.call(service, method, 1, 2) == 3
        assert asker.submit(service, method, 600) == [2 * n for n in range(600)]
        assert asker.gather(service, method, 300) == [2 * n for n in range(300)]

    @pytest.mark.parametrize("method", ["count", "count_soon"])
    def test_streams(self, asker: Any, service: str, method: str) -> None:  # noqa: ANN401
        """Read by a thread, by a coroutine, and passed on as they come."""
        items = list(range(LONG))
        assert asker.read(service, method, LONG) == items
        assert asker.read_soon(service, method, LONG) == items
        assert list(asker.pass_on(service, method, LONG)) == items

    def test_functions(self, asker: Any, service: str) -> None:  # noqa: ANN401
        """A plugin's own functions can be called back too."""
        assert asker.apply(service, 3, [1, 2, 3]) == [3, 6, 9]


class TestStreams:
    @pytest.mark.parametrize("method", ["count", "count_soon"])
    @pytest.mark.parametrize("length", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, LONG])
    def test_of_any_length(self, forms: Any, method: str, length: int) -> None:  # noqa: ANN401
        """Every item once and in order, whoever writes and whoever reads."""

        async def read() -> list[int]:
            return [item async for item in getattr(forms.aio, method)(length)]

        stream = getattr(forms, method)
        assert list(stream(length)) == list(stream.submit(length).result()) == list(range(length))
        assert asyncio.run(read()) == list(range(length))

    def test_two_at_a_time(self, forms: Any) -> None:  # noqa: ANN401
        """Streams of one thread are read in turns, with calls between."""
        pairs = []
        for one, other in zip(forms.count(LONG), forms.count_soon(LONG), strict=True):
            pairs.append((one, other, forms.add(one, other)))
        assert pairs == [(n, n, 2 * n) for n in range(LONG)]

    @pytest.mark.parametrize("method", ["count", "count_soon"])
    @pytest.mark.parametrize("taken", [1, 5, 100])
    def test_a_slow_reader_stops_the_writer(self, forms: Any, method: str, taken: int) -> None:  # noqa: ANN401
        """Its generator is asked for no more than what was read and a window beyond."""
        stream = getattr(forms, method)(FOR_EVER)
        assert [next(stream) for _ in range(taken)] == list(range(taken))
        for _ in range(5):  # each gives the writer a turn
            written = forms.add_soon(forms.written(), 0)
        stream.close()
        # A coroutine has one item in its hands for which there is no room yet.
        assert taken <= written <= taken + WINDOW + 1

    @pytest.mark.parametrize("method", ["count", "count_soon"])
    def test_an_abandoned_one(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """Is closed in its plugin, whose `finally` runs: by close, by break, and by a coroutine."""
        stream = getattr(forms, method)
        opened = stream(FOR_EVER)
        next(opened)
        opened.close()
        eventually(lambda: FOR_EVER in forms.closed())
        with pytest.raises(StopIteration):
            next(opened)

        for item in stream(FOR_EVER + 1):
            if item == WINDOW + 3:
                break
        eventually(lambda: FOR_EVER + 1 in forms.closed())

        async def read() -> int:
            async for item in getattr(forms.aio, method)(FOR_EVER + 2):
                if item == WINDOW + 3:
                    break
            value: int = await forms.aio.add(1, 2)
            return value

        assert asyncio.run(read()) == 3
        eventually(lambda: FOR_EVER + 2 in forms.closed())

    @pytest.mark.parametrize("method", ["texts", "texts_soon"])
    def test_of_large_items(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """A window of items that fill a frame each waits for its reader."""
        count, size = 3 * WINDOW, 900_000
        stream = getattr(forms, method)(count, size)
        first = next(stream)
        assert forms.add(1, 2) == 3
        assert [first[0], *(item[-1] for item in stream)] == [str(n % 10) for n in range(count)]

    @pytest.mark.parametrize("method", ["fail_after", "fail_soon_after"])
    @pytest.mark.parametrize("count", [0, 3, WINDOW + 3])
    def test_that_raises(self, forms: Any, method: str, count: int) -> None:  # noqa: ANN401
        """What came before the error is given first; then the error, once; then it is over."""
        stream, items = getattr(forms, method)(count), []

        def read() -> None:
            items.extend(iter(stream))

        with pytest.raises(LookupError, match=f"after {count}") as caught:
            read()
        assert items == list(range(count))
        assert isinstance(caught.value, RemoteError)
        assert list(stream) == []

    @pytest.mark.parametrize("method", ["fail_after", "fail_soon_after"])
    def test_that_raises_in_a_coroutine(self, forms: Any, method: str) -> None:  # noqa: ANN401
        """The same for a coroutine."""
        items = []

        async def read() -> None:
            async for item in getattr(forms.aio, method)(WINDOW + 3):
                items.append(item)  # noqa: PERF401 - as above

        with pytest.raises(LookupError, match="after"):
            asyncio.run(read())
        assert items == list(range(WINDOW + 3))

    def test_awaited_or_iterated(self, forms: Any) -> None:  # noqa: ANN401
        """Iterating over a method that gives a value is named as what it is."""

        async def read() -> None:
            async for _ in forms.aio.add(1, 2):
                pass

        with pytest.raises(UsageError, match="await it"):
            asyncio.run(read())


class TestFunctions:
    def test_plain(self, forms: Any) -> None:  # noqa: ANN401
        """A function as an argument runs in the caller, in the thread that calls."""
        threads = set()

        def square(value: int) -> int:
            threads.add(threading.get_ident())
            return value * value

        assert forms.apply(square, [1, 2, 3]) == [1, 4, 9]
        assert forms.apply_soon(square, [1, 2, 3]) == [1, 4, 9]
        assert forms.apply.submit(square, [1, 2, 3]).result() == [1, 4, 9]
        assert threads == {threading.get_ident()}

    def test_of_a_coroutine(self, forms: Any) -> None:  # noqa: ANN401
        """Plain or `async def`, it runs in the loop of the caller."""

        async def later(value: int) -> int:
            await asyncio.sleep(0)
            return value * value

        async def main() -> list[list[int]]:
            apply, apply_soon = forms.aio.apply, forms.aio.apply_soon
            calls = [how(f, [1, 2, 3]) for how in (apply, apply_soon) for f in (later, lambda v: v)]
            return list(await asyncio.gather(*calls))

        assert asyncio.run(main()) == [[1, 4, 9], [1, 2, 3]] * 2

    def test_an_async_one_needs_a_loop(self, forms: Any) -> None:  # noqa: ANN401
        """A thread that waits cannot run it; it is told before anything is sent."""

        async def later(value: int) -> int:
            return value

        with pytest.raises(LocalProtocolError, match=r"arguments\[0\].*stub.aio"):
            forms.apply(later, [1])
        with pytest.raises(LocalProtocolError, match=r"arguments\[1\]\[0\]: a set"):
            forms.apply(abs, [{1}])
        assert forms.add(1, 2) == 3

    def test_that_raises(self, forms: Any) -> None:  # noqa: ANN401
        """The plugin may catch it by its builtin type; if not, it reaches the caller."""

        def fail(*_: object) -> None:
            raise ValueError("of the caller's own")

        assert (
            forms.caught(fail) == "ValueError: callback fail raised ValueError: of the caller's own"
        )
        with pytest.raises(ValueError, match="of the caller's own"):
            forms.apply(fail, [1])
        assert forms.apply(abs, [-1]) == [1]

    def test_that_calls_the_plugin(self, forms: Any) -> None:  # noqa: ANN401
        """The plugin that waits for it serves what it leads to."""
        assert forms.apply(lambda value: forms.add(value, 1), [1, 2]) == [2, 3]

    def test_several_at_once(self, forms: Any) -> None:  # noqa: ANN401
        """Calls under way with functions of their own do not mix them up."""
        futures = [forms.apply.submit(lambda v, n=n: v + n, [1]) for n in range(100)]
        assert [future.result() for future in futures] == [[1 + n] for n in range(100)]

    def test_kept_too_long(self, forms: Any) -> None:  # noqa: ANN401
        """It holds as long as the call it came with; then the plugin is told so."""
        called = []
        forms.keep(lambda: called.append(1))
        with pytest.raises(RemoteError, match="a call that is over") as caught:
            forms.call_kept()
        assert caught.value.type_name == "UsageError"
        assert called == []
        assert forms.add(1, 2) == 3

    def test_in_another_thread(self, forms: Any) -> None:  # noqa: ANN401
        """The plugin calls it in the thread that serves the call it came with, or is told to."""
        assert "in the thread that serves the call" in forms.apply_elsewhere(abs)

    def test_only_as_an_argument(self, forms: Any) -> None:  # noqa: ANN401
        """A function can be deep inside an argument, and nowhere else."""
        assert forms.apply(lambda value: value["x"][0], [{"x": [1]}]) == [1]
        with pytest.raises(RemoteError, match="function"):
            forms.apply(lambda _: lambda: 1, [1])
        assert forms.add(1, 2) == 3
