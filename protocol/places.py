"""Find the first place in a value that cannot travel, and say why.

    arguments[1]['x'][3]: a set; send a sorted list

Asked only once a value has been refused: what travels costs nothing here. Plain values are judged
by msgpack's rules; everything else by what the lane's packer would turn it into.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import msgpack

from protocol.arrays import is_numpy
from protocol.codec import default, new_packer, unpack_value
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.names import shown

Turn: TypeAlias = Callable[[object], object]

MAX_ITEMS: Final = 1_000_000
"""Items that are looked at, one or two seconds' work; then the place stays unknown. A frame has
room for no more, since each takes a byte."""

_STEPS: Final = 10
"""Steps of a place that are written; of a longer one the first and the last half."""

_CURES: Final = {
    "set": "send a sorted list",
    "frozenset": "send a sorted list",
    "generator": "send a list, or yield the items",
    "datetime": "send its isoformat()",
    "date": "send its isoformat()",
    "Decimal": "send text",
    "PosixPath": "send text",
    "complex": "send two numbers",
}

_END: Final = object()

_CONTAINER: Final = (dict, list, tuple)
_KEY: Final = (str, int, float, bytes, memoryview, msgpack.Timestamp, type(None))
_PLAIN: Final = (*_KEY, *_CONTAINER, bytearray)
"""What msgpack packs by itself. As a key, a tuple would be a list at the other end."""


class _Field(str):
    """The name of a dataclass's field."""

    __slots__ = ()


def explain_arguments(
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    turn: Turn = default,
) -> str | None:
    """Name the first argument's place that cannot travel, as `arguments[0]` or `keywords['x']`.

    Args:
        turn: What the packer turns other values into plain ones with; as for `codec.new_packer`.
    """
    return explain("arguments", arguments, turn) or explain("keywords", keywords, turn)


def explain_result(value: object, turn: Turn = default) -> str | None:
    """Name the first place of a result or of a stream's item that cannot travel."""
    return explain("result", value, turn)


def explain_frame(frame: bytes, *, is_call: bool) -> str | None:
    """Name the place in a frame that could be packed and cannot be unpacked: a map's key, mostly.

    Never raises: what somebody sends on purpose has no such place, maybe.
    """
    try:
        # A tuple can be a key where the list that it becomes cannot.
        parts = msgpack.unpackb(
            frame, use_list=False, strict_map_key=False, ext_hook=lambda *_: None
        )
        return explain_arguments(parts[3], parts[4] or {}) if is_call else explain_result(parts[2])
    except Exception:  # noqa: BLE001 - msgpack has five kinds of exception for bad input
        return None


def explain(name: str, value: object, turn: Turn = default, above: int = 1) -> str | None:
    """Name the first place in a value that cannot travel, and why; None if none was found.

    Never raises. None is also the answer when more than `MAX_ITEMS` came before it.

    Args:
        name: What the value is, where its place begins: `result`.
        above: Lists of the frame around it.
    """
    try:
        return _Walk(name, value, turn, max_levels() - above).find()
    except Exception:  # noqa: BLE001 - a container of the plugin's own may raise, or change meanwhile
        return None


@cache
def max_levels() -> int:
    """Count the containers inside each other that can be packed and unpacked, the frame included.

    Measured, because it differs between the releases of msgpack: 511 in some, 1024 in others.
    """
    fits, too_deep = 1, 1 << 12
    while too_deep - fits > 1:
        tried = (fits + too_deep) // 2
        if _can_nest(tried):
            fits = tried
        else:
            too_deep = tried
    return fits


def _can_nest(levels: int) -> bool:
    value: object = None
    for _ in range(levels):
        value = [value]
    try:
        unpack_value(new_packer()(value))
    except (ValueError, RemoteProtocolError):
        return False
    return True


class _Walk:
    """One search, in the packer's own order, without recursion."""

    def __init__(self, name: str, value: object, turn: Turn, levels: int) -> None:
        self._name = name
        self._turn = turn
        self._levels = levels
        self._inside: list[object] = []
        self._known: set[int] = set()
        self._entries: list[Iterator[tuple[Any, Any]]] = [iter([(0, value)])]
        self._steps: list[object] = []

    def find(self) -> str | None:
        for _ in range(MAX_ITEMS):
            step, value = next(self._entries[-1], (_END, None))
            if step is not _END:
                why = self._look(step, value)
                if why:
                    return f"{self._place()}: {why}"
            elif self._inside:
                self._entries.pop()
                self._steps.pop()
                self._known.discard(id(self._inside.pop()))
            else:
                break
        return None

    def _look(self, step: object, value: object) -> str | None:
        if self._inside:
            self._steps[-1] = _END
            why = self._bad_key(step)
            if why:
                return f"its key {_shown(step)} is {why}"
            self._steps[-1] = step
        plain, why = self._as_plain(value)
        if why or isinstance(plain, msgpack.ExtType):
            return why
        return self._enter(value, plain) if isinstance(plain, _CONTAINER) else _bad_scalar(plain)

    def _bad_key(self, key: object) -> str | None:
        if type(key) is int or type(key) is _Field:
            return _bad_scalar(key)
        plain, why = self._as_plain(key)
        if why or not isinstance(plain, _KEY):
            return f"{_a(key)}; use text or numbers as keys"
        return _bad_scalar(plain)

    def _as_plain(self, value: object) -> tuple[object, str | None]:
        """Give what msgpack packs for a value, or why there is nothing."""
        if isinstance(value, msgpack.ExtType):
            return None, "an extension of msgpack; send plain values"
        if isinstance(value, _PLAIN):
            return value, None
        try:
            plain = self._turn(_without_content(value))
        except Exception as error:  # noqa: BLE001 - whatever the packer or the value itself raises
            return None, _unpackable(value, error)
        if not isinstance(plain, _PLAIN):  # the packer turns a value only once
            return None, _unpackable(value, None)
        return plain, None

    def _enter(self, value: object, container: Any) -> str | None:  # noqa: ANN401 - one of three
        if id(value) in self._known:
            return f"{_a(value)} that contains itself; send it without the circle"
        self._known.add(id(value))
        self._inside.append(value)
        self._steps.append(_END)
        if not isinstance(container, dict):
            self._entries.append(iter(enumerate(container)))
        elif container is value:
            self._entries.append(iter(container.items()))
        else:
            self._entries.append(iter([(_Field(k), item) for k, item in container.items()]))
        if len(self._inside) > self._levels:
            return f"nested deeper than {self._levels} levels; send it flatter"
        return None

    def _place(self) -> str:
        # The innermost container has none while no item of its own has been looked at.
        steps = [
            f".{step}" if isinstance(step, _Field) else f"[{_shown(step)}]"
            for step in self._steps
            if step is not _END
        ]
        if len(steps) > _STEPS:
            half = _STEPS // 2
            steps = [*steps[:half], "...", *steps[-half:]]
        return self._name + "".join(steps)


def _shown(step: object) -> str:
    try:
        return shown(step)
    except Exception:  # noqa: BLE001 - a key may be anything, and say anything of itself
        return "?"


def _bad_scalar(value: object) -> str | None:
    match value:
        case int() if not -(2**63) <= value < 2**64:
            return "an integer of more than 64 bits; send text"
        case memoryview() if not value.c_contiguous:
            return "a memoryview with gaps; send bytes"
        case str():
            return _half_character(value)
    return None


def _half_character(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        return f"text with half a character, {half} at {error.start}; send bytes, or escape it"
    return None


def _without_content(value: Any) -> Any:  # noqa: ANN401 - any object may be asked
    """Give an array's like without elements: how much it holds is not asked here."""
    if is_numpy(value) and getattr(value, "ndim", None):
        return value[(slice(0),) * value.ndim]
    return value


def _unpackable(value: object, error: Exception | None) -> str:
    kind = type(value).__name__
    if isinstance(error, LocalProtocolError):
        said = str(error).removeprefix("cannot send ")
        if not said.startswith(f"a {kind};"):
            return said  # the codec knows more than the type: what is wrong with this array
    return f"{_a(value)}; {_CURES.get(kind, 'send plain values or arrays')}"


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[:1] in "aeiouAEIOU" else f"a {kind}"
