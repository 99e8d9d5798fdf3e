"""What a plugin does at the same time is bounded; who asks for more is told when to come back."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from protocol.calls import CREDITS
from protocol.codec import pack_value
from protocol.errors import Overloaded, SpiralHostError
from protocol.serving import MAX_QUEUED, MAX_RUNNING
from spiral_host import DeadlineExceeded, Host
from tests.hosts import DEADLINE, all_ready, eventually

PLUGIN = '''
# /// script
# [tool.spiral-host]
# id = "desk"
# version = "1.0.0"
# ///
import asyncio, os
from plugin_worker import Plugin

class Service:
    def __init__(self):
        self.shut()

    def shut(self):
        self.gate, self.begun, self.now, self.most = asyncio.Event(), 0, 0, 0

    def open(self):
        self.gate.set()

    def count(self, upto):
        yield from range(upto)

    def pid(self):
        return os.getpid()

    async def wait(self, number):
        """Wait until the gate is opened."""
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1
        return number

    def counted(self):
        """How many have begun, and how many there were at the same time."""
        return [self.begun, self.most]

class Desk(Plugin):
    def on_load(self, ctx):
        ctx.register_service("desk", Service())
'''

SHORT_S = 0.1


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, shared: Host) -> Host:
    """The shared host with a desk at which many can wait."""
    path = tmp_path_factory.mktemp("plugins") / "desk.py"
    path.write_text(PLUGIN)
    assert all_ready(shared.load(path))
    return shared


@pytest.fixture
def desk(host: Host) -> Iterator[Any]:
    """The desk's stub; its gate is shut, and nobody waits there."""
    stub = host.get_service("desk")
    stub.shut()
    yield stub
    stub.open()


def outcome(future: Any) -> object:  # noqa: ANN401 - a future of a stub
    """Give a call's value or its error."""
    error = future.exception(DEADLINE)
    return future.result() if error is None else error


def in_threads(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    """Begin the same work in several threads."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_beyond_what_may_run_and_wait(desk: Any) -> None:  # noqa: ANN401
    """So many run, so many wait, the rest is refused; everybody else has an answer."""
    each = (MAX_RUNNING + MAX_QUEUED) // 2 + 40
    assert each <= CREDITS
    outcomes: list[object] = []
    arrived = threading.Barrier(3)

    def work() -> None:
        futures = [desk.wait.submit(number) for number in range(each)]
        desk.counted()  # answered after those before it have found their place
        arrived.wait(DEADLINE)
        outcomes.extend(outcome(future) for future in futures)

    threads = in_threads(2, work)
    arrived.wait(DEADLINE)
    eventually(lambda: desk.counted() == [MAX_RUNNING, MAX_RUNNING])
    desk.open()
    for thread in threads:
        thread.join(DEADLINE)

    refused = [one for one in outcomes if isinstance(one, Overloaded)]
    assert len(refused) == 80
    assert {error.service for error in refused} == {"desk"}
    assert all(0 < error.retry_after <= MAX_QUEUED for error in refused)
    answered = [one for one in outcomes if isinstance(one, int)]
    assert len(answered) == MAX_RUNNING + MAX_QUEUED
    assert desk.counted() == [MAX_RUNNING + MAX_QUEUED, MAX_RUNNING]


def test_a_thread_out_of_credit_waits(host: Host, desk: Any) -> None:  # noqa: ANN401
    """Its next call waits for an answer to an earlier one, or for its deadline; others go on."""
    futures = [desk.wait.submit(number) for number in range(CREDITS)]
    with pytest.raises(DeadlineExceeded):
        desk.wait.submit(0, timeout=SHORT_S)
    (other,) = in_threads(1, host.get_service("desk").open)
    assert desk.wait.submit(CREDITS).result() == CREDITS
    assert [future.result() for future in futures] == list(range(CREDITS))
    other.join(DEADLINE)
    assert desk.counted()[0] == CREDITS + 1


def test_coroutines_out_of_credit_wait(desk: Any) -> None:  # noqa: ANN401
    """However many await at the same time, none of them is refused."""

    async def main() -> list[int]:
        waiting = asyncio.gather(*(desk.aio.wait(number) for number in range(4 * CREDITS)))
        await asyncio.to_thread(desk.open)
        return await waiting

    assert asyncio.run(main()) == list(range(4 * CREDITS))


@pytest.mark.parametrize("how", ["late", "cancelled"])
def test_not_wanted_any_more(desk: Any, how: str) -> None:  # noqa: ANN401
    """A call whose time has run out, or that was cancelled, while it was queued never begins."""
    running = [desk.wait.submit(number) for number in range(MAX_RUNNING)]
    timeout = SHORT_S if how == "late" else DEADLINE
    unwanted = [desk.wait.submit(0, timeout=timeout) for _ in range(150)]
    for future in unwanted:
        if how == "cancelled":
            future.cancel()
        else:
            assert isinstance(outcome(future), DeadlineExceeded)
    eventually(lambda: desk.counted() == [MAX_RUNNING, MAX_RUNNING])
    desk.open()
    assert [future.result() for future in running] == list(range(MAX_RUNNING))
    assert desk.counted() == [MAX_RUNNING, MAX_RUNNING]

    # And their places are free again.
    desk.shut()
    again = [desk.wait.submit(number) for number in range(MAX_RUNNING)]
    eventually(lambda: desk.counted() == [MAX_RUNNING, MAX_RUNNING])
    desk.open()
    assert [future.result() for future in again] == list(range(MAX_RUNNING))


def frames(*parts: object) -> bytes:
    """Write frames as a lane carries them."""
    bodies = [pack_value(part) for part in parts]
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


NEVER = 1e12
LIES = {
    "no msgpack": b"\0\0\0\x02\xc1\xc1",
    "a length beyond the limit": b"\xff" * 64,
    "words about nothing": frames([9, 9], [9, 0], [9, 4, 1], [9, 5, None]),
    "credit without end": frames([7, "desk", "count", [9**9], None, NEVER, None], [7, 5, 1 << 62]),
    "credit that is none": frames([7, "desk", "count", [9**9], None, NEVER, None], [7, 5, "many"]),
    "a number twice": frames(*[[7, "desk", "count", [99], None, NEVER, None]] * 2, [7, 5, 99]),
    "a number twice, later": frames(*[[7, "desk", "wait", [1], None, NEVER, None]] * 2, [7, 4]),
    "an odd deadline": frames([7, "desk", "wait", [1], None, float("nan"), None]),
    "an odd chain": frames([7, "desk", "wait", [1], None, NEVER, [[1, 2, 3]]]),
    "odd keywords": frames([7, "desk", "pid", [], {1: 2}, NEVER, None]),
    "a callback that is none": frames([7, "", "1", [], None, NEVER, None]),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_caller_that_lies_harms_itself_alone(host: Host, desk: Any, lie: bytes) -> None:  # noqa: ANN401
    """It may lose its lane; the plugin lives, and its other callers never notice."""
    pid = desk.pid()
    done = threading.Event()

    def tell_lies() -> None:
        stub = host.get_service("desk")
        stub.pid()
        os.write(stub.pid.caller.lines.by_service["desk"].lane.fd, lie)
        with suppress(SpiralHostError):
            stub.pid(timeout=SHORT_S)
        done.set()

    (liar,) = in_threads(1, tell_lies)
    assert done.wait(DEADLINE)
    liar.join(DEADLINE)  # and its lane is closed, with whatever was not read of it
    assert desk.pid() == pid
    assert list(desk.count(3)) == [0, 1, 2]
