"""Everything that a plugin's author imports."""

from plugin_worker.context import EventBus, PluginContext, Subscription
from plugin_worker.plugin import Plugin
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    LocalProtocolError,
    Overloaded,
    PermissionDenied,
    RemoteError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
)
from protocol.events import PluginEvent
from protocol.future import Future, Stream
from protocol.plugin import PluginCapability, PluginMetadata
from protocol.publishing import PublishFailure, PublishReport
from protocol.servant import service

__all__ = [
    "Cancelled",
    "DeadlineExceeded",
    "EventBus",
    "Future",
    "LocalProtocolError",
    "Overloaded",
    "PermissionDenied",
    "Plugin",
    "PluginCapability",
    "PluginContext",
    "PluginEvent",
    "PluginMetadata",
    "PublishFailure",
    "PublishReport",
    "RemoteError",
    "ServiceUnavailable",
    "SpiralHostError",
    "Stream",
    "Subscription",
    "UsageError",
    "WorkerLost",
    "service",
]
