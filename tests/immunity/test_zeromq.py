"""What ZeroMQ does by default and must not do to us: forget, drop in silence, sleep, or die."""

import random
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from protocol.follower import Delivery, Follower
from protocol.link import dealer, subscriber
from protocol.names import Topic
from protocol.reactor import Reactor
from protocol.runs import Head, Run, pack_body, pack_run, unpack_run
from spiral_host import Host, PluginEvent
from spiral_host.endpoint import Endpoint
from spiral_host.rundir import CONTROL, EVENTS_IN, EVENTS_OUT, RunDir
from tests.actors import collect
from tests.doors import MS, run_dir
from tests.hosts import DEADLINE

TOPICS = 1500
"""More than the 1000 that ZeroMQ keeps for the next connection by default."""


SENT = 6000
"""More runs of this size than two queues and a socket between them hold."""

PATIENCE_S = DEADLINE
"""Far longer than all of them take."""


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    with zmq.Context() as context:
        yield context


def topics_at(hub: "zmq.Socket[bytes]", down: "zmq.Socket[bytes]") -> set[bytes]:
    """Receive subscriptions until all have come, or none comes any more."""
    told: set[bytes] = set()
    until = time.monotonic() + PATIENCE_S
    while len(told) < TOPICS and time.monotonic() < until:
        down.get(zmq.EVENTS)  # as every turn of a reactor asks; it is then that they are said again
        while hub.poll(1):
            told.add(hub.recv())
    return told


def test_subscriptions_beyond_a_thousand_survive_a_reconnect(
    context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path
) -> None:
    """zeromq/libzmq#2258, #4064: after a reconnect only the first thousand subscriptions were said
    again; events of the others never came, and nobody was told. Here all of them are.
    """
    address = f"ipc://{tmp_path}/out"
    with subscriber(context, address) as down:
        for number in range(TOPICS):
            down.subscribe(b"%d" % number)
        for _ in range(2):
            with context.socket(zmq.XPUB) as hub:
                hub.set(zmq.LINGER, 0)
                hub.bind(address)
                assert len(topics_at(hub, down)) == TOPICS


def test_what_is_dropped_on_the_way_leaves_a_sign(
    context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path
) -> None:
    """zeromq/libzmq#3689, #2037, zeromq/jeromq#238: what a slow subscriber had no room for was
    dropped, and neither end knew. Here it is dropped too, and numbers say what is missing.
    """
    endpoint = Endpoint(RunDir(tmp_path / "run"))
    body = pack_body([b"x" * 8000])
    with subscriber(context, f"ipc://{tmp_path}/run/{EVENTS_OUT}") as down:
        down.subscribe(b"")
        assert endpoint.events_out.poll(int(DEADLINE * MS))
        endpoint.events_out.recv()
        for number in range(1, SENT + 1):
            head = Head(number, "p", 1, Topic("Many"), first=number, events=1, ts=0.0)
            endpoint.fan_out(pack_run(head, body).frame)
        came = []
        while down.poll(200):
            came.append(unpack_run(down.recv()))
    endpoint.close()
    assert len(came) < SENT, "nothing was dropped: send more"
    follower, line = Follower(), ("p", 1, Topic("Many"))
    told = [one for run in came for one in follower.arrive(run, 0.0)[0]]
    follower.counted(line, SENT, 1.0)
    told += follower.expire(DEADLINE)[0]
    assert sum(last_of(one) - first_of(one) + 1 for one in told) == SENT
    assert any(not isinstance(one, Run) for one in told)


def first_of(delivery: Delivery) -> int:
    return delivery.head.first if isinstance(delivery, Run) else delivery.first


def last_of(delivery: Delivery) -> int:
    return delivery.head.last if isinstance(delivery, Run) else delivery.last


def test_messages_that_came_together_are_all_received(
    context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path
) -> None:
    """zeromq/pyzmq#1203, #2173: a ZeroMQ descriptor says "look" once, and a reader that took one
    message slept on the others. Here the socket itself is asked before anybody sleeps.
    """
    endpoint, reactor = Endpoint(RunDir(tmp_path / "run")), Reactor()
    came: list[bytes] = []
    alone: list[bytes] = []
    endpoint.watch(reactor, lambda _, frames: came.extend(frames), lambda *_: None, lambda _: None)
    with (
        dealer(context, f"ipc://{tmp_path}/run/{CONTROL}") as client,
        context.socket(zmq.PULL) as pull,
        context.socket(zmq.PUSH) as push,
    ):
        push.bind("inproc://alone")
        pull.connect("inproc://alone")
        reactor.watch_zmq(pull, lambda: alone.append(pull.recv()))  # takes one at a time
        for number in range(1000):
            client.send(b"%d" % number)
            push.send(b"%d" % number)
        until = time.monotonic() + DEADLINE
        while len(came) + len(alone) < 2000 and time.monotonic() < until:
            reactor.turn(until - time.monotonic())
        reactor.forget_zmq(pull)
    assert came == alone == [b"%d" % number for number in range(1000)]
    endpoint.close()
    reactor.close()


GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + bytes(16 + 1 + 31)
READY = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"

MALFORMED = {
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "an old greeting": b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05" + b"\xff" * 64,
    "a frame of all the memory there is": GREETING + b"\x02" + b"\xff" * 8 + b"x" * 4096,
    "the same behind a handshake": GREETING + READY + b"\x02" + b"\xff" * 8 + b"x" * 4096,
    "a frame of almost so much": GREETING + READY + b"\x02\x7f" + b"\xff" * 7 + b"x" * 4096,
    "a command that lies about its length": GREETING + b"\x04\x09\xffREADY\xff\xff\xff\xff",
    "version 2 with a huge frame": b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x03" + b"\xff" * 32,
    **{f"chance {seed}": random.Random(seed).randbytes(3000) for seed in range(5)},
    **{f"chance {seed} later": GREETING + random.Random(seed).randbytes(900) for seed in range(5)},
}


@pytest.mark.parametrize("name", [CONTROL, EVENTS_IN, EVENTS_OUT])
def test_raw_bytes_on_a_socket_end_only_their_connection(shared: Host, name: str) -> None:
    """zeromq/libzmq#3351 (CVE-2019-6250), #3558: a frame's length overflowed a sum, and whoever
    could connect could write to the process's memory. Here such a connection ends, and no more.
    """
    daemon: int = shared.status()["pid"]
    memory = psutil.Process(daemon).memory_info().rss
    for sent in MALFORMED.values():
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(DEADLINE)
            end.connect(f"{run_dir(shared)}/{name}")
            try:
                end.sendall(sent)
                end.shutdown(socket.SHUT_WR)
                while end.recv(4096):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                continue  # it was hung up on in the middle
    assert shared.status()["pid"] == daemon
    assert psutil.Process(daemon).memory_info().rss < memory + (8 << 20)
    seen = collect(shared, "Still")
    shared.publish(PluginEvent.custom("Still", "here"), wait=True)
    assert [row["data"] for row in seen] == ["here"]


def test_nobody_else_reaches_the_sockets(shared: Host) -> None:
    """zeromq/libzmq#3351: the same, for those who have no business here at all. The directory is
    ours alone, and the library is one that has been mended.
    """
    assert stat.S_IMODE(Path(run_dir(shared)).stat().st_mode) == 0o700
    assert zmq.zmq_version_info() >= (4, 3, 3)
