"""Whoever breaks the protocol, at any door, loses its own connection and disturbs nobody."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import nan
from typing import Final

import msgpack
import pytest
import zmq

from protocol.feed import TO_HUB, Join, Replay, Synced
from protocol.messages import (
    FROM_CLIENT,
    FROM_ENDPOINT,
    HELLO,
    TO_CLIENT,
    TO_ENDPOINT,
    ClientTicket,
    ClientWelcome,
    GetStatus,
    Hello,
    Refused,
    WorkerDetails,
)
from protocol.names import Topic
from protocol.packets import Kind, cut
from protocol.runs import Head, Publication, pack_body, pack_publication, pack_run
from protocol.session import greeting
from protocol.version import VERSION
from spiral_host import Host, PluginEvent, WorkerLost
from tests.doors import MS, dealer, details, knock, packet, run_dir
from tests.hosts import DEADLINE, all_ready, eventually, plugin

LIMIT = 1 << 20

DEEP = b"\x91" * 100_000
"""Lists in lists, far deeper than any stack."""

GARBAGE = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "cut short": b"\xdb\xff\xff\xff\xff",
    "a number": b"\x05",
    "no code": b"\x90",
    "an unknown code": b"\x91\x7f",
    "wrong fields": b"\x92\x01\x02",
    "deep": DEEP,
    "wide": b"\xdd\x00\x0f\xff\xf0" + b"\x80" * 0xFFFF0,
    "too long": b"\xc4" * (LIMIT + 1),
    "an unknown extension": b"\xd4\x05\x00",
    "text": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.fixture(scope="module")
def door(shared: Host) -> Host:
    assert all_ready(shared.load([plugin("liar"), plugin("publisher"), plugin("relay")]))
    return shared


@pytest.fixture
def host(door: Host) -> Iterator[Host]:
    """A host that somebody misbehaves at; afterwards nothing else has changed."""
    pids = _pids(door)
    yield door
    assert _pids(door) == pids
    assert door.get_service("relay").call("polite", "add", 1, 1) == {"value": 2}
    seen: list[PluginEvent] = []
    subscription = door.subscribe("Still", seen.append)
    door.get_service("publisher").say("Still", "here")
    eventually(lambda: seen)
    door.unsubscribe(subscription)


def _pids(host: Host) -> list[object]:
    status = host.status()
    workers = [(info.id, info.pid) for info in host.list_plugins() if info.id != "liar"]
    return [status["pid"], status["node_pid"], *workers]


@contextmanager
def client(host: Host) -> Iterator[zmq.Socket[bytes]]:
    """Connect to the control socket as a proper client that has been welcomed."""
    with dealer(host, "control.sock") as end:
        end.send(greeting("client", FROM_CLIENT, details()))
        assert isinstance(TO_CLIENT.decode(end.recv()), ClientWelcome)
        yield end


@contextmanager
def peer_of_the_bus(host: Host) -> Iterator[tuple[zmq.Socket[bytes], bytes]]:
    """Join the bus as a client does; give the socket, and what to join again with."""
    with dealer(host, "control.sock") as control, dealer(host, "events-in.sock") as end:
        control.send(greeting("client", FROM_CLIENT, details()))
        welcome = TO_CLIENT.decode(control.recv())
        assert isinstance(welcome, ClientWelcome)
        join = TO_HUB.encode(Join(f"client:{welcome.incarnation}", filters=False))
        end.send(join)
        end.recv()
        yield end, join


def refusal(end: zmq.Socket[bytes]) -> str:
    """Give the reason of the refusal that comes."""
    refused = TO_CLIENT.decode(end.recv())
    assert isinstance(refused, Refused)
    assert refused.reason.isprintable()
    return refused.reason


class TestVersions:
    def test_at_the_daemon(self, host: Host) -> None:
        """The refusal names both versions and what to do."""
        hello = Hello(VERSION + 41, "client", FROM_CLIENT.encode(details()))
        with dealer(host, "control.sock") as end:
            end.send(HELLO.encode(hello))
            reason = refusal(end)
        assert f"version {VERSION + 41} met version {VERSION}" in reason
        assert "install the same" in reason

    def test_at_the_node(self, host: Host) -> None:
        """The same at its own door."""
        hello = Hello(VERSION + 41, "client", FROM_ENDPOINT.encode(ClientTicket(b"x" * 16)))
        with knock(host) as end:
            end.send(cut(Kind.NODE, HELLO.encode(hello))[0])
            assert f"version {VERSION + 41} met version {VERSION}" in sent_away(end)

    def test_a_client_is_told_by_its_own_library(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An application of another version gets the same words as an exception."""
        monkeypatch.setattr("protocol.session.VERSION", VERSION + 41)
        with pytest.raises(Exception, match=f"version {VERSION + 41} met version {VERSION}"):
            Host.connect(run_dir(host), DEADLINE)


class TestControlSocket:
    @pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
    def test_garbage_for_a_greeting(self, host: Host, body: bytes) -> None:
        """It is refused in one printable line."""
        with dealer(host, "control.sock") as end:
            end.send(body)
            assert refusal(end)

    @pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
    def test_garbage_after_a_greeting(self, host: Host, body: bytes) -> None:
        """The client is refused and forgotten; what it says next needs a greeting again."""
        with client(host) as end:
            end.send(body)
            assert refusal(end)
            end.send(FROM_CLIENT.encode(GetStatus("q")))
            assert refusal(end)

    def test_more_than_one_frame(self, host: Host) -> None:
        """A message is one frame."""
        with client(host) as end:
            end.send_multipart([b"a", b"b"])
            assert "several frames" in refusal(end)

    def test_a_frame_of_three_mebibytes(self, host: Host) -> None:
        """ZeroMQ hangs up before we see it."""
        with client(host) as end:
            events = zmq.EVENT_DISCONNECTED
            with end.get_monitor_socket(events) as monitor:
                end.send(bytes(3 * LIMIT))
                assert monitor.poll(int(DEADLINE * MS))
                end.disable_monitor()

    @pytest.mark.parametrize("role", ["worker", "king", ""])
    def test_roles_that_have_no_business_here(self, host: Host, role: str) -> None:
        """Workers come through their node, and nobody else comes at all."""
        with dealer(host, "control.sock") as end:
            end.send(HELLO.encode(Hello(VERSION, role, FROM_CLIENT.encode(details()))))
            assert "nothing here speaks with" in refusal(end)

    def test_a_greeting_without_details(self, host: Host) -> None:
        """A greeting that carries something else is none."""
        body = FROM_CLIENT.encode(GetStatus("q"))
        with dealer(host, "control.sock") as end:
            end.send(HELLO.encode(Hello(VERSION, "client", body)))
            assert refusal(end)

    def test_hundreds_of_connections(self, host: Host) -> None:
        """Many that say nothing cost nobody a place."""
        with zmq.Context() as context:
            ends = [context.socket(zmq.DEALER) for _ in range(200)]
            for end in ends:
                end.set(zmq.LINGER, 0)
                end.connect(f"ipc://{run_dir(host)}/control.sock")
            with client(host):
                pass
            for end in ends:
                end.close()


RUN: Final = pack_run(
    Head(1, "publisher", 1, Topic("Odd"), first=1, events=1, ts=0.0), pack_body([b"\x01"])
)


class TestEventsSocket:
    @pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
    def test_garbage(self, host: Host, body: bytes) -> None:
        """It is dropped, alone and in the frames of a run."""
        with peer_of_the_bus(host) as (end, join):
            end.send(body)
            end.send(b"Some\0" + body)
            end.send(RUN.frame[: -len(RUN.body)] + body)
            for frames in ([body, body, body], [RUN.frame, body], [body] * 5):
                end.send_multipart(frames)
            end.send(join)
            assert end.recv()

    def test_numbers_that_make_no_sense(self, host: Host) -> None:
        """Marks never given, runs from the far end of the numbers, replays of nobody."""
        with peer_of_the_bus(host) as (end, join):
            for message in (
                Synced(1 << 60),
                Synced(-5),
                Replay("nobody", 1, "Topic", 1, 1 << 60),
                Replay("publisher", -1, "Still", 5, 1),
            ):
                end.send(TO_HUB.encode(message))
            for first in (1 << 61, 1 << 62, (1 << 64) - 1):
                odd = RUN.head._replace(transmission=1 << 62, first=first, ts=nan)
                end.send(pack_run(odd, RUN.body).frame)
            end.send(join)
            assert end.recv()


def sent_away(end: socket.socket) -> str:
    """Give the reason of the refusal that comes, with the end of the connection behind it."""
    packet = end.recv(1 << 16)
    refused = TO_ENDPOINT.decode(packet[5:])
    assert isinstance(refused, Refused)
    assert end.recv(1 << 16) == b""
    return refused.reason


PACKETS = {
    "an unknown kind": b"?\0\0\0\x01" + b"\x90",
    "too short": b"n\0",
    "parts out of order": b"n\0\x05\0\x07" + b"x" * 10,
    "more parts than a message has": b"n\0\0\xff\xff" + b"x" * 10,
    "no greeting": b"n\0\0\0\x01" + b"\x05",
    "deep": b"n\0\0\0\x01" + b"\x91" * 60_000,
    "longer than a packet": b"n\0\0\0\x01" + b"x" * 70_000,
}


class TestNodeSocket:
    @pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS.keys())
    def test_packets_that_are_none(self, host: Host, packet: bytes) -> None:
        """The connection ends with a reason."""
        with knock(host) as end:
            end.send(packet)
            assert sent_away(end)

    def test_a_worker_does_not_come_this_way(self, host: Host) -> None:
        """The door is for clients."""
        with knock(host) as end:
            ticket = FROM_ENDPOINT.encode(ClientTicket(b"x" * 16))
            end.send(cut(Kind.NODE, HELLO.encode(Hello(VERSION, "worker", ticket)))[0])
            assert "'worker' came where a 'client' is expected" in sent_away(end)

    def test_a_ticket_opens_once(self, host: Host) -> None:
        """A second connection with the same ticket is not let in."""
        with dealer(host, "control.sock") as control:
            control.send(greeting("client", FROM_CLIENT, details()))
            welcome = TO_CLIENT.decode(control.recv())
            assert isinstance(welcome, ClientWelcome)
            hello = greeting("client", FROM_ENDPOINT, ClientTicket(welcome.ticket))
            with knock(host) as first, knock(host) as second:
                first.send(cut(Kind.NODE, hello)[0])
                assert first.recv(1 << 16)
                second.send(cut(Kind.NODE, hello)[0])
                for _ in range(2):  # the second time the node has looked at all that came before
                    with knock(host) as other:
                        other.send(PACKETS["no greeting"])
                        assert sent_away(other)
                second.setblocking(False)
                with pytest.raises(BlockingIOError):
                    second.recv(1 << 16)

    def test_a_client_that_misbehaves_inside(self, host: Host) -> None:
        """Let in, it may only say that a lane is closed."""
        with dealer(host, "control.sock") as control:
            control.send(greeting("client", FROM_CLIENT, details()))
            welcome = TO_CLIENT.decode(control.recv())
            assert isinstance(welcome, ClientWelcome)
            hello = greeting("client", FROM_ENDPOINT, ClientTicket(welcome.ticket))
            with knock(host) as end:
                end.send(cut(Kind.NODE, hello)[0])
                assert end.recv(1 << 16)
                end.send(PACKETS["deep"])
                assert end.recv(1 << 16) == b""

    def test_a_crowd_at_the_door(self, host: Host) -> None:
        """Beyond so many without a ticket others wait outside; a client gets in when they go."""
        with dealer(host, "control.sock") as control, ExitStack() as crowd:
            ends = [crowd.enter_context(knock(host)) for _ in range(100)]
            control.send(greeting("client", FROM_CLIENT, details()))
            welcome = TO_CLIENT.decode(control.recv())
            assert isinstance(welcome, ClientWelcome)
            with knock(host) as client:
                hello = greeting("client", FROM_ENDPOINT, ClientTicket(welcome.ticket))
                client.send(cut(Kind.NODE, hello)[0])
                for end in ends[:2]:  # behind the second the node has seen how many there are
                    end.send(PACKETS["no greeting"])
                    assert sent_away(end)
                crowd.close()
                assert client.recv(1 << 16)
        with Host.connect(run_dir(host), DEADLINE) as other:
            assert other.get_service("polite").add(1, 1) == 2


LIES = {
    **PACKETS,
    "a second greeting": packet(Kind.NODE, FROM_ENDPOINT.encode(WorkerDetails(()))),
    "a ticket": packet(Kind.NODE, FROM_ENDPOINT.encode(ClientTicket(b"x" * 16))),
    "no frame for the daemon": packet(Kind.RELAY, b"\xc1"),
    "deep for the daemon": packet(Kind.RELAY, b"\x91" * 60_000),
    "an unknown frame for the daemon": packet(Kind.RELAY, b"\x91\x7f"),
    "a client's order": packet(Kind.RELAY, b"\x92\x0f\xa1q"),
    "a service without a name": packet(Kind.FACT, b"\x01s" + msgpack.packb([4, "", ["x"]])),
    "a service with private methods": packet(
        Kind.FACT, b"\x01s" + msgpack.packb([4, "mine", ["_x"]])
    ),
    "a fact without a key": packet(Kind.FACT, b""),
    "no events": packet(Kind.EVENTS, b"\xc1"),
    "a reserved event": packet(Kind.EVENTS, msgpack.packb(["PluginLoaded", [b"\x80"]])),
    "events without a type": packet(Kind.EVENTS, msgpack.packb(["", [b"\x80"]])),
    "an event that is too large": packet(Kind.EVENTS, msgpack.packb(["Big", [b"x" * 50_000]])),
    "a subscription to nothing": packet(Kind.NODE, b"\x93\x03\xa1q\xa0"),
}


class TestUmbilical:
    @pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
    def test_a_worker_that_lies_is_ended(self, host: Host, lie: bytes) -> None:
        """It alone dies, by a rule that its callers are told, and a new one takes its place."""
        assert host.restart("liar").ok
        liar = host.get_service("liar")
        pid = liar.pid()
        # The kernel tells nobody when the node will read: the call may still be answered.
        with suppress(WorkerLost):
            liar.on_umbilical([lie])
        eventually(lambda: host.get("liar").pid not in {None, pid})
        assert host.wait_service("liar", DEADLINE).pid() != pid

    def test_its_callers_are_told_of_the_rule(self, host: Host) -> None:
        """A call that is lost with it says that a rule ended it, and which one."""
        assert host.restart("liar").ok
        with pytest.raises(WorkerLost, match=r"SIGKILL \(protocol violation: unknown packet kind"):
            host.get_service("liar").lie_and_hang(PACKETS["an unknown kind"])
        assert host.wait_service("liar", DEADLINE).pid()

    def test_what_a_publisher_garbles_reaches_nobody_raw(self, host: Host) -> None:
        """Fields that a built-in event does not have, bytes that are no value: marked as such."""
        seen: list[PluginEvent] = []
        host.subscribe("EpochStart", seen.append)
        liar = host.get_service("liar")
        topic = Topic("EpochStart")
        bodies = (pack_body([payload]) for payload in (b"\xc1", b"\x81\xa1x\x01"))
        lies = (pack_publication(Publication(topic, body, 1)) for body in bodies)
        liar.on_umbilical([packet(Kind.EVENTS, lie) for lie in lies])
        eventually(lambda: len(seen) == 2)
        assert {event.type for event in seen} == {"Malformed"}
        assert {event.source for event in seen} == {"liar"}

    def test_answers_to_what_it_was_never_asked(self, host: Host) -> None:
        """Facts about services of others change nothing for them."""
        liar = host.get_service("liar")
        withdraw = packet(Kind.RELAY, msgpack.packb([5, "polite"]))
        liar.on_umbilical([withdraw, packet(Kind.NODE, msgpack.packb([6, 1]))])
        liar.node_has_read()
        assert host.wait_service("polite", DEADLINE).add(1, 1) == 2
        owners = {service.name: service.plugin_id for service in host.list_services()}
        assert owners["polite"] == "polite"
