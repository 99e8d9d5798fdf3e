"""Everything that an application's author imports; loaded when it is first used.

The command line imports this package too, and must not wait for ZeroMQ to say its own usage.
"""

from importlib import import_module as _import_module  # noqa: TID251 - our own modules only
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.errors import (
        Cancelled,
        DeadlineExceeded,
        LoadFailed,
        LocalProtocolError,
        ManifestError,
        NoDaemon,
        Overloaded,
        PermissionDenied,
        RemoteError,
        ServiceUnavailable,
        SpiralHostError,
        UsageError,
        WorkerLost,
    )
    from protocol.eventbus import EventBus
    from protocol.events import PluginEvent
    from protocol.future import Future, Stream
    from protocol.plugin import PluginCapability, PluginMetadata
    from protocol.publishing import PublishFailure, PublishReport
    from protocol.servant import service
    from protocol.subscriptions import Subscription
    from spiral_host.crashes import CrashReport
    from spiral_host.host import Host
    from spiral_host.listener import Listener
    from spiral_host.loaders import DynamicPluginLoader, StaticPluginLoader
    from spiral_host.recording import BrokenRecording, JsonLines, Ring, read_recording
    from spiral_host.records import LoadResult, PluginInfo, PluginPermissions, ServiceInfo
    from spiral_host.sequence import SequenceDiagram

_HOMES = {
    "protocol.errors": (
        "Cancelled",
        "DeadlineExceeded",
        "LoadFailed",
        "LocalProtocolError",
        "ManifestError",
        "NoDaemon",
        "Overloaded",
        "PermissionDenied",
        "RemoteError",
        "ServiceUnavailable",
        "SpiralHostError",
        "UsageError",
        "WorkerLost",
    ),
    "protocol.eventbus": ("EventBus",),
    "protocol.events": ("PluginEvent",),
    "protocol.future": ("Future", "Stream"),
    "protocol.plugin": ("PluginCapability", "PluginMetadata"),
    "protocol.publishing": ("PublishFailure", "PublishReport"),
    "protocol.servant": ("service",),
    "protocol.subscriptions": ("Subscription",),
    "spiral_host.crashes": ("CrashReport",),
    "spiral_host.host": ("Host",),
    "spiral_host.listener": ("Listener",),
    "spiral_host.loaders": ("DynamicPluginLoader", "StaticPluginLoader"),
    "spiral_host.recording": ("BrokenRecording", "JsonLines", "Ring", "read_recording"),
    "spiral_host.records": ("LoadResult", "PluginInfo", "PluginPermissions", "ServiceInfo"),
    "spiral_host.sequence": ("SequenceDiagram",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BrokenRecording",
    "Cancelled",
    "CrashReport",
    "DeadlineExceeded",
    "DynamicPluginLoader",
    "EventBus",
    "Future",
    "Host",
    "JsonLines",
    "Listener",
    "LoadFailed",
    "LoadResult",
    "LocalProtocolError",
    "ManifestError",
    "NoDaemon",
    "Overloaded",
    "PermissionDenied",
    "PluginCapability",
    "PluginEvent",
    "PluginInfo",
    "PluginMetadata",
    "PluginPermissions",
    "PublishFailure",
    "PublishReport",
    "RemoteError",
    "Ring",
    "SequenceDiagram",
    "ServiceInfo",
    "ServiceUnavailable",
    "SpiralHostError",
    "StaticPluginLoader",
    "Stream",
    "Subscription",
    "UsageError",
    "WorkerLost",
    "read_recording",
    "service",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(name)
    return getattr(_import_module(_HOME[name]), name)
