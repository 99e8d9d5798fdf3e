"""Everything that a plugin's author imports."""

from plugin_worker.context import EventBus, PluginContext, Subscription
from plugin_worker.plugin import Plugin
from protocol.errors import (
    DeadlineExceeded,
    PermissionDenied,
    RemoteError,
    ServiceUnavailable,
    SpiralHostError,
    WorkerLost,
)
from protocol.events import PluginEvent
from protocol.plugin import PluginCapability, PluginMetadata

__all__ = [
    "DeadlineExceeded",
    "EventBus",
    "PermissionDenied",
    "Plugin",
    "PluginCapability",
    "PluginContext",
    "PluginEvent",
    "PluginMetadata",
    "RemoteError",
    "ServiceUnavailable",
    "SpiralHostError",
    "Subscription",
    "WorkerLost",
]
