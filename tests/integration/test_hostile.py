"""Attacks on what everybody shares, the node and the daemon: they cost only the attacker.

The host fixture looks afterwards: same daemon, same node, same processes of every other plugin,
calls answered, events delivered.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

import msgpack
import pytest
import zmq

from plugin_worker.node.clients import WAIT_S
from protocol.errors import RemoteProtocolError
from protocol.messages import (
    FROM_CLIENT,
    FROM_ENDPOINT,
    FROM_WORKER,
    TO_CLIENT,
    ClientTicket,
    ClientWelcome,
    Offer,
    Subscribe,
)
from protocol.names import Topic
from protocol.packets import Kind, cut
from protocol.reactor import Reactor
from protocol.runs import MAX_PAYLOAD, Publication, pack_body, pack_publication
from protocol.session import greeting
from spiral_host import Host, PluginEvent, RemoteError, WorkerLost
from spiral_host.endpoint import Endpoint
from spiral_host.rundir import EVENTS_OUT, RunDir
from tests.doors import dealer, details, knock, packet, run_dir
from tests.hosts import DEADLINE, PLUGINS, Run, Watch, all_ready, eventually, plugin

CROWDED_S = 10.0
"""How long it may take to hear of events while somebody asks for more than he can be given."""

INNOCENT = ("polite", "publisher", "relay", "subscriber")


@pytest.fixture(scope="module")
def house(shared: Host) -> Host:
    assert all_ready(shared.load([plugin(name) for name in (*INNOCENT[1:], "liar")]))
    shared.get_service("subscriber").subscribe("Still")
    return shared


@pytest.fixture
def host(house: Host) -> Iterator[Host]:
    """A host with a liar in a new life; afterwards nobody else has noticed anything."""
    assert house.restart("liar").ok
    before = pids(house)
    yield house
    assert pids(house) == before
    assert house.get_service("relay").call("polite", "add", 1, 1) == {"value": 2}
    assert [info.id for info in house.health() if info.pid and info.id in INNOCENT]
    hears(house)


def publication(event_type: str, payloads: list[bytes]) -> list[bytes]:
    """Make the packets with which a worker publishes; a hostile one, any number of payloads."""
    body = pack_body(payloads) if len(payloads) < 1 << 16 else msgpack.packb(payloads)
    return cut(Kind.EVENTS, pack_publication(Publication(Topic(event_type), body, len(payloads))))


def pids(host: Host) -> dict[str, object]:
    status = host.status()
    found = {info.id: info.pid for info in host.list_plugins() if info.id in INNOCENT}
    assert all(found.values())
    return {"daemon": status["pid"], "node": status["node_pid"], **found}


def hears(host: Host) -> None:
    """Check that an event of an innocent plugin reaches another one and the application."""
    seen: list[PluginEvent] = []
    subscription = host.subscribe("Still", seen.append)
    subscriber = host.get_service("subscriber")
    heard = subscriber.count()
    host.get_service("publisher").say("Still", "here")
    eventually(lambda: seen and subscriber.count() > heard)
    host.unsubscribe(subscription)
    assert [event.to_dict()["data"] for event in seen] == ["here"]


class TestEvents:
    def publish(self, host: Host, *packets: bytes) -> None:
        """Have the liar send packets, which may be the last that it does."""
        with suppress(WorkerLost):
            host.get_service("liar").on_umbilical(list(packets))

    def test_to_itself_in_a_packet_that_outgrows_a_delivery(self, host: Host) -> None:
        """More events than a run may have, in a packet that is not too long."""
        wish = packet(Kind.NODE, FROM_ENDPOINT.encode(Subscribe("q", "Lie", 0, inf)))
        self.publish(host, wish, *publication("Lie", [b"\xc0"] * 60_000))

    def test_to_everybody(self, host: Host) -> None:
        """More events in one packet than a run may have fill no ring for good."""
        seen: list[PluginEvent] = []
        subscription = host.subscribe("Lie", seen.append)
        self.publish(host, *publication("Lie", [b""] * 200_000))
        hears(host)
        host.unsubscribe(subscription)

    def test_the_past_again_and_again(self, host: Host) -> None:
        """To look it up is much work, and a worker may ask for it a thousand times a second."""
        everything = host.subscribe("Lie", lambda _: None)
        small = [sole for _ in range(10_000) for sole in publication("Lie", [b"\xc0"])]
        wishes = [Subscribe(str(number), "*", 100_000, 0.0) for number in range(4000)]
        asked = [packet(Kind.NODE, FROM_ENDPOINT.encode(wish)) for wish in wishes]
        liar = host.get_service("liar")
        with suppress(WorkerLost):
            liar.play([(small, 1), (asked, 1)])
        began = time.monotonic()
        hears(host)
        host.unsubscribe(everything)
        assert time.monotonic() - began < CROWDED_S

    def test_it_waits_under_a_name_that_fits_no_answer(self, host: Host) -> None:
        """The node would have to send it back, and cannot."""
        pid = host.get_service("liar").pid()
        host.subscribe("Lie", lambda _: None)
        large = publication("Lie", [msgpack.packb(bytes(MAX_PAYLOAD - 8))])
        wish = Subscribe("q" * 900_000, "*", 1000, 0.0)
        with suppress(WorkerLost):
            host.get_service("liar").play([(large, 20)])
        self.publish(host, *cut(Kind.NODE, FROM_ENDPOINT.encode(wish)))
        eventually(lambda: host.get("liar").pid not in {None, pid})

    def test_types_without_end_while_its_ring_is_full(self, host: Host) -> None:
        """Each type costs every peer a counter; it is ended when it uses too many."""
        types = [sole for number in range(5000) for sole in publication(f"Lie{number}", [b"\xc0"])]
        large = publication("Lie0", [msgpack.packb(bytes(MAX_PAYLOAD - 8))])
        liar = host.get_service("liar")
        pid = liar.pid()
        # A daemon that takes nothing keeps the ring full: the last types have to wait for room.
        with stopped(host.status()["pid"]), suppress(WorkerLost):
            liar.play([(types[:4096], 1), (large, 90), (types[4096:], 1)])
            liar.node_has_read()
        eventually(lambda: host.get("liar").pid not in {None, pid})


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for a while."""
    watch = Watch(pid)
    watch.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        watch.kill(signal.SIGCONT)


class TestFlightPage:
    def test_its_size_stays(self, host: Host) -> None:
        """It is sealed: a node that reads it finds it whole, and nobody fills memory with it."""
        assert host.get_service("liar").resize_page() == ["PermissionError"] * 3
        assert "liar" in {info.id for info in host.health()}

    def test_what_stands_in_it_is_only_a_number(self, host: Host) -> None:
        """Counters that nobody can have counted are shown, and break nothing."""
        host.get_service("liar").scribble()
        assert "liar" in {info.id for info in host.health()}


class TestDaemonsMemory:
    def test_facts_that_outgrow_a_greeting(self, run: Run, tmp_path: Path) -> None:
        """What two liars state fits in no message together; the next daemon finds the others."""
        host = run.start(*INNOCENT, "liar")
        assert all_ready(host.load(twin(tmp_path)))
        before = pids(host)
        for name in ("liar", "liar2"):
            state(host, name, methods=450_000)
        run.kill_daemon()
        run.start_daemon()
        again = run.connect()
        after = pids(again)
        assert after.pop("daemon") != before.pop("daemon")
        assert after == before
        assert again.get_service("relay").call("polite", "add", 1, 1) == {"value": 2}
        again.get_service("subscriber").subscribe("Still")
        hears(again)

    def test_configuration_without_end(self, run: Run) -> None:
        """A plugin that writes key after key is refused in the end; the others are not."""
        host = run.embed(*INNOCENT, "liar")
        before = pids(host)
        assert host.get_service("liar").hoard(100_000) < 100_000
        assert pids(host) == before
        assert host.get_service("relay").call("polite", "add", 1, 1) == {"value": 2}


def twin(folder: Path) -> str:
    """Make another liar; give its path."""
    copy = folder / "liar2"
    copy.mkdir()
    for file in ("liar.py", "plugin.toml"):
        (copy / file).write_text((PLUGINS / "liar" / file).read_text().replace('"liar"', '"liar2"'))
    return str(copy)


def state(host: Host, name: str, methods: int) -> None:
    """Have a liar state services with so many methods in all, and wait until the node knows."""
    with suppress(WorkerLost):
        for part in range(2):
            offer = Offer(idempotent=(), service=f"{name}{part}", methods=("m",) * (methods // 2))
            key = f"service:{part}".encode()
            body = bytes([len(key)]) + key + FROM_WORKER.encode(offer)
            host.get_service(name).on_umbilical(cut(Kind.FACT, body))
        host.get_service(name).node_has_read()


def welcome(end: "zmq.Socket[bytes]") -> ClientWelcome | None:
    """Greet the daemon as a client; give its welcome, or None when it refuses."""
    end.send(greeting("client", FROM_CLIENT, details()))
    answer = TO_CLIENT.decode(end.recv())
    return answer if isinstance(answer, ClientWelcome) else None


class TestClients:
    def test_that_leave_as_they_come_in(self, host: Host) -> None:
        """The node's answer to a ticket finds nobody there any more."""
        for _ in range(20):
            with dealer(host, "control.sock") as control:
                welcomed = welcome(control)
                assert welcomed is not None
                ticket = ClientTicket(welcomed.ticket)
                with knock(host) as end:
                    end.send(packet(Kind.NODE, greeting("client", FROM_ENDPOINT, ticket)))
        with Host.connect(run_dir(host), DEADLINE) as other:
            assert other.get_service("polite").add(1, 1) == 2

    def test_that_never_come_to_the_second_door(self, host: Host) -> None:
        """The daemon hears no connection end; it gives up whoever the node never saw."""
        path = f"ipc://{run_dir(host)}/control.sock"
        with zmq.Context() as context:
            for _ in range(520):
                with context.socket(zmq.DEALER) as end:
                    end.set(zmq.LINGER, 0)
                    end.connect(path)
                    welcome(end)

        def is_let_in() -> bool:
            try:
                with Host.connect(run_dir(host), DEADLINE) as other:
                    return bool(other.get_service("polite").add(1, 1) == 2)
            except RemoteProtocolError:  # they are given up one by one, and all places are taken
                return False

        assert eventually(is_let_in, WAIT_S + 2 * DEADLINE)

    def test_that_say_only_the_beginning_of_a_message(self, tmp_path: Path) -> None:
        """What stands behind it is somebody's subscription, and is taken for one."""
        endpoint, reactor = Endpoint(RunDir(tmp_path / "run")), Reactor()
        heard: list[bytes] = []
        endpoint.watch(reactor, lambda *_: None, lambda *_: None, heard.append)
        with zmq.Context() as context, context.socket(zmq.XSUB) as end:
            end.set(zmq.LINGER, 0)
            end.connect(f"ipc://{tmp_path}/run/{EVENTS_OUT}")
            end.send_multipart([b"made up", b"\1Still\0"])
            until = time.monotonic() + DEADLINE
            while b"\1Still\0" not in heard and time.monotonic() < until:
                reactor.turn(0.05)
        endpoint.close()
        assert heard == [b"made up", b"\1Still\0"]


CIRCLE = '''
# /// script
# [tool.spiral-host]
# id = "{me}"
# version = "1.0.0"
# ///
import os
from plugin_worker import Plugin

class Service:
    def __init__(self, ctx):
        self.ctx = ctx

    def bounce(self, height):
        """Call the other's bounce, one lower; crash at 0."""
        if not height:
            os.abort()
        return self.ctx.wait_service("{other}", 10).bounce(height - 1)

class Circle(Plugin):
    def on_load(self, ctx):
        ctx.register_service("{me}", Service(ctx))
'''


@pytest.fixture
def circle(tmp_path: Path, host: Host) -> Iterator[Host]:
    """A host with `left` and `right`, which call each other."""
    for me, other in (("left", "right"), ("right", "left")):
        (tmp_path / f"{me}.py").write_text(CIRCLE.format(me=me, other=other))
    assert all_ready(host.load(tmp_path))
    yield host
    host.unload("left")
    host.unload("right")


class TestCircles:
    def test_whose_innermost_crashes(self, circle: Host) -> None:
        """Left waits for right, which waits for left, which waits for right: right dies."""
        left = circle.get("left").pid
        started = time.monotonic()
        with pytest.raises((RemoteError, WorkerLost), match="SIGABRT"):
            circle.get_service("left").bounce(3)
        assert time.monotonic() - started < DEADLINE
        assert circle.get("left").pid == left

    def test_that_has_no_end(self, circle: Host) -> None:
        """Deeper than any chain of calls may be, it is named."""
        left = circle.get("left").pid
        caught: list[BaseException] = []

        def call() -> None:
            try:
                circle.get_service("left").bounce(40)
            except (RemoteError, WorkerLost) as error:
                caught.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        caller.join(DEADLINE)
        (error,) = caught
        assert "left -> right -> left" in str(error)
        assert circle.get("left").pid == left
