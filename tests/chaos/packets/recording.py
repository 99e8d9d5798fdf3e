"""Listen to real conversations: what a plugin and an application say, one of everything."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from protocol.feed import ECHO, TO_ALL, TO_HUB, is_run
from protocol.link import DaemonLink
from protocol.messages import FROM_CLIENT, FROM_ENDPOINT, FROM_WORKER
from protocol.packets import Kind
from protocol.peer import BusPeer
from protocol.runs import _HEAD, _WISHES, MAX_PAYLOAD, TERMINATOR, Run
from protocol.session import greeting
from spiral_host import Host, PluginCapability, PluginEvent
from tests.chaos.packets.mutations import Frame
from tests.chaos.packets.samples import every_kind
from tests.doors import details
from tests.hosts import DEADLINE, all_ready
from tests.hosts import Run as HostRun

RECORDER: Final = Path(__file__).parent / "plugins" / "recorder"

Conversations = dict[str, list[Frame]]

_SLOW: Final = (b"everything", b"recorded")
"""Methods that take seconds, or say all that was said."""

_PACKET: Final = 5
_LENGTH: Final = 4


def recorded(run: HostRun, host: Host) -> Conversations:
    """Have a plugin and an application do one of everything; give what was said, by socket.

    Each conversation has every kind of message that it knows: what did not occur is built.
    """
    assert all_ready(host.load(RECORDER))
    said: dict[str, list[bytes]] = {"control": [], "events": []}
    with _listening(said), Host.connect(run.run_dir, DEADLINE) as application:
        _do_everything(application)
        heard = application.get_service("recorder").recorded()
    lane = [frame[_LENGTH:] for frame in heard["lane"] if not any(w in frame for w in _SLOW)]
    return {
        "umbilical": [*map(_packet, _distinct(heard["umbilical"])), *_built_packets()],
        "lane": [Frame(b"", body) for body in _distinct(lane)],
        "control": [Frame(b"", body) for body in [*_distinct(said["control"]), *_built_control()]],
        "events": [*map(_to_hub, _distinct(said["events"])), *_built_events()],
        "subscriptions": list(_subscriptions()),
    }


def _do_everything(application: Host) -> None:
    recorder = application.get_service("recorder")
    application.list_plugins()
    application.list_services()
    application.find_by_capability(PluginCapability.Operators)
    application.set_config("recorded.too", "yes")
    application.get_config("recorded.too")
    application.register_service("application", _Service())
    seen: list[PluginEvent] = []
    application.subscribe("Recorded.*", seen.append, replay=3)
    application.make_sticky("Recorded.mine")
    application.publish(PluginEvent.custom("Recorded.mine", {"a": [1, 2.5, b"x", None]}))
    application.publish_report(PluginEvent.EpochEnd(epoch=1, loss=0.5), timeout=2.0)
    recorder.everything()
    recorder.echo({"a": [1, 2.5, None, True, b"bytes", "text"], "b": {"c": -7}})
    recorder.echo(bytes(100_000))
    list(recorder.count(40))
    recorder.soon(1)
    recorder.apply(lambda value: [value], 3)
    for stream in (recorder.count(1000),):
        next(iter(stream))
        stream.close()
    try:
        recorder.fail()
    except ValueError:
        application.unregister_service("application")


class _Service:
    def echo(self, value: object) -> object:
        """Give back what came."""
        return value


@contextmanager
def _listening(said: dict[str, list[bytes]]) -> Iterator[None]:
    def heard(where: str, method: Callable[..., Any], frame_of: Callable[[Any], bytes]) -> Any:  # noqa: ANN401
        @wraps(method)
        def call(self: object, what: Any) -> Any:  # noqa: ANN401
            said[where].append(frame_of(what))
            return method(self, what)

        return call

    def run_frame(run: Run) -> bytes:
        return run.frame

    with ExitStack() as stack:
        for kind, name, where, frame_of in (
            (DaemonLink, "send", "control", bytes),
            (BusPeer, "tell", "events", TO_HUB.encode),
            (BusPeer, "_send_run", "events", run_frame),
        ):
            call = heard(where, getattr(kind, name), frame_of)
            stack.enter_context(patch.object(kind, name, call))
        yield


def _distinct(frames: Iterable[bytes]) -> list[bytes]:
    """Give one of each length and opening: conversations repeat themselves."""
    return list({(len(frame), frame[:8]): frame for frame in frames}.values())[:200]


# --- frames taken apart ---------------------------------------------------------------------------


def _packet(packet: bytes) -> Frame:
    at = _PACKET
    if packet[:1] == Kind.FACT.value:
        at += 1 + packet[at]
    elif packet[:1] == Kind.EVENTS.value:
        at = packet.index(TERMINATOR, at) + 1 + _WISHES.size
    return Frame(packet[:at], packet[at:])


def _to_hub(frame: bytes) -> Frame:
    if not is_run(frame):
        return Frame(b"", frame)
    at = frame.index(TERMINATOR) + 1 + _HEAD.size
    at += frame[at - 1]
    return Frame(frame[:at], frame[at:])


# --- what did not occur ---------------------------------------------------------------------------


def _built_packets() -> Iterator[Frame]:
    for body in every_kind(FROM_ENDPOINT):
        yield Frame(Kind.NODE.value + b"\0\0\0\1", body)
    for body in every_kind(FROM_WORKER):
        yield Frame(Kind.RELAY.value + b"\0\0\0\1", body)
        yield Frame(Kind.FACT.value + b"\0\0\0\1\x05state", body)
        yield Frame(Kind.FACT.value + b"\0\0\0\1\x0cservice:text", body)
    many = b"\xdc\0\xc8" + b"\xc0" * 200
    for body in (many, b"\xdc\0\1\xc5\x80\0" + bytes(MAX_PAYLOAD - 32_768 + 32_760)):
        yield Frame(Kind.EVENTS.value + b"\0\0\0\1Recorded.x\0" + _WISHES.pack(0, 0, False), body)
    for number in range(2):  # a message in two parts
        yield Frame(Kind.NODE.value + bytes((0, number, 0, 2)), bytes(100))


def _built_control() -> Iterator[bytes]:
    yield greeting("client", FROM_CLIENT, details())
    yield from every_kind(FROM_CLIENT)


def _built_events() -> Iterator[Frame]:
    for body in every_kind(TO_HUB):
        yield Frame(b"", body)


def _subscriptions() -> Iterator[Frame]:
    for prefix in (b"", b"Recorded.mine\0", b"Recorded.", ECHO + b"0123", TO_ALL):
        yield Frame(b"\1", prefix)
        yield Frame(b"\0", prefix)
