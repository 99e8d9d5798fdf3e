"""How much a plugin may use: what its manifest asks for, capped by the operator. No I/O.

    [limits]
    memory = "2 GiB"        # address space; resident where a cgroup counts it
    cpu = 1.5               # cores
    processes = 16          # with the permission subprocess
    threads = 64
    files = 1024            # open descriptors
    file_size = "1 GiB"     # any one file that it writes
    disk = "2 GiB"          # its data folder and its private one together
    log_rate = "256 KiB"    # printed, a second
    event_rate = 10000      # events published, a second
    call_rate = 50000       # calls made, a second

An operator's table says the most that any plugin gets; a plugin gets the lesser of the two.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from protocol.errors import UsageError
from protocol.names import shown

_STEP: Final = 1024
_MiB: Final = 1 << 20
_GiB: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one plugin; the defaults are what one gets that asks for nothing.

    Attributes:
        memory: Bytes. numpy needs 1 GiB of address space, torch trains under 2.
        cpu: Cores; infinity is no limit.
        disk: Bytes that it may keep.
        log_rate: Bytes a second, over a burst that the node allows everybody.
        event_rate: A second; infinity is no limit of its own, backpressure always holds.
        call_rate: A second; infinity is no limit of its own, credits always hold.
    """

    memory: int = 4 * _GiB
    cpu: float = math.inf
    processes: int = 64
    threads: int = 256
    files: int = 1024
    file_size: int = 1 * _GiB
    disk: int = 4 * _GiB
    log_rate: int = 2 * _MiB
    event_rate: float = math.inf
    call_rate: float = math.inf

    def to_wire(self) -> dict[str, Any]:
        """Give plain values; what has no limit is left out."""
        return {word: value for word, value in _values(self).items() if value != math.inf}


WORDS: Final = tuple(field.name for field in fields(Limits))


DEFAULTS: Final = Limits()


def parse_limits(table: object, otherwise: Limits = DEFAULTS) -> Limits:
    """Read a table of limits, of a manifest or of an operator.

    Args:
        otherwise: The limits that the table does not name.

    Raises:
        UsageError: It names the limit that is unknown, or that cannot be meant, and why.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{shown(table)} is no table")
    if unknown := sorted(map(shown, set(table) - set(WORDS))):
        raise UsageError(f"unknown limit {unknown[0]}; known: {', '.join(WORDS)}")
    values = _values(otherwise)
    values |= {word: _PARSERS[word](word, value) for word, value in table.items()}
    return Limits(**values)


def _values(limits: Limits) -> dict[str, Any]:
    """Give them by name; `dataclasses.asdict` would copy each of them deeply."""
    return {word: getattr(limits, word) for word in WORDS}


def capped(limits: Limits, caps: Limits) -> Limits:
    """Give the lesser of the two, limit by limit."""
    return Limits(**{word: min(getattr(limits, word), getattr(caps, word)) for word in WORDS})


def size_text(size: float) -> str:
    """Give bytes for people, as a manifest may have them."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < _STEP:
            return f"{size:.4g} {unit}"
        size /= _STEP
    return f"{size:.4g} GiB"


NO_CAPS: Final = Limits(
    **{word: (1 << 62) for word in WORDS if word not in ("cpu", "event_rate", "call_rate")}
)
"""The caps of an operator who says nothing."""

# --- reading ------------------------------------------------------------------------------------

_SIZE: Final = re.compile(r"(\d{1,15})\s*([KMGT]?)(iB|B)?\Z", re.ASCII)
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _size(least: int) -> Callable[[str, object], int]:
    def parse(word: str, value: object) -> int:
        size = value if type(value) is int else -1
        if isinstance(value, str) and (match := _SIZE.match(value.strip())):
            size = int(match[1]) * _UNITS[match[2]]
        if least <= size < 1 << 60:
            return size
        example = 'write bytes or a text such as "512 MiB"'
        raise UsageError(f"{word} = {shown(value)} is no size from {least} on; {example}")

    return parse


def _count(least: int, most: int) -> Callable[[str, object], int]:
    def parse(word: str, value: object) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise UsageError(f"{word} = {shown(value)} is no number from {least} to {most}")

    return parse


def _rate(least: float) -> Callable[[str, object], float]:
    def parse(word: str, value: object) -> float:
        if type(value) in (int, float) and least <= value < math.inf:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise UsageError(f"{word} = {shown(value)} is no number from {least:g} on")

    return parse


_PARSERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "memory": _size(128 * _MiB),
    "cpu": _rate(0.01),
    "processes": _count(1, 1 << 16),
    "threads": _count(1, 1 << 16),
    "files": _count(64, 1 << 16),
    "file_size": _size(0),
    "disk": _size(0),
    "log_rate": _size(1024),
    "event_rate": _rate(1.0),
    "call_rate": _rate(1.0),
}
