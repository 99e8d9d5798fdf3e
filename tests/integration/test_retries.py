"""A lost call is made again if its method allows that, never otherwise; stubs outlive workers."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.throttle import ATTEMPTS
from spiral_host import Host, RemoteError, ServiceUnavailable, WorkerLost
from tests.actors import Aside
from tests.hosts import DEADLINE, Run, all_ready, eventually, kill, plugin
from tests.immunity.parts import stopped

AT_ONCE_S = 10.0
"""Far less than the deadline of a call, on a machine that is busy with other tests."""

SHORT_S = 1.0
"""A deadline that passes while a call waits for whoever takes it, and not before it does."""


@pytest.fixture(scope="module")
def host(shared: Host) -> Host:
    """The shared host with a plugin that dies when it is told to, and one that calls it."""
    assert all_ready(shared.load([plugin("mortal"), plugin("asker")]))
    return shared


@pytest.fixture
def mortal(host: Host) -> Any:  # noqa: ANN401 - a stub
    """The plugin, forgiven for its earlier deaths; no call of its has begun."""
    assert host.restart("mortal").ok
    stub = host.get_service("mortal")
    stub.begun()
    # A service that has lost many calls is asked less often; each test begins with all its tokens.
    stub.add.caller._throttles.clear()
    return stub


def waited_for(stub: Any, method: str, deaths: int) -> int:  # noqa: ANN401
    value: int = getattr(stub, method)(deaths)
    return value


def awaited(stub: Any, method: str, deaths: int) -> int:  # noqa: ANN401
    async def main() -> int:
        value: int = await getattr(stub.aio, method)(deaths)
        return value

    return asyncio.run(main())


@pytest.mark.parametrize("call", [waited_for, awaited])
class TestIdempotent:
    @pytest.mark.parametrize("method", ["again", "again_soon"])
    @pytest.mark.parametrize("deaths", [0, 1, ATTEMPTS - 1])
    def test_is_made_again(
        self,
        mortal: Any,  # noqa: ANN401
        call: Callable[[Any, str, int], int],
        method: str,
        deaths: int,
    ) -> None:
        """By the worker's next life, as often as it takes, up to three times in all."""
        assert call(mortal, method, deaths) == deaths + 1
        assert mortal.begun() == deaths + 1

    def test_not_for_ever(self, mortal: Any, call: Callable[[Any, str, int], int]) -> None:  # noqa: ANN401
        """A call that kills whoever takes it kills no more than three."""
        with pytest.raises(WorkerLost, match="SIGKILL"):
            call(mortal, "again", 100)
        assert mortal.begun() == ATTEMPTS


class TestAtMostOnce:
    @pytest.mark.parametrize("call", [waited_for, awaited])
    def test_is_not_made_again(self, mortal: Any, call: Callable[[Any, str, int], int]) -> None:  # noqa: ANN401
        """A method that says nothing of itself runs once, whatever becomes of it."""
        with pytest.raises(WorkerLost):
            call(mortal, "once", 1)
        assert mortal.begun() == 1

    def test_futures(self, mortal: Any) -> None:  # noqa: ANN401
        """A future is one attempt; whoever holds it makes the next."""
        with pytest.raises(WorkerLost):
            mortal.again.submit(1).result()
        assert mortal.begun() == 1

    def test_an_error_is_an_answer(self, mortal: Any) -> None:  # noqa: ANN401
        """What a plugin raises is no reason to ask it again."""
        with pytest.raises(RemoteError, match="an answer"):
            mortal.refuse()
        assert mortal.begun() == 1

    def test_between_workers(self, host: Host, mortal: Any) -> None:  # noqa: ANN401
        """The same holds for a plugin that calls another."""
        asker = host.get_service("asker")
        assert asker.call("mortal", "again", 1) == 2
        assert mortal.begun() == 2
        with pytest.raises(RemoteError, match="was lost"):
            asker.call("mortal", "once", 1)
        assert mortal.begun() == 1

    def test_a_callee_that_was_gone_before(self, mortal: Any) -> None:  # noqa: ANN401
        """A call whose worker died before it was made is not lost: the next life has it, once."""
        for _ in range(3):
            pid = mortal.pid()
            kill(pid)
            assert mortal.add(1, 2) == 3
            assert mortal.pid() != pid
        assert mortal.begun() == 3


class TestWhileNobodyOffersIt:
    @pytest.fixture
    def down(self, mortal: Any) -> Iterator[Path]:  # noqa: ANN401
        """The plugin has died and does not come up; the file that it waits for to be gone."""
        gate = Path(mortal.folder()) / "gate"
        gate.touch()
        kill(mortal.pid())
        yield gate
        gate.unlink(missing_ok=True)

    def test_a_call_waits(self, mortal: Any, down: Path) -> None:  # noqa: ANN401
        """For the worker's next life, by the caller's choice or without one."""
        sums: list[int] = []
        thread = threading.Thread(target=lambda: sums.append(mortal.add(1, 2)))
        thread.start()
        with pytest.raises(ServiceUnavailable):
            mortal.add.options(wait=False)(1, 2)
        assert sums == []
        down.unlink()
        thread.join(DEADLINE)
        assert sums == [3]

    def test_a_coroutine_waits(self, mortal: Any, down: Path) -> None:  # noqa: ANN401
        """It does not hold up the others of its loop."""

        async def main() -> object:
            waiting = asyncio.ensure_future(one(mortal.aio.add(1, 2)))
            await asyncio.sleep(0)
            await asyncio.to_thread(down.unlink)
            return await waiting

        assert asyncio.run(main()) == 3

    def test_a_call_fails_at_once(self, mortal: Any, down: Path) -> None:  # noqa: ANN401
        """By the caller's choice; later the same stub is answered."""
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="mortal"):
            mortal.add.options(wait=False)(1, 2)
        assert time.monotonic() - started < AT_ONCE_S
        down.unlink()
        assert mortal.add(1, 2) == 3
        assert mortal.add.options(wait=False)(1, 2) == 3

    def test_a_call_waits_no_longer_than_it_may(self, mortal: Any, down: Path) -> None:  # noqa: ANN401
        """Its deadline ends the wait too; nothing of it was carried out."""
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable):
            mortal.add(1, 2, timeout=SHORT_S)
        assert time.monotonic() - started < AT_ONCE_S
        down.unlink()
        assert mortal.add(1, 2) == 3
        assert mortal.begun() == 1


class TestWhileTheDaemonIsBusy:
    def test_a_call_waits_no_longer_than_it_may(self, run: Run) -> None:
        """A daemon that has no time to say who offers a service is not said to be gone."""
        host = run.start("mortal")
        stub = host.get_service("mortal")
        assert stub.add(1, 2) == 3
        with stopped(run.daemon.pid):
            # A thread of its own, because each has a lane of its own.
            in_a_thread = Aside(lambda: stub.add(1, 2, timeout=SHORT_S))
            error = in_a_thread.outcome()
        assert isinstance(error, ServiceUnavailable), error
        assert Aside(lambda: stub.add(1, 2)).outcome() == 3
        assert stub.begun() == 2


class TestAfterUnload:
    def test_who_waits_and_who_does_not(self, host: Host, mortal: Any) -> None:  # noqa: ANN401
        """A stub is told that nobody offers it, or waits until somebody does again."""
        hasty = host.get_service("mortal", wait=False)
        host.unload("mortal")
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="mortal"):
            hasty.add(1, 2)
        with pytest.raises(ServiceUnavailable, match="mortal"):
            asyncio.run(one(hasty.aio.add(1, 2)))
        assert time.monotonic() - started < AT_ONCE_S
        with pytest.raises(ServiceUnavailable, match="mortal"):
            mortal.add(1, 2, timeout=SHORT_S)
        assert host.get_service("mortal") is None

        sums: list[int] = []
        thread = threading.Thread(target=lambda: sums.append(mortal.add(1, 2)))
        thread.start()
        assert all_ready(host.load(plugin("mortal")))
        thread.join(DEADLINE)
        assert sums == [3]
        assert hasty.add(1, 2) == mortal.add(1, 2) == 3

    def test_a_stub_survives_a_restart(self, host: Host, mortal: Any) -> None:  # noqa: ANN401
        """The next call goes to the new worker, from threads and from coroutines."""
        pid = mortal.pid()
        assert host.restart("mortal").ok
        assert mortal.pid() not in {None, pid}
        assert asyncio.run(one(mortal.aio.pid())) == mortal.pid()


async def one(call: Any) -> object:  # noqa: ANN401 - a call of `stub.aio`
    value: object = await call
    return value


class Named:
    """A service that says who offers it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        """Say it."""
        return self._name


async def _await_name(stub: Any) -> str:  # noqa: ANN401
    name: str = await stub.aio.name()
    return name


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_service_may_move_while_its_process_lives(host: Host, is_awaited: bool) -> None:  # noqa: FBT001
    """Who offers it no more says so, and a later call goes to whoever offers it then."""

    def name() -> str:
        try:
            return runner.run(_await_name(stub)) if is_awaited else str(stub.name())
        except ServiceUnavailable as error:
            return error.why

    run_dir = host.status()["run_dir"]
    with (
        asyncio.Runner() as runner,
        Host.connect(run_dir) as first,
        Host.connect(run_dir) as second,
    ):
        first.register_service("moving", Named("first"))
        stub = host.wait_service("moving", DEADLINE)
        assert name() == "first"
        first.unregister_service("moving")
        assert name() == "it is not offered here any more"
        second.register_service("moving", Named("second"))
        eventually(lambda: name() == "second")
        second.unregister_service("moving")
