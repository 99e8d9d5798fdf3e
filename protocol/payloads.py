"""What an event says, as bytes: a built-in type's fields in their order, or custom data.

An event is packed when it is published, because its publisher may change it afterwards, and built
again in the process of each subscriber.
"""

from collections.abc import Callable, Iterable
from itertools import starmap
from typing import Any, Final

from protocol.codec import new_packer, unpack_value
from protocol.errors import LocalProtocolError, RemoteProtocolError, UsageError
from protocol.events import BUILT_IN, RESERVED, CustomEvent, PluginEvent
from protocol.names import Topic, parse_topic, shown
from protocol.runs import MAX_PAYLOAD, Missing, Run, payloads_of
from protocol.shapes import SHAPES

pack_numbers: Final = new_packer(None)
"""One for all threads: numbers are packed without asking anybody, and are never large. Raises
`OverflowError` for one of more than 64 bits, `TypeError` for what is none."""

_PACKERS: Final[list[Callable[[object], bytes]]] = []
"""Packers that nobody is using; one is in use while the values it packs are asked for theirs."""

_LARGE: Final = 4096
"""Bytes that a packer keeps for itself; one that has packed more is not used again."""

_MAX_KNOWN: Final = 4096

_TOPICS: Final = {
    kind: shape.topic for kind, shape in SHAPES.items() if shape.topic not in RESERVED
}
_BY_NAME: Final = {shape.topic: shape for shape in SHAPES.values()}
_known: Final[set[str]] = set()
"""Types of custom events that have been looked at."""


def topic_of(event: PluginEvent) -> Topic:
    """Give the type under which an event is published.

    Raises:
        UsageError: It is no event type, reserved, or of a class of the publisher's own.
    """
    topic = _TOPICS.get(event.__class__)
    if topic is not None:
        return topic
    if event.__class__ is CustomEvent and event.type in _known:
        return Topic(event.type)
    return _looked_at(event)


def _looked_at(event: PluginEvent) -> Topic:
    if not isinstance(event, CustomEvent):
        if type(event) in SHAPES:
            raise UsageError(f"only the daemon publishes {event.type}")
        raise UsageError(f"{shown(event)} is no event; use PluginEvent.custom(type, data)")
    topic = parse_topic(event.type)
    if topic in RESERVED:
        raise UsageError(f"only the daemon publishes {topic}")
    if topic in BUILT_IN:
        raise UsageError(f"{topic} is built in; use PluginEvent.{topic}(...)")
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    _known.add(topic)
    return topic


def encode_event(event: PluginEvent) -> bytes:
    """Give what an event says, as one msgpack value.

    Raises:
        UsageError: A field holds something else than it should.
        LocalProtocolError: It holds what cannot travel, or more than `MAX_PAYLOAD` bytes.
    """
    shape = SHAPES.get(event.__class__)
    if shape is None:
        return _pack(event, event.data)  # type: ignore[attr-defined]
    types = shape.types(event)
    if types in shape.numbers:
        try:
            return pack_numbers(shape.values(event))
        except (OverflowError, TypeError):
            pass  # refused below, in words
    said = shape.values(event)
    if types not in shape.plain:
        said = shape.become(said)
    return _pack(event, said)


def _pack(event: PluginEvent, said: object) -> bytes:
    try:
        pack = _PACKERS.pop()
    except IndexError:  # another thread may have taken the last one just now
        pack = new_packer()
    try:
        payload = pack(said)
    except (LocalProtocolError, TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"event {event.type} cannot travel: {error}") from None
    if len(payload) < _LARGE:
        _PACKERS.append(pack)
    elif len(payload) > MAX_PAYLOAD:
        raise LocalProtocolError(
            f"event {event.type} has {len(payload)} bytes; the limit is {MAX_PAYLOAD}: "
            "offer large values as a service and publish where to ask"
        )
    return payload


def decode_run(run: Run) -> Iterable[PluginEvent]:
    """Build the events of a run, stamped. What its publisher garbled arrives as `Malformed`."""
    head = run.head
    try:
        said = unpack_value(run.body)
        if type(said) is not list or len(said) != head.events:
            raise RemoteProtocolError("it miscounts itself")
        events = _build(head.topic, said)
    except RemoteProtocolError as error:
        events = _build_each(run, error)
    source, ts = head.source, head.ts
    for seq, event in enumerate(events, head.first):
        event.stamp = (source, seq, ts)
    return events


def _build(topic: Topic, said: list[Any]) -> list[PluginEvent]:
    shape = _BY_NAME.get(topic)
    if shape is None:
        return [CustomEvent(topic, data) for data in said]
    if set(map(type, said)) != {list}:
        raise RemoteProtocolError(f"{topic} says nothing by fields")
    shape.check(said)
    kind: Callable[..., PluginEvent] = shape.kind
    return list(starmap(kind, said))


def _build_each(run: Run, error: RemoteProtocolError) -> list[PluginEvent]:
    """Build what can be built, one by one: one garbled event costs no other."""
    topic, count = run.head.topic, run.head.events
    try:
        payloads = payloads_of(run.body)
        if len(payloads) != count:
            raise RemoteProtocolError("it miscounts itself")
    except RemoteProtocolError:
        return [_malformed(topic, error) for _ in range(count)]
    return [_build_one(topic, payload) for payload in payloads]


def _build_one(topic: Topic, payload: bytes) -> PluginEvent:
    try:
        return _build(topic, [unpack_value(payload)])[0]
    except RemoteProtocolError as error:
        return _malformed(topic, error)


def _malformed(topic: Topic, error: RemoteProtocolError) -> PluginEvent:
    return PluginEvent.custom("Malformed", {"type": topic, "why": str(error)})


def gap_event(missing: Missing) -> PluginEvent:
    """Build the event that says which ones are missing."""
    gap: PluginEvent = PluginEvent.EventGap(missing.topic, missing.first, missing.last)
    gap.stamp = (missing.source, 0, 0.0)
    return gap
