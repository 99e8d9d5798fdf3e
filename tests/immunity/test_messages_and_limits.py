"""Messages that cannot be meant, queues that are full, disks that are full: each has an outcome."""

import resource
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from protocol import feed, messages
from protocol.codec import MAX_MESSAGE, Conversation, unpack_value
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.messages import FROM_CLIENT, GetStatus
from spiral_host import Host, WorkerLost
from tests.actors import Aside
from tests.hosts import DEADLINE, Run, Watch, all_ready, eventually, kill, plugin

LARGE = "x" * 600_000

CONVERSATIONS = [
    conversation
    for module in (messages, feed)
    for conversation in vars(module).values()
    if isinstance(conversation, Conversation)
]

BOMBS = {
    "a list of 4 G": b"\xdd\xff\xff\xff\xff",
    "a map of 4 G": b"\xdf\xff\xff\xff\xff",
    "text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "an extension of 4 GiB": b"\xc9\xff\xff\xff\xff\x01",
    "a list of 4 G behind a code": b"\x92\x01\xdd\xff\xff\xff\xff",
    "a map whose key is a list": b"\x92\x01\x81\x90\x01",
    "lists in lists": b"\x91" * 10_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_few_bytes_cannot_claim_memory(bomb: bytes) -> None:
    """msgpack/msgpack-python#55: five bytes announced a list of four thousand million, and room for
    it was taken at once. Here such a message is refused, and has cost nothing.
    """
    assert len(CONVERSATIONS) > 5
    tracemalloc.start()
    try:
        for conversation in CONVERSATIONS:
            with pytest.raises(RemoteProtocolError):
                conversation.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_cut_off_in_silence() -> None:
    """msgpack/msgpack-python#503: a stream beyond its limit was cut off, and went on as if nothing
    had been there. Here both sides raise, and what follows a value is an error too.
    """
    with pytest.raises(LocalProtocolError, match="the limit is"):
        FROM_CLIENT.encode(GetStatus("x" * MAX_MESSAGE))
    with pytest.raises(RemoteProtocolError, match="the limit is"):
        FROM_CLIENT.decode(b"\xc4" * (MAX_MESSAGE + 1))
    whole = FROM_CLIENT.encode(GetStatus("q"))
    for damaged in (whole + b"\xc0", whole[:-1]):
        with pytest.raises(RemoteProtocolError):
            unpack_value(damaged)


def test_a_worker_that_dies_with_a_full_queue_leaves_no_caller_waiting(shared: Host) -> None:
    """python/cpython#94777, #125451, joblib/loky#75: a child died while its queue was full, and who
    was writing to it waited for ever. Here the writer is woken, and each call has its outcome.
    """
    assert all_ready(shared.load(plugin("faulty")))
    worker = Watch(shared.get("faulty").pid or 0)
    worker.kill(signal.SIGSTOP)
    begun = threading.Event()

    def write() -> list[object]:
        stub = shared.get_service("faulty")
        futures = [stub.echo.submit(1)]
        begun.set()
        futures += [stub.echo.submit(LARGE) for _ in range(8)]
        return [future.exception(DEADLINE) for future in futures]

    writing = Aside(write)
    assert begun.wait(DEADLINE)
    worker.kill()
    first, *others = writing.outcome()
    assert isinstance(first, WorkerLost)
    # What was not sent yet when it died goes to its next life.
    assert all(error is None or isinstance(error, WorkerLost) for error in others), others
    assert shared.get_service("polite").add(1, 1) == 2


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Let no file of a process grow, for a while."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def is_store_alarmed(host: Host) -> bool:
    """Say whether there is an alarm over the daemon's store; there may be others."""
    return any("store" in alarm for alarm in host.status()["alarms"])


def test_a_full_disk_stops_no_supervision(run: Run) -> None:
    """systemd/systemd#5016, #42999: a manager that could not write its state down any more froze,
    or was killed by its own check. Here it says so, and goes on starting what dies.
    """
    host = run.start("polite")
    with full_disk(run.daemon.pid):
        kill(host.get("polite").pid or 0)
        eventually(lambda: host.get("polite").restarts == 1 and host.get("polite").pid)
        eventually(partial(is_store_alarmed, host))
        assert host.wait_service("polite", DEADLINE).add(1, 1) == 2


def test_what_was_stored_outlives_a_full_disk(run: Run) -> None:
    """Velocidex/velociraptor#2885, ipfs/kubo#5300: on a full disk a file was emptied and could not
    be written again, or the error was remembered after there was room. Here old words stay whole,
    and the next ones are taken.
    """
    host = run.start()
    host.set_config("before", "kept")
    with full_disk(run.daemon.pid):
        host.set_config("before", "lost")
        eventually(partial(is_store_alarmed, host))
        run.kill_daemon()
    run.start_daemon()
    again = run.connect()
    assert again.get_config("before") == "kept"
    with full_disk(run.daemon.pid):
        again.set_config("after", "kept")
        eventually(partial(is_store_alarmed, again))
    again.set_config("later", "kept")
    eventually(lambda: not is_store_alarmed(again))
