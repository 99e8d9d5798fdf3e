"""A callee that dies at any step of a call leaves its caller exactly one outcome."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from protocol.failpoints import SPEC
from spiral_host import Host, RemoteError, WorkerLost
from tests.hosts import DEADLINE, Run, all_ready, eventually, kill, plugin


def kill_it(pid: int) -> None:
    """Kill the callee, from inside a function that it calls."""
    os.kill(pid, signal.SIGKILL)


class Killer:
    """The application's own service, for workers: they may signal nobody but themselves."""

    def kill(self, pid: int) -> None:
        """Kill a process."""
        kill_it(pid)


STEPS: dict[str, tuple[tuple[object, ...], int]] = {
    "in_its_arguments": (({"number": 1},), 0),
    "at_its_start": ((), 1),
    "before_its_answer": ((), 1),
    "in_a_callback": ((kill_it,), 1),
    "in_a_coroutine": ((), 1),
}
"""Methods that end so, with arguments, and how often their plugin's own code has begun."""

AT_ONCE_S = 15.0
"""Far less than the deadline of a call, on a machine that is busy with other tests."""


@pytest.fixture(scope="module")
def host(shared: Host) -> Host:
    """The shared host with a plugin that dies when it is told to, and one that calls it."""
    assert all_ready(shared.load([plugin("mortal"), plugin("asker")]))
    shared.register_service("killer", Killer())
    return shared


@pytest.fixture
def mortal(host: Host) -> Any:  # noqa: ANN401 - a stub
    """The plugin, forgiven for its earlier deaths."""
    assert host.restart("mortal").ok
    stub = host.get_service("mortal")
    stub.begun()
    return stub


class Outcomes(list[object]):
    """Every outcome that a call has had; there is to be one."""

    def of(self, call: Callable[[], object]) -> None:
        """Note what comes of a call."""
        try:
            self.append(call())
        except WorkerLost as error:
            self.append(error)

    def check(self) -> None:
        """It was the callee's death, told once."""
        (error,) = self
        assert isinstance(error, WorkerLost)
        assert (error.plugin_id, error.cause) == ("mortal", "SIGKILL")


@pytest.mark.parametrize(("step", "arguments", "begun"), [(s, *how) for s, how in STEPS.items()])
class TestKilled:
    def test_waited_for(
        self,
        mortal: Any,  # noqa: ANN401
        step: str,
        arguments: tuple[object, ...],
        begun: int,
    ) -> None:
        """A call that is waited for; nothing has run twice, and the next one is answered."""
        outcomes = Outcomes()
        started = time.monotonic()
        outcomes.of(lambda: getattr(mortal, step)(*arguments))
        assert time.monotonic() - started < AT_ONCE_S
        outcomes.check()
        assert mortal.begun() == begun

    def test_submitted(
        self,
        mortal: Any,  # noqa: ANN401
        step: str,
        arguments: tuple[object, ...],
        begun: int,
    ) -> None:
        """A future has it once, however often it is asked, and so has each of its callbacks."""
        outcomes, told = Outcomes(), list[object]()
        future = getattr(mortal, step).submit(*arguments)
        future.add_done_callback(told.append)
        for _ in range(2):
            with pytest.raises(WorkerLost):
                future.result()
        outcomes.of(future.result)
        outcomes.check()
        assert told == [future]
        assert mortal.begun() == begun

    def test_awaited(
        self,
        mortal: Any,  # noqa: ANN401
        step: str,
        arguments: tuple[object, ...],
        begun: int,
    ) -> None:
        """A coroutine has it, and others of its loop are not disturbed."""
        outcomes = Outcomes()

        async def one() -> object:
            value: object = await getattr(mortal.aio, step)(*arguments)
            return value

        async def main() -> int:
            error = (await asyncio.gather(one(), return_exceptions=True))[0]
            outcomes.append(error)
            next_one: int = await mortal.aio.begun()
            return next_one

        assert asyncio.run(main()) == begun
        outcomes.check()

    def test_from_a_worker(
        self,
        host: Host,
        mortal: Any,  # noqa: ANN401
        step: str,
        arguments: tuple[object, ...],
        begun: int,
    ) -> None:
        """Another worker has it too, and raises it as an error of its own."""
        asker = host.get_service("asker")
        call = partial(asker.call, "mortal", step, *arguments)
        if step == "in_a_callback":
            call = partial(asker.call_back, "mortal", step, "killer", "kill")
        with pytest.raises(RemoteError, match="mortal was lost.*SIGKILL") as caught:
            call()
        assert caught.value.type_name == "WorkerLost"
        assert asker.call("mortal", "begun") == begun


class TestKilledInAStream:
    @pytest.mark.parametrize("method", ["half_way", "half_way_soon"])
    @pytest.mark.parametrize("count", [0, 3, 50])
    def test_read_by_a_thread(self, mortal: Any, method: str, count: int) -> None:  # noqa: ANN401
        """What had come before is given; then the death, once; then the stream is over."""
        items: list[int] = []
        outcomes = Outcomes()

        def read() -> None:
            for item in getattr(mortal, method)(count):
                items.append(item)  # noqa: PERF402 - a list of what came before the error

        outcomes.of(read)
        outcomes.check()
        assert items == list(range(len(items)))
        assert mortal.begun() == 1

    @pytest.mark.parametrize("method", ["half_way", "half_way_soon"])
    def test_read_by_a_coroutine(self, mortal: Any, method: str) -> None:  # noqa: ANN401
        """The same."""
        items: list[int] = []
        outcomes = Outcomes()

        async def read() -> None:
            async for item in getattr(mortal.aio, method)(50):
                items.append(item)  # noqa: PERF401 - as above

        outcomes.of(lambda: asyncio.run(read()))
        outcomes.check()
        assert items == list(range(len(items)))
        assert mortal.begun() == 1

    def test_over_for_good(self, mortal: Any) -> None:  # noqa: ANN401
        """The error is given once; a stream that has ended stays so."""
        stream = mortal.half_way(40)
        with pytest.raises(WorkerLost):
            list(stream)
        assert list(stream) == []
        stream.close()


class TestKilledFromOutside:
    def test_before_it_reads(self, mortal: Any) -> None:  # noqa: ANN401
        """Calls that were sent and never read have theirs, and were not carried out."""
        pid, folder = mortal.pid(), mortal.folder()
        busy = mortal.while_busy.submit()
        waiting = [mortal.add.submit(number, 1) for number in range(20)]
        has_begun = Path(folder) / "begun"
        eventually(lambda: has_begun.exists() and has_begun.stat().st_size)
        kill(pid)
        for future in (busy, *waiting):
            outcomes = Outcomes()
            outcomes.of(future.result)
            outcomes.check()
        assert mortal.begun() == 1

    def test_while_it_does_not_run(self, mortal: Any) -> None:  # noqa: ANN401
        """A stopped process answers nobody; its death is told to all that wait."""
        pid = mortal.pid()
        os.kill(pid, signal.SIGSTOP)
        futures = [mortal.add.submit(number, 1) for number in range(5)]
        kill(pid)
        for future in futures:
            outcomes = Outcomes()
            outcomes.of(future.result)
            outcomes.check()
        assert mortal.begun() == 0


def test_a_node_that_hears_of_the_death_late(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its word is waited for, by an application and by a worker, in every form of a call."""
    monkeypatch.setenv(SPEC, "node/exit.seen=delay(900)")
    host = run.embed("mortal", "asker")
    mortal, asker = host.get_service("mortal"), host.get_service("asker")

    async def awaited() -> None:
        await mortal.aio.at_its_start()

    forms: tuple[Callable[[], object], ...] = (
        mortal.at_its_start,
        lambda: mortal.at_its_start.submit().result(),
        lambda: asyncio.run(awaited()),
    )
    for form in forms:
        host.wait_service("mortal", DEADLINE)
        outcomes = Outcomes()
        outcomes.of(form)
        outcomes.check()
    host.wait_service("mortal", DEADLINE)
    with pytest.raises(RemoteError, match="mortal was lost.*SIGKILL"):
        asker.call("mortal", "at_its_start")


PROGRAM = """
import os, sys, threading
from spiral_host import Host, SpiralHostError
host = Host.connect(sys.argv[1])
stub = host.get_service("mortal")
assert stub.add(1, 2) == 3
"""

FORKED = """
for way in (lambda: stub.add(1, 2), lambda: stub.add.submit(1, 2), lambda: stub.add.submit):
    pid = os.fork()
    if not pid:
        try:
            way()
        except SpiralHostError as error:
            print(type(error).__name__, error, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert stub.add(2, 2) == 4
print("parent", stub.add(1, 1), flush=True)
"""

AT_THE_END = """
def late():
    threading.main_thread().join()
    for _ in range(3):
        try:
            print("answer", stub.add(1, 2), flush=True)
        except SpiralHostError as error:
            print(type(error).__name__, error, flush=True)

threading.Thread(target=late).start()
"""


def printed(host: Host, program: str) -> list[str]:
    """Run a program that is connected to the host; give what it printed."""
    run_dir = str(host.status()["run_dir"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + program, run_dir],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


class TestOddPlaces:
    def test_in_a_forked_child(self, host: Host) -> None:
        """It is told that the stub is its parent's, whose own calls go on."""
        *told, parent = printed(host, FORKED)
        assert parent == "parent 2"
        assert len(told) == 2
        assert all("process that forked" in line for line in told)

    def test_in_a_thread_at_the_interpreter_s_end(self, host: Host) -> None:
        """It is answered like any other, and the program ends."""
        assert printed(host, AT_THE_END) == ["answer 3"] * 3

    def test_after_the_host_was_closed(self, host: Host) -> None:
        """It is told so; the program ends."""
        told = printed(host, AT_THE_END + "host.close()\n")
        assert len(told) == 3
        assert all(line.startswith("NoDaemon") for line in told)
