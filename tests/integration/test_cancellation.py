"""Nobody works for who waits no longer: deadlines, cancels and deaths reach the last of a chain."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocol.errors import Cancelled
from spiral_host import DeadlineExceeded, Host, RemoteError, WorkerLost
from tests.hosts import DEADLINE, all_ready, eventually, kill, run_out

SHORT_S = 0.4
"""A deadline that a test waits for; till then a chain of three has begun on a free machine."""

LONG_S = 3.0
"""One before which all has begun on a busy machine, too."""

SOON_S = 5.0
"""How late an outcome may be on a machine that is busy with other tests: far less than handlers
take that are not stopped."""

PLUGIN = """
# /// script
# [tool.spiral-host]
# id = "{me}"
# version = "1.0.0"
# ///
import asyncio, os, time
from plugin_worker import DeadlineExceeded, Plugin

class Service:
    def __init__(self, ctx):
        self.ctx, self.log, self.begun = ctx, [], False

    def _other(self, name):
        return self.ctx.wait_service(name, 10)

    def pid(self):
        return os.getpid()

    def seen(self):
        return self.log

    def has_begun(self):
        return self.begun

    def forget(self):
        self.log.clear()
        self.begun = False

    def measure(self, text):
        return len(text)

    # The last of a chain: each says that it has begun, and how it has ended.

    def busy(self):
        try:
            self._begin()
            until = time.monotonic() + 15
            while not self.ctx.cancelled() and time.monotonic() < until:
                time.sleep(0.002)
        finally:
            self._end()

    async def sleep(self):
        try:
            self.begun = True
            await self._other("app").aio.began()
            await asyncio.sleep(15)
        finally:
            self._end()

    def steady(self):
        try:
            self._begin()
            while True:
                yield 1
        finally:
            self._end()

    async def endless(self):
        try:
            self.begun = True
            await self._other("app").aio.began()
            while True:
                await asyncio.sleep(0.002)
                yield 1
        finally:
            self._end()

    def _begin(self):
        self.begun = True
        self._other("app").began()

    def _end(self):
        self.log.append("cancelled" if self.ctx.cancelled() else "was never told")

    # The others: they pass a call on to the first of a path.

    def plain(self, last, path):
        return getattr(self._other(path[0]), "plain" if path[1:] else last)(
            *((last, path[1:]) if path[1:] else ())
        )

    async def soon(self, last, path):
        return await getattr(self._other(path[0]).aio, "soon" if path[1:] else last)(
            *((last, path[1:]) if path[1:] else ())
        )

    def submitted(self, last, path):
        return getattr(self._other(path[0]), last).submit().result()

    def impatient(self, last, other, timeout):
        try:
            getattr(self._other(other), last)(timeout=timeout)
        except DeadlineExceeded:
            return "went on"

class Chain(Plugin):
    def on_load(self, ctx):
        ctx.register_service("{me}", Service(ctx))
"""


class App:
    """Hears which handlers have begun."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()

    def began(self) -> None:
        """Note it."""
        self.has_begun.set()


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, shared: Host) -> Host:
    """The shared host with three plugins that call each other."""
    folder = tmp_path_factory.mktemp("plugins")
    for me in ("first", "second", "third"):
        (folder / f"{me}.py").write_text(PLUGIN.format(me=me))
    assert all_ready(shared.load(folder))
    return shared


@pytest.fixture
def app() -> App:
    """The application's own service, new for each test."""
    return App()


@pytest.fixture
def host(chained: Host, app: App) -> Iterator[Host]:
    """That host, in which nobody has been called yet."""
    chained.register_service("app", app)
    chained.get_service("third").forget()
    yield chained
    chained.unregister_service("app")


def told(host: Host) -> bool:
    """Wait until the last of the chain has been told."""
    seen: list[str] = eventually(lambda: host.get_service("third").seen())
    return seen == ["cancelled"]


def late(host: Host, call: Callable[[float], object], says: str = "no answer") -> None:
    """Make a call whose time is up after the last of its chain has begun; check its outcome."""

    def make(timeout: float) -> None:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=says) as caught:
            call(timeout)
        assert timeout <= time.monotonic() - started < timeout + SOON_S
        assert 0 < caught.value.after_s <= timeout  # it counts from when it was sent

    run_out(make, host.get_service("third").has_begun, SHORT_S)


LASTS = ["busy", "sleep"]
"""A plain handler that asks, and an `async def` one."""

PATHS = [("third", "{last}"), ("first", "plain"), ("first", "soon")]
"""Straight to the third; by plain handlers that wait; by coroutines that await."""


def called(host: Host, path: tuple[str, str], last: str) -> tuple[Any, tuple[object, ...]]:
    """Give the method to be called, and its arguments."""
    name, method = path
    arguments = () if name == "third" else (last, ["second", "third"])
    return getattr(host.get_service(name), method.format(last=last)), arguments


@pytest.mark.parametrize("last", LASTS)
@pytest.mark.parametrize("path", PATHS)
class TestWhoWaitsNoLonger:
    def test_by_its_deadline(self, host: Host, path: tuple[str, str], last: str) -> None:
        """The caller has its outcome then; nested calls had no more time than was left."""
        method, arguments = called(host, path, last)
        late(host, lambda timeout: method(*arguments, timeout=timeout))
        assert told(host)

    def test_cancelling_a_future(
        self, host: Host, app: App, path: tuple[str, str], last: str
    ) -> None:
        """`cancel` gives the outcome at once, and tells."""
        method, arguments = called(host, path, last)
        future = method.submit(*arguments)
        assert app.has_begun.wait(DEADLINE)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(Cancelled):
            future.result()
        assert told(host)

    def test_cancelling_a_task(
        self, host: Host, app: App, path: tuple[str, str], last: str
    ) -> None:
        """A task that is cancelled, or whose time is up in its own code, tells."""
        method, arguments = called(host, path, last)
        call = getattr(host.get_service(path[0]).aio, method.name)

        async def main() -> None:
            task = asyncio.ensure_future(awaited(call(*arguments)))
            await asyncio.to_thread(app.has_begun.wait, DEADLINE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert told(host)

    def test_a_task_with_a_deadline(self, host: Host, path: tuple[str, str], last: str) -> None:
        """The same outcome as for a thread that waits."""
        method, arguments = called(host, path, last)
        call = getattr(host.get_service(path[0]).aio, method.name)
        late(host, lambda timeout: asyncio.run(awaited(call(*arguments, timeout=timeout))))
        assert told(host)


async def awaited(call: Any) -> object:  # noqa: ANN401 - a call of `stub.aio`
    value: object = await call
    return value


@pytest.mark.parametrize("last", LASTS)
class TestWhoDies:
    @pytest.mark.parametrize("how", ["plain", "soon", "submitted"])
    def test_a_plugin(self, host: Host, app: App, how: str, last: str) -> None:
        """When a caller in the middle is killed, what it waits for is told."""
        assert host.restart("second").ok
        future = getattr(host.get_service("second"), how).submit(last, ["third"])
        assert app.has_begun.wait(DEADLINE)
        kill(host.get("second").pid or 0)
        with pytest.raises(WorkerLost, match="SIGKILL"):
            future.result()
        assert told(host)

    def test_an_application(self, host: Host, app: App, last: str) -> None:
        """When the application is killed, its calls are told, however far they have led."""
        program = (
            "import sys; from spiral_host import Host; host = Host.connect(sys.argv[1]);"
            "host.get_service('first').plain(sys.argv[2], ['second', 'third'])"
        )
        run_dir = str(host.status()["run_dir"])
        with subprocess.Popen([sys.executable, "-c", program, run_dir, last]) as application:
            assert app.has_begun.wait(DEADLINE)
            application.send_signal(signal.SIGKILL)
        assert told(host)


class TestStreams:
    @pytest.mark.parametrize("method", ["steady", "endless"])
    def test_its_deadline_is_the_call_s(self, host: Host, method: str) -> None:
        """A stream's reader is stopped when the call's time is up, and so is its writer."""
        stream = getattr(host.get_service("third"), method)
        late(host, lambda timeout: list(stream(timeout=timeout)))
        assert told(host)

    @pytest.mark.parametrize("method", ["steady", "endless"])
    def test_nobody_reads(self, host: Host, method: str) -> None:
        """The writer is stopped at the deadline of a stream that is neither read nor closed."""
        stream = getattr(host.get_service("third"), method)(timeout=LONG_S)
        assert told(host)
        stream.close()

    @pytest.mark.parametrize("method", ["steady", "endless"])
    def test_its_reader_dies(self, host: Host, method: str) -> None:
        """A killed application leaves no generator behind."""
        program = (
            "import sys, os, signal; from spiral_host import Host;"
            "host = Host.connect(sys.argv[1]);"
            "next(getattr(host.get_service('third'), sys.argv[2])());"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        run_dir = str(host.status()["run_dir"])
        subprocess.run([sys.executable, "-c", program, run_dir, method], check=False)
        assert told(host)


class TestTimeouts:
    def test_of_a_stub(self, host: Host) -> None:
        """What the stub was asked for with holds for its calls."""
        late(host, lambda t: host.get_service("third", timeout=t).busy(), "third.busy: no answer")
        assert told(host)

    def test_of_a_method(self, host: Host) -> None:
        """What the method was given goes before what the stub has."""
        method = host.get_service("third", timeout=DEADLINE).busy
        late(host, lambda timeout: method.options(timeout=timeout)())
        assert told(host)

    def test_of_a_call(self, host: Host) -> None:
        """What the call says goes before all others."""
        method = host.get_service("third", timeout=DEADLINE).sleep.options(timeout=DEADLINE)
        late(host, lambda timeout: method.submit(timeout=timeout).result())
        assert told(host)

    @pytest.mark.parametrize("last", LASTS)
    def test_a_plugin_s_own(self, host: Host, last: str) -> None:
        """A shorter one inside the chain ends what it was given for, and nothing above."""
        impatient, third = host.get_service("first").impatient, host.get_service("third")
        outcomes = []
        run_out(
            lambda timeout: outcomes.append(impatient(last, "third", timeout)),
            third.has_begun,
            SHORT_S / 2,
        )
        assert set(outcomes) == {"went on"}
        assert told(host)

    def test_waiting_a_while(self, host: Host, app: App) -> None:
        """A future's `result(timeout)` is patience, not a deadline: the call goes on."""
        future = host.get_service("second").pid.submit()
        assert future.result(DEADLINE) == host.get("second").pid
        future = host.get_service("third").sleep.submit()
        with pytest.raises(TimeoutError):
            future.result(0.01)
        assert not future.done()
        assert app.has_begun.wait(DEADLINE)
        future.cancel()
        assert told(host)

    def test_an_argument_that_is_not_read(self, host: Host, app: App) -> None:
        """A callee too busy to read all of a large call is late, and nothing worse."""
        second, third = host.get_service("second"), host.get_service("third")
        size = 900_000
        busy = second.busy.submit()
        assert app.has_begun.wait(DEADLINE)
        with pytest.raises(DeadlineExceeded):
            second.measure("x" * size, timeout=SHORT_S)
        assert third.measure("x" * size) == size
        busy.cancel()
        assert second.measure("x" * size) == size

    def test_too_late_to_begin(self, host: Host, app: App) -> None:
        """A call that is read after its deadline never begins."""
        third = host.get_service("third")
        busy = third.busy.submit()
        assert app.has_begun.wait(DEADLINE)
        with pytest.raises(DeadlineExceeded):
            third.steady.submit(timeout=SHORT_S / 10).result()
        busy.cancel()
        assert told(host)
        assert third.seen() == ["cancelled"]

    def test_cancelled_while_held(self, host: Host, app: App) -> None:
        """What its plugin had no time for, and was cancelled meanwhile, never begins."""
        second = host.get_service("second")
        second.forget()
        waiting = second.plain.submit("busy", ["third"])
        assert app.has_begun.wait(DEADLINE)
        held = second.busy.submit()
        held.cancel()
        waiting.cancel()
        assert told(host)
        assert second.seen() == []

    def test_an_error_inside_is_told_apart(self, host: Host) -> None:
        """A nested call's own deadline arrives as what its plugin raised, not as the caller's."""
        with pytest.raises(RemoteError) as caught:
            host.get_service("first").plain("no_such_method", ["third"])
        assert caught.value.type_name == "UsageError"


def test_the_lane_goes_on(host: Host, app: App) -> None:
    """After any of these the same stub answers, and late answers confuse nobody."""
    third = host.get_service("third")
    pid = third.pid()
    for _ in range(20):
        with pytest.raises(DeadlineExceeded):
            third.sleep(timeout=0.005)
        future = third.busy.submit()
        future.cancel()
        assert third.pid() == pid
