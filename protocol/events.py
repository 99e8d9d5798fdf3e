"""Plugin events: SpiralTorch's built-in types, custom ones, and their plain form.

An event is built by its publisher and stamped on its way (`source`, `seq`, `ts`) by parts
that plugins cannot forge. Nothing here sends or receives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Final

from protocol.errors import UsageError
from protocol.names import parse_topic, shown

RESERVED: Final = frozenset(
    {"SystemInit", "SystemShutdown", "PluginLoaded", "PluginUnloaded", "EventGap"}
)
"""Only the daemon publishes these; `EventGap` is nobody's, it is made where events are missing."""


@dataclass(slots=True)
class PluginEvent:
    """Something that happened. Slotted but not frozen: they are built a million times.

    Attributes:
        source: Who published it: a plugin's id, `app:NAME`, or `spiral-host`. Stamped, not claimed.
        seq: Its number among the events of this type by this life of its source, from 1.
        ts: When it entered the bus, seconds since the epoch.
    """

    source: str = field(default="", init=False, compare=False, repr=False)
    seq: int = field(default=0, init=False, compare=False, repr=False)
    ts: float = field(default=0.0, init=False, compare=False, repr=False)

    SystemInit: ClassVar[type["SystemInit"]]
    SystemShutdown: ClassVar[type["SystemShutdown"]]
    PluginLoaded: ClassVar[type["PluginLoaded"]]
    PluginUnloaded: ClassVar[type["PluginUnloaded"]]
    TensorOp: ClassVar[type["TensorOp"]]
    EpochStart: ClassVar[type["EpochStart"]]
    EpochEnd: ClassVar[type["EpochEnd"]]
    BackendChanged: ClassVar[type["BackendChanged"]]
    Telemetry: ClassVar[type["Telemetry"]]
    EventGap: ClassVar[type["EventGap"]]
    custom: ClassVar[Callable[[str, object], "CustomEvent"]]

    @property
    def type(self) -> str:
        """The event's type, as it is subscribed to."""
        return self.__class__.__name__

    def fields(self) -> dict[str, object]:
        """Give what the publisher said, by name, without the stamps."""
        return {name: getattr(self, name) for name in _FIELDS[self.__class__]}

    def to_dict(self) -> dict[str, object]:
        """Give everything in plain values: `type`, the fields, `source`, `seq`, `ts`."""
        stamps = {"source": self.source, "seq": self.seq, "ts": self.ts}
        return {"type": self.type, **self.fields(), **stamps}


@dataclass(slots=True)
class SystemInit(PluginEvent):
    """Every plugin that was asked for is ready or has failed."""


@dataclass(slots=True)
class SystemShutdown(PluginEvent):
    """The host stops; plugins are still all there."""


@dataclass(slots=True)
class PluginLoaded(PluginEvent):
    """A plugin is ready."""

    plugin_id: str


@dataclass(slots=True)
class PluginUnloaded(PluginEvent):
    """A plugin has left, on request."""

    plugin_id: str


@dataclass(slots=True)
class TensorOp(PluginEvent):
    """An operator ran."""

    op_name: str
    input_shape: list[int]
    output_shape: list[int]


@dataclass(slots=True)
class EpochStart(PluginEvent):
    """A pass over the data begins."""

    epoch: int


@dataclass(slots=True)
class EpochEnd(PluginEvent):
    """A pass over the data is done."""

    epoch: int
    loss: float


@dataclass(slots=True)
class BackendChanged(PluginEvent):
    """Computation moved to another backend."""

    backend: str


@dataclass(slots=True)
class Telemetry(PluginEvent):
    """Figures by name."""

    data: dict[str, float]


@dataclass(slots=True)
class EventGap(PluginEvent):
    """Events that cannot be had any more: numbers `first` to `last` of a type from `source`."""

    event_type: str
    first: int
    last: int


@dataclass(slots=True)
class CustomEvent(PluginEvent):
    """An event of a type that its publisher named; `data` is anything the codec carries."""

    event_type: str
    data: object = None

    @property
    def type(self) -> str:
        """The event's type, as it is subscribed to."""
        return self.event_type

    def fields(self) -> dict[str, object]:
        """Give what the publisher said, under `data`."""
        return {"data": self.data}


_BUILT_IN: Final[tuple[type[PluginEvent], ...]] = (
    SystemInit,
    SystemShutdown,
    PluginLoaded,
    PluginUnloaded,
    TensorOp,
    EpochStart,
    EpochEnd,
    BackendChanged,
    Telemetry,
    EventGap,
)
BUILT_IN: Final[Mapping[str, type[PluginEvent]]] = {kind.__name__: kind for kind in _BUILT_IN}
for _kind in _BUILT_IN:
    setattr(PluginEvent, _kind.__name__, _kind)

_STAMPS: Final = frozenset({"source", "seq", "ts"})
_FIELDS: Final = {
    kind: tuple(f.name for f in fields(kind) if f.name not in _STAMPS) for kind in _BUILT_IN
}


def custom(event_type: str, data: object = None) -> CustomEvent:
    """Build an event of a type of your own.

    Raises:
        UsageError: The type is no event type, or is a built-in one.
    """
    if event_type in BUILT_IN:
        raise UsageError(f"{event_type} is built in; use PluginEvent.{event_type}(...)")
    return CustomEvent(parse_topic(event_type), data)


PluginEvent.custom = staticmethod(custom)


def from_fields(event_type: str, said: object) -> PluginEvent:
    """Build an event from what travelled: a built-in type's fields by name, or custom data.

    Raises:
        UsageError: A built-in type's fields are missing, unknown or not named.
    """
    kind = BUILT_IN.get(event_type)
    if kind is None:
        return CustomEvent(event_type, said)
    wanted = ", ".join(_FIELDS[kind]) or "none"
    if not isinstance(said, dict) or set(said) != set(_FIELDS[kind]):
        raise UsageError(f"{event_type} has the fields {wanted}; got {shown(said)}")
    return kind(**said)


def said_by(event: PluginEvent) -> object:
    """Give what of an event travels: a built-in type's fields by name, or custom data.

    Raises:
        UsageError: It is of a class of the publisher's own.
    """
    if type(event) not in _FIELDS and not isinstance(event, CustomEvent):
        raise UsageError(f"{event.type} is no event; use PluginEvent.custom({event.type!r}, ...)")
    return event.data if isinstance(event, CustomEvent) else event.fields()
