"""What one worker may touch, as a record that travels from the node. Applies nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from plugin_worker.sandbox.policy import LAYER_NAMES, RLIMITS, STANDARD

T = TypeVar("T")
_PATHS: Final = ("read", "write", "run", "granted_read", "granted_write", "devices")
_LAST_PORT: Final = 65535
UNLIMITED: Final = 1 << 62
"""Stands for no limit at all where limits are compared; no worker is given that much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What one worker may touch, and by which layers that is held.

    Attributes:
        read: Folders and files it may read, besides the system's own (`policy.SYSTEM_READ`).
        run: Those it may start programs from; seccomp refuses that without `subprocess`.
        write: Folders it may also write to; they exist. Nothing in them can be started.
        granted_read: Files and folders it may read by permission. They exist, and their paths
            lead through no symbolic link.
        granted_write: The same, to write to as well.
        identities: What the node has found at those paths, by `landlock.identity_of`. A worker that
            finds something else does not start: under `strict`, bubblewrap has followed links.
        ports: TCP ports it may connect to; none without the permission `network`.
        subprocess: Whether it may start programs and other processes.
        devices: Device files of the permission `gpu`; none without it.
        tmp: Its private folder for temporary files, writable; also its working directory.
        node_pid: The process that it must not outlive.
        layers: Names of `policy.LAYERS`; empty with `off`.
        limits: Names of `policy.RLIMITS` to their values, and in namespaces NPROC; lowered, never
            raised.
    """

    read: tuple[str, ...]
    write: tuple[str, ...]
    tmp: str
    node_pid: int
    run: tuple[str, ...] = ()
    granted_read: tuple[str, ...] = ()
    granted_write: tuple[str, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    subprocess: bool = False
    devices: tuple[str, ...] = ()
    layers: tuple[str, ...] = STANDARD
    limits: Mapping[str, int] = field(default_factory=lambda: RLIMITS)

    def __post_init__(self) -> None:
        for path in self.all_paths():
            _require(path.startswith("/") and "\0" not in path, f"{path!r} is no absolute path")
        for port in self.ports:
            _require(0 < port <= _LAST_PORT, f"{port} is no port")
        _require(self.node_pid > 0, f"{self.node_pid} is no process id")
        for layer in self.layers:
            _require(layer in LAYER_NAMES, f"{layer!r} is no layer; there are {LAYER_NAMES}")
        needy = {"landlock", "seccomp"} & set(self.layers)
        _require(not needy or "no-new-privs" in self.layers, f"{needy} need no-new-privs")
        known = RLIMITS.keys() | ({"NPROC"} if "namespaces" in self.layers else set())
        for name, limit in self.limits.items():
            _require(name in known and 0 <= limit < UNLIMITED, f"no limit: {name}={limit}")

    def all_paths(self) -> list[str]:
        """Give every path that it names, of whatever kind."""
        return [*(path for name in _PATHS for path in getattr(self, name)), self.tmp]

    @property
    def variant(self) -> frozenset[str]:
        """The permissions in force that change the filter: names of `policy.CHANGES`."""
        words = {"network": self.ports, "subprocess": self.subprocess, "gpu": self.devices}
        return frozenset(word for word, given in words.items() if given)

    def to_wire(self) -> dict[str, object]:
        """Give the plain form that msgpack carries."""
        return {
            **{name: list(getattr(self, name)) for name in (*_PATHS, "ports", "layers")},
            "tmp": self.tmp,
            "node_pid": self.node_pid,
            "subprocess": self.subprocess,
            "limits": dict(self.limits),
            "identities": dict(self.identities),
        }

    @classmethod
    def from_wire(cls, wire: object) -> "Confinement":
        """Build it again from its plain form; every field is there, and no other.

        Raises:
            ValueError: The form is not what `to_wire` gives.
        """
        names = set(cls.__slots__)
        if not isinstance(wire, dict) or set(wire) != names:
            message = f"a confinement has the fields {sorted(names)}"
            raise ValueError(message)
        _require(isinstance(wire["tmp"], str), "tmp is no text")
        _require(type(wire["node_pid"]) is int, "node_pid is no number")
        _require(type(wire["subprocess"]) is bool, "subprocess is neither true nor false")
        return cls(
            tmp=wire["tmp"],
            node_pid=wire["node_pid"],
            subprocess=wire["subprocess"],
            ports=_listed("ports", wire["ports"], int),
            limits=_mapped("limits", wire["limits"], int),
            identities=_mapped("identities", wire["identities"], str),
            **{name: _listed(name, wire[name], str) for name in (*_PATHS, "layers")},
        )


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not condition:
        raise ValueError(message)


def _listed(name: str, value: object, kind: type[T]) -> tuple[T, ...]:
    if isinstance(value, list) and all(type(item) is kind for item in value):
        return tuple(value)
    message = f"{name} is no list of {kind.__name__}"
    raise ValueError(message)


def _mapped(name: str, value: object, kind: type[T]) -> dict[str, T]:
    if isinstance(value, dict) and all(type(item) is kind for item in value.values()):
        return value
    message = f"{name} is no map to {kind.__name__}"
    raise ValueError(message)
