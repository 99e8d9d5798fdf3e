"""What one worker may touch, as a record that travels from the node. Applies nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from plugin_worker.sandbox.policy import LAYER_NAMES, RLIMITS, STANDARD

UNLIMITED: Final = 1 << 62
"""Stands for no limit at all where limits are compared; no worker is given that much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What one worker may touch, and by which layers that is held.

    Attributes:
        read: Folders and files it may read, besides the system's own (`policy.SYSTEM_READ`).
        run: Those it may start programs from; seccomp refuses that anyway.
        write: Folders it may also write to; they exist. Nothing in them can be started.
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
    layers: tuple[str, ...] = STANDARD
    limits: Mapping[str, int] = field(default_factory=lambda: RLIMITS)

    def __post_init__(self) -> None:
        for path in (*self.read, *self.write, *self.run, self.tmp):
            _require(path.startswith("/") and "\0" not in path, f"{path!r} is no absolute path")
        _require(self.node_pid > 0, f"{self.node_pid} is no process id")
        for layer in self.layers:
            _require(layer in LAYER_NAMES, f"{layer!r} is no layer; there are {LAYER_NAMES}")
        needy = {"landlock", "seccomp"} & set(self.layers)
        _require(not needy or "no-new-privs" in self.layers, f"{needy} need no-new-privs")
        known = RLIMITS.keys() | ({"NPROC"} if "namespaces" in self.layers else set())
        for name, limit in self.limits.items():
            _require(name in known and 0 <= limit < UNLIMITED, f"no limit: {name}={limit}")

    def to_wire(self) -> dict[str, object]:
        """Give the plain form that msgpack carries."""
        return {
            "read": list(self.read),
            "write": list(self.write),
            "tmp": self.tmp,
            "node_pid": self.node_pid,
            "run": list(self.run),
            "layers": list(self.layers),
            "limits": dict(self.limits),
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
        return cls(
            tmp=wire["tmp"],
            node_pid=wire["node_pid"],
            limits=_limits(wire["limits"]),
            **{name: _texts(name, wire[name]) for name in ("read", "write", "run", "layers")},
        )


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not condition:
        raise ValueError(message)


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    message = f"{name} is no list of texts"
    raise ValueError(message)


def _limits(value: object) -> dict[str, int]:
    if isinstance(value, dict) and all(type(limit) is int for limit in value.values()):
        return value
    message = "limits are no map to numbers"
    raise ValueError(message)
