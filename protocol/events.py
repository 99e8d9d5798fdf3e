"""Plugin events: SpiralTorch's built-in types, custom ones, and their plain form.

An event is built by its publisher and stamped on its way (`source`, `seq`, `ts`) by parts
that plugins cannot forge. Nothing here sends or receives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol

from protocol.errors import UsageError
from protocol.names import parse_topic, shown

RESERVED: Final = frozenset(
    {
        "SystemInit",
        "SystemShutdown",
        "PluginLoaded",
        "PluginUnloaded",
        "ServiceUp",
        "ServiceDown",
        "PermissionRefused",
        "EventGap",
        "Malformed",
    }
)
"""Only the daemon publishes these; `EventGap` and `Malformed` are nobody's, they are made where
events are missing or cannot be read."""


@dataclass(slots=True)
class PluginEvent:
    """Something that happened. Slotted but not frozen: they are built a million times.

    Attributes:
        stamp: `source`, `seq` and `ts`, once it has been on the bus. Stamped, not claimed.
    """

    stamp: tuple[str, int, float] = field(init=False, compare=False, repr=False)

    said: ClassVar[tuple[str, ...]] = ()
    """The names of its fields, in the order in which they travel."""

    SystemInit: ClassVar[type["SystemInit"]]
    SystemShutdown: ClassVar[type["SystemShutdown"]]
    PluginLoaded: ClassVar[type["PluginLoaded"]]
    PluginUnloaded: ClassVar[type["PluginUnloaded"]]
    ServiceUp: ClassVar[type["ServiceUp"]]
    ServiceDown: ClassVar[type["ServiceDown"]]
    PermissionRefused: ClassVar[type["PermissionRefused"]]
    TensorOp: ClassVar[type["TensorOp"]]
    EpochStart: ClassVar[type["EpochStart"]]
    EpochEnd: ClassVar[type["EpochEnd"]]
    BackendChanged: ClassVar[type["BackendChanged"]]
    Telemetry: ClassVar[type["Telemetry"]]
    EventGap: ClassVar[type["EventGap"]]
    custom: ClassVar["_MakesCustom"]

    # An event that was never on the bus bears no stamp, and costs nothing for that.

    @property
    def source(self) -> str:
        """Who published it: a plugin's id, `app:NAME`, or `spiral-host`."""
        return self.stamp[0] if hasattr(self, "stamp") else ""

    @property
    def seq(self) -> int:
        """Its number among the events of this type by this life of its source, from 1."""
        return self.stamp[1] if hasattr(self, "stamp") else 0

    @property
    def ts(self) -> float:
        """When it entered the bus, seconds since the epoch."""
        return self.stamp[2] if hasattr(self, "stamp") else 0.0

    @property
    def type(self) -> str:
        """The event's type, as it is subscribed to."""
        return self.__class__.__name__

    def fields(self) -> dict[str, object]:
        """Give what the publisher said, by name, without the stamps."""
        return {name: getattr(self, name) for name in self.said}

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
class ServiceUp(PluginEvent):
    """A service can be called."""

    service: str
    plugin_id: str


@dataclass(slots=True)
class ServiceDown(PluginEvent):
    """A service can no longer be called."""

    service: str
    plugin_id: str


@dataclass(slots=True)
class PermissionRefused(PluginEvent):
    """A plugin tried what it was not granted: `what`, a path say, for want of `permission`."""

    plugin_id: str
    permission: str
    what: str


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
    ServiceUp,
    ServiceDown,
    PermissionRefused,
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
    _kind.said = tuple(_kind.__annotations__)


class _MakesCustom(Protocol):
    def __call__(self, event_type: str, data: object = None) -> CustomEvent:
        """Build an event of a type of your own; see `custom`."""


def custom(event_type: str, data: object = None) -> CustomEvent:
    """Build an event of a type of your own.

    Raises:
        UsageError: The type is no event type, or is a built-in one.
    """
    topic = parse_topic(event_type)
    if topic in BUILT_IN:
        raise UsageError(f"{topic} is built in; use PluginEvent.{topic}(...)")
    return CustomEvent(topic, data)


PluginEvent.custom = staticmethod(custom)


def from_fields(event_type: str, said: object) -> PluginEvent:
    """Build an event from what a person or a recording says: fields by name, or custom data.

    Raises:
        UsageError: The type is no event type; or a built-in type's fields are missing or unknown.
    """
    kind = BUILT_IN.get(event_type)
    if kind is None:
        return custom(event_type, said)
    if not isinstance(said, dict) or set(said) != set(kind.said):
        wanted = ", ".join(kind.said) or "none"
        raise UsageError(f"{event_type} has the fields {wanted}; got {shown(said)}")
    return kind(**said)
