"""Attacks on what carries messages: words that are none, words in others' names, others' doors."""

import array
import fcntl
import os
import random
import select
import socket
import stat
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgpack

from plugin_worker import PluginEvent, SpiralHostError
from protocol.flight import SIZE, STACKS
from protocol.messages import FROM_ENDPOINT, FROM_WORKER, Offer, Subscribe
from protocol.names import Topic
from protocol.packets import Kind, cut
from protocol.runs import Head, Publication, pack_body, pack_publication, pack_run

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import (
        PATIENCE_S,
        Gauntlet,
        Nothing,
        Refused,
        Scene,
        attack,
        tried,
    )
else:
    import raw
    from gauntlet import PATIENCE_S, Gauntlet, Nothing, Refused, Scene, attack, tried

__all__ = ["Gauntlet"]


def desk(scene: Scene) -> Any:  # noqa: ANN401 - behind the library's back
    """Give what sits at the upper end of the umbilical."""
    return scene.ctx._host._desk  # type: ignore[attr-defined]


def send(scene: Scene, *packets: bytes) -> None:
    """Send packets up the umbilical, whatever the library thinks of them."""
    umbilical = desk(scene).fd
    room = select.poll()
    room.register(umbilical, select.POLLOUT)
    for packet in packets:
        room.poll()
        raw.call("sendto", umbilical, packet, len(packet), 0, None, 0)


def survive(scene: Scene) -> str:
    """Say that it is still there once node and daemon have taken in all that was sent before."""
    scene.ctx.subscribe("Nothing", print)
    scene.ctx.list_services()
    return "away with it"


def say(scene: Scene, *packets: bytes) -> str:
    """Send packets that nobody may send."""
    send(scene, *packets)
    return survive(scene)


# --- doors ----------------------------------------------------------------------------------------


def knock(kind: int, path: str) -> str:
    """Connect to a named socket of the host's."""
    address = struct.pack("=H", socket.AF_UNIX) + path.encode() + b"\0"
    end = raw.call("socket", int(socket.AF_UNIX), kind, 0)
    raw.call("connect", end, address, len(address))
    os.close(end)
    return "a connection"


@attack("ipc-door-of-the-node")
def door_of_node(scene: Scene) -> str:
    return tried(lambda: knock(socket.SOCK_SEQPACKET, f"{scene.run_dir}/node.sock"))


@attack("ipc-door-of-the-daemon")
def door_of_daemon(scene: Scene) -> str:
    names = ("control", "events-in", "events-out")
    return tried(
        *(partial(knock, socket.SOCK_STREAM, f"{scene.run_dir}/{name}.sock") for name in names)
    )


# --- packets --------------------------------------------------------------------------------------


@attack("ipc-empty-packet")
def empty_packet(scene: Scene) -> str:
    return say(scene, b"")


@attack("ipc-packet-of-no-kind")
def no_kind(scene: Scene) -> str:
    return say(scene, b"z\0\0\0\1what")


@attack("ipc-packet-too-long")
def too_long(scene: Scene) -> str:
    return say(scene, b"n\0\0\0\1" + bytes(100_000))


@attack("ipc-packet-of-10-mb")
def huge(scene: Scene) -> str:
    return tried(lambda: say(scene, bytes(10 << 20)))


@attack("ipc-part-of-nothing")
def part_of_nothing(scene: Scene) -> str:
    return say(scene, b"r\0\5\0\7out of the blue")


@attack("ipc-message-without-end")
def without_end(scene: Scene) -> str:
    return say(scene, *(struct.pack("!cHH", b"r", n, 65535) + bytes(60_000) for n in range(100)))


@attack("ipc-half-a-message")
def half(scene: Scene) -> str:
    """The other half never comes: something else does."""
    return say(scene, struct.pack("!cHH", b"r", 0, 2) + bytes(60_000))


@attack("ipc-junk")
def junk(scene: Scene) -> str:
    dice = random.Random(1)
    return say(scene, *(dice.randbytes(dice.randrange(1, 4000)) for _ in range(500)))


# --- messages -------------------------------------------------------------------------------------

BODIES: Final = {
    "lying-length": b"\xdd\xff\xff\xff\xff\x01",
    "nested-without-end": b"\x91" * 5000,
    "a-megabyte-of-maps": b"\xdd\x00\x0f\xff\x00" + b"\x80" * 0xFFF00,
    "time-beyond-time": b"\x92\x07\xc7\x0c\xff" + b"\xff" * 12,
    "text-that-is-none": b"\x92\x07\xa4\xff\xfe\xfd\xfc",
    "not-a-number": msgpack.packb([7, "q", "*", float("nan"), float("nan")]),
    "wrong-types": msgpack.packb([7, ["q"], {"*": 1}, "x", None]),
    "unknown-code": msgpack.packb([250, 1]),
}


def forge(kind: Kind, body: bytes) -> Callable[[Scene], str]:
    return lambda scene: say(scene, *cut(kind, body))


for _name, _body in BODIES.items():
    attack(f"ipc-node-told-{_name}")(forge(Kind.NODE, _body))
    attack(f"ipc-daemon-told-{_name}")(forge(Kind.RELAY, _body))


@attack("ipc-loaded-again")
def loaded_again(scene: Scene) -> str:
    """What is said once at the beginning, said again and by somebody who is no node."""
    send(scene, *cut(Kind.RELAY, msgpack.packb([2])))
    raise Nothing(survive(scene))


@attack("ipc-offers-without-end")
def offers(scene: Scene) -> str:
    """What stays true is kept for daemons to come."""
    for number in range(2000):
        body = FROM_WORKER.encode(Offer(idempotent=(), service=f"offer{number}", methods=("m",)))
        key = f"service:{number}".encode()
        send(scene, *cut(Kind.FACT, bytes([len(key)]) + key + body))
    return survive(scene)


@attack("ipc-offers-garbage")
def offers_garbage(scene: Scene) -> str:
    body = FROM_WORKER.encode(Offer(idempotent=(), service="../\x1b[2J", methods=("__class__",)))
    return say(scene, *cut(Kind.FACT, b"\7service" + body))


@attack("ipc-attach-descriptors")
def attach(scene: Scene) -> str:
    """They are dropped before anybody has them: whether that is so is seen from outside.

    A user may have only so many on their way; it waits in between for the node to read.
    """
    event = pack_publication(Publication(Topic("Lie"), pack_body([b"\xc0"]), 1))
    (packet,) = cut(Kind.EVENTS, event)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2] * 20))
    end = socket.socket(fileno=os.dup(desk(scene).fd))
    room = select.poll()
    room.register(end, select.POLLOUT)
    with end:
        for number in range(100):
            room.poll()
            end.sendmsg([packet], [rights])
            if number % 5 == 4:
                survive(scene)
    raise Nothing("it sent 6,000")


# --- events ---------------------------------------------------------------------------------------


@attack("ipc-event-of-the-daemon")
def event_of_daemon(scene: Scene) -> str:
    event = pack_publication(Publication(Topic("PluginUnloaded"), pack_body([b"\x91\xa1x"]), 1))
    return say(scene, *cut(Kind.EVENTS, event))


@attack("ipc-event-of-the-daemon-politely")
def event_of_daemon_politely(scene: Scene) -> str:
    scene.ctx.event_bus.publish(PluginEvent.custom("PluginLoaded", {"plugin_id": "victim"}))
    return survive(scene)


@attack("ipc-run-of-another")
def run_of_another(scene: Scene) -> str:
    """A whole run, as only a node makes it, with the victim as its source."""
    head = Head(1, "victim", 1, Topic("Lie"), 1, 1, 0.0)
    return say(scene, *cut(Kind.EVENTS, pack_run(head, pack_body([b"\xc0"])).frame))


@attack("ipc-event-of-another")
def event_of_another(scene: Scene) -> str:
    """Whatever the event says, it bears the name of whose umbilical it came by."""
    heard: list[PluginEvent] = []
    subscription = scene.ctx.subscribe("Lie", heard.append)
    event = PluginEvent.custom("Lie", {"source": "victim"})
    event.stamp = ("victim", 7, 0.0)
    scene.ctx.event_bus.publish(event)
    scene.ctx.unsubscribe(subscription)
    survive(scene)
    raise Nothing("it was said")


@attack("ipc-event-longer-than-events")
def long_event(scene: Scene) -> str:
    lie = Publication(Topic("Lie"), msgpack.packb([b"x"] * 60_000), 60_000)
    return say(scene, *cut(Kind.EVENTS, pack_publication(lie)))


@attack("ipc-patterns-without-end")
def patterns(scene: Scene) -> str:
    wishes = (Subscribe(str(number), f"Lie{number}", 0, 0.0) for number in range(11_000))
    return say(scene, *(cut(Kind.NODE, FROM_ENDPOINT.encode(wish))[0] for wish in wishes))


# --- calls ----------------------------------------------------------------------------------------

HALF: Final = b"\0\0\x10\0" + b"x" * 10
"""Of a frame; the call behind it is taken for a part of it, and never answered."""

UNANSWERED_S: Final = 2.0


def on_lane(scene: Scene, body: bytes) -> str:
    """Write on the lane to the victim, then call it; give what came of it."""
    victim = scene.ctx.wait_service("victim", PATIENCE_S)
    victim.add(1, 1)
    lane = scene.ctx._host._caller.lines.by_service["victim"].lane  # type: ignore[attr-defined]
    os.write(lane.fd, body)
    try:
        right = victim.add(1, 1, timeout=UNANSWERED_S if body == HALF else PATIENCE_S)
    except SpiralHostError as error:
        raise Refused(type(error).__name__) from error
    raise Nothing(f"the next answer was {right}")


def forge_frame(body: bytes) -> Callable[[Scene], str]:
    return lambda scene: on_lane(scene, body)


def framed(parts: object) -> bytes:
    """Give a frame of a lane."""
    body: bytes = msgpack.packb(parts)
    return len(body).to_bytes(4, "big") + body


FORGED: Final = {
    "lying-length": b"\xff" * 64,
    "half-a-frame": HALF,
    "nested-without-end": (5000).to_bytes(4, "big") + b"\x91" * 5000,
    "answer-to-no-call": framed([70_000, 0, "you"]),
    "error-of-no-call": framed([70_000, 1, "NoSuchError", ["x"]]),
    "credit-without-end": framed([1, 5, 1 << 62]),
    "free-what-is-not-its-own": framed([0, 6, list(range(64))]),
    "call-of-a-private-name": framed([1 << 40, "victim", "__init__", [], None, 1e12, None]),
    "call-of-a-hook": framed([1 << 40, "victim", "on_unload", [], None, 1e12, None]),
    "chain-that-lies": framed(
        [1 << 40, "victim", "add", [1, 1], None, 1e12, [["victim", "add", "x"]] * 100]
    ),
}
for _name, _body in FORGED.items():
    attack(f"ipc-lane-{_name}")(forge_frame(_body))


@attack("ipc-take-over-a-service")
def take_over(scene: Scene) -> str:
    """Who calls the victim from now on would call this; whether that is so is seen from outside."""

    class Impostor:
        def add(self, left: int, right: int) -> int:
            return left - right

    scene.ctx.register_service("victim", Impostor())
    raise Nothing(survive(scene))


@attack("ipc-answer-twice")
def answer_twice(scene: Scene) -> str:
    """To whoever calls this very attack: an answer to each number, and then the right one."""
    lanes = [number for number in range(3, 256) if is_stream(number)]
    words = [framed([call, 0, "nothing but its own word, too early"]) for call in range(1, 400)]
    for lane in lanes:
        with suppress(BlockingIOError):  # there is no room for more
            for word in words:
                os.write(lane, word)
    raise Nothing("and an answer after the answer")


def is_stream(number: int) -> bool:
    """Say whether a descriptor is a lane's."""
    try:
        end = socket.socket(fileno=number)
    except OSError:
        return False
    kind = end.type
    end.detach()
    return kind == socket.SOCK_STREAM


# --- its own end of things ------------------------------------------------------------------------


@attack("ipc-close-the-umbilical")
def close_umbilical(scene: Scene) -> str:
    os.close(desk(scene).fd)
    threading.Event().wait(20)
    return "nobody noticed"


@attack("ipc-eat-what-comes")
def eat(scene: Scene) -> str:
    """Another thread takes what is for the library, which then waits for its answers in vain."""
    umbilical = os.dup(desk(scene).fd)

    def swallow() -> None:
        end = socket.socket(fileno=umbilical)
        while select.select([end], [], []):
            try:
                end.recv(1 << 17)
            except BlockingIOError:
                continue

    threading.Thread(target=swallow, daemon=True).start()
    threading.Event().wait(60)
    return "nobody noticed"


@attack("ipc-resize-shared-pages")
def resize(scene: Scene) -> str:
    pages = [number for number in range(3, 256) if is_page(number)]
    punch = 3
    return tried(
        *(partial(raw.call, "ftruncate", page, 0) for page in pages),
        *(partial(raw.call, "ftruncate", page, 1 << 20) for page in pages),
        *(partial(raw.call, "fallocate", page, 0, 1 << 20, 4096) for page in pages),
        *(partial(raw.call, "fcntl", page, fcntl.F_ADD_SEALS, 8) for page in pages),
        *(partial(raw.call, "fallocate", p, punch, 0, 4096) for p in pages if not is_flight(p)),
    )


@attack("ipc-write-what-is-to-read")
def write_page(scene: Scene) -> str:
    """The page with everybody's interests; opened anew it would be writable."""
    pages = [number for number in range(3, 256) if is_page(number) and not is_flight(number)]

    def write(page: int) -> int:
        return os.pwrite(page, b"\xff", 0)

    def write_anew(page: int) -> int:
        return os.pwrite(raw.open_file(f"/proc/self/fd/{page}", os.O_RDWR), b"\xff", 0)

    if not pages:
        raise Refused("blind")
    return tried(*(partial(write, p) for p in pages), *(partial(write_anew, p) for p in pages))


def is_page(number: int) -> bool:
    """Say whether a descriptor is shared memory."""
    try:
        status = os.fstat(number)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and not status.st_nlink


def is_flight(number: int) -> bool:
    """Say whether it is the page that is this worker's to write."""
    return os.fstat(number).st_size == SIZE + STACKS


@attack("ipc-side-channels")
def side_channels(scene: Scene) -> str:
    create = 0o1600

    def shared() -> str:
        segment = raw.call("shmget", 0, 4096, create)
        raw.call("shmctl", segment, 0, None)
        return "shared memory"

    def queue() -> str:
        made = raw.call("msgget", 0, create)
        raw.call("msgctl", made, 0, None)
        return "a queue"

    return tried(
        shared,
        queue,
        partial(raw.call, "semget", -1, 0, 0),
        partial(raw.call, "mq_open", b"hostile", 0, 0, None),
        partial(raw.call, "keyctl", 0, -4, 0),
        partial(raw.call, "add_key", b"user", b"hostile", b"x", 1, -4),
        partial(raw.call, "request_key", b"user", b"hostile", None, 0),
        partial(raw.call, "memfd_create", b"hostile", 0),
        partial(raw.call, "eventfd2", -1, -1),
    )


@attack("ipc-write-behind-its-own-library")
def write_behind(scene: Scene) -> str:
    """Nothing is trusted that this process can reach: its next answer is no answer."""
    import gc

    from protocol.lane import Lane

    for found in gc.get_objects():
        if type(found) is Lane:
            os.write(found.fd, b"\xff" * 4)
    return "answered"
