"""Bytes to messages and back: msgpack, size limits, nothing unknown accepted.

A message is a frozen dataclass; it travels as `[code, field, ...]`. A `Conversation` lists the
messages that one side may send to another, and decoding checks every field against its
annotation, so what comes out is as valid as what we would have built ourselves.
"""

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import (
    Any,
    Final,
    Generic,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgpack

from protocol.arrays import ARRAY, from_extension, is_numpy, to_extension
from protocol.errors import LocalProtocolError, RemoteProtocolError

MAX_MESSAGE: Final = 1 << 20
"""Bytes in one message or frame. Decoded msgpack takes up to 70 times its size, measured with
nested empty maps, and only the frame's size bounds that."""

MAX_REQUEST: Final = 64
"""Characters of the name by which an asker knows its answer again. It comes back in whatever the
answer turns out to be, at whatever time, and must not be what makes that too long to be sent."""

M = TypeVar("M")
Check = Callable[[Any], Any]


def default(value: object) -> object:
    """Turn what msgpack does not know into what it knows.

    Raises:
        LocalProtocolError: It cannot travel.
    """
    if is_numpy(value):
        return to_extension(value)  # type: ignore[arg-type]
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    if isinstance(value, set | frozenset):
        raise LocalProtocolError("cannot send a set; send a sorted list")
    if isinstance(value, int):
        raise LocalProtocolError("cannot send an integer of more than 64 bits; send text")
    view = as_buffer(value)
    if view is not None:
        return view.tobytes()
    raise LocalProtocolError(f"cannot send a {type(value).__name__}; send plain values or arrays")


def as_buffer(value: object) -> memoryview | None:
    """Give the bytes of an object that has some to show (an `array.array`, say), or None."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return None
    # Pointers mean nothing elsewhere.
    return None if set(view.format) & {"O", "P", "&"} else view


def _fields_of(value: object) -> dict[str, object]:
    """Give a dataclass as the map that its constructor can be called with."""
    try:
        return {f.name: getattr(value, f.name) for f in fields(value) if f.init}  # type: ignore[arg-type]
    except AttributeError as error:
        name = type(value).__name__
        raise LocalProtocolError(f"cannot send a {name} that is not complete: {error}") from None


def extension(code: int, body: bytes) -> object:
    """Give what an extension value stands for.

    Raises:
        RemoteProtocolError: It stands for nothing.
    """
    if code == ARRAY:
        return from_extension(body)
    raise RemoteProtocolError(f"unknown extension type {code}")


def new_packer(turn: Callable[[object], object] | None = default) -> Callable[[object], bytes]:
    """Give a function that packs values. One for each thread: a packer is not shared.

    Args:
        turn: Turns what msgpack does not know into what it knows; None refuses it.
    """
    packer = msgpack.Packer(default=turn, buf_size=4096)
    pack: Callable[[object], bytes] = packer.pack
    return pack


def pack_value(value: object) -> bytes:
    """Pack one value of a plugin's or an application's.

    Raises:
        LocalProtocolError: It cannot travel; nothing was sent.
    """
    try:
        return new_packer()(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"cannot send this value: {error}") from None


def _no_extension(code: int, _: bytes) -> object:
    raise RemoteProtocolError(f"extension type {code} has no place in a message")


def unpack_value(
    body: bytes, longest: int = -1, extension: Callable[[int, bytes], object] = extension
) -> Any:  # noqa: ANN401 - whatever was said
    """Unpack one value.

    Args:
        longest: Items of a list or a map in it, at most; -1 is as many as it has bytes.
        extension: Gives what an extension value stands for.

    Raises:
        RemoteProtocolError: The bytes are no value, whatever msgpack calls the reason.
    """
    try:
        return msgpack.unpackb(
            body,
            ext_hook=extension,
            strict_map_key=False,
            max_array_len=longest,
            max_map_len=longest,
        )
    except RemoteProtocolError:
        raise
    except Exception as error:  # noqa: BLE001 - msgpack has five kinds of exception for bad input
        raise RemoteProtocolError(f"not a message: {type(error).__name__}: {error}") from None


class Conversation(Generic[M]):
    """The messages that one side may send to another, and no others.

    Args:
        longest: Items of a list or a map in any of them, at most; -1 is as many as there is room
            for. Each costs whoever decodes it 0.2 us, and a message has room for a million.
    """

    def __init__(self, name: str, kinds: Mapping[int, type[M]], longest: int = -1) -> None:
        self._name = name
        self._longest = longest
        self._codes = {kind: code for code, kind in kinds.items()}
        self._kinds = {code: (kind, _checks(kind)) for code, kind in kinds.items()}

    def encode(self, message: M) -> bytes:
        """Turn a message into bytes.

        Raises:
            LocalProtocolError: It is longer than `MAX_MESSAGE` or holds what cannot travel.
        """
        code = self._codes[type(message)]
        body = pack_value([code, *_plain(message)])
        if len(body) > MAX_MESSAGE:
            name = type(message).__name__
            raise LocalProtocolError(f"{name} of {len(body)} bytes; the limit is {MAX_MESSAGE}")
        return body

    def decode(self, body: bytes) -> M:
        """Turn untrusted bytes into a valid message.

        Raises:
            RemoteProtocolError: It is too long, malformed or not of this conversation.
        """
        if len(body) > MAX_MESSAGE:
            raise RemoteProtocolError(
                f"{self._name}: {len(body)} bytes; the limit is {MAX_MESSAGE}"
            )
        # No array: to build one that a worker made up would have node and daemon import numpy.
        parts = unpack_value(body, self._longest, _no_extension)
        if not isinstance(parts, list) or not parts or not isinstance(parts[0], int):
            raise RemoteProtocolError(f"{self._name}: a message must be a list led by its code")
        if parts[0] not in self._kinds:
            raise RemoteProtocolError(f"{self._name}: unknown message code {parts[0]}")
        kind, checks = self._kinds[parts[0]]
        return _build(kind, checks, parts[1:])


def _plain(message: object) -> list[object]:
    return [_plain_field(getattr(message, f.name)) for f in fields(message)]  # type: ignore[arg-type]


def _plain_field(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(value)
    if isinstance(value, tuple):
        return [_plain_field(item) for item in value]
    return value


def _build(kind: type[M], checks: Iterable[tuple[str, Check]], values: list[object]) -> M:
    checks = tuple(checks)
    if len(values) != len(checks):
        raise RemoteProtocolError(f"{kind.__name__}: {len(values)} fields, not {len(checks)}")
    arguments = {}
    for (name, check), value in zip(checks, values, strict=True):
        try:
            arguments[name] = check(value)
        except TypeError as error:
            raise RemoteProtocolError(f"{kind.__name__}.{name}: {error}") from None
    try:
        return kind(**arguments)
    except Exception as error:  # noqa: BLE001 - a message checks itself when it is built
        raise RemoteProtocolError(f"{kind.__name__}: {error}") from None


def _checks(kind: type) -> tuple[tuple[str, Check], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, _check_field(f.name, hints[f.name])) for f in fields(kind))


def _check_field(name: str, annotation: Any) -> Check:  # noqa: ANN401 - an annotation
    check = _check(annotation)
    return _short(check) if name == "request" and annotation is str else check


def _short(check: Check) -> Check:
    def check_both(value: Any) -> Any:  # noqa: ANN401
        if len(check(value)) > MAX_REQUEST:
            raise TypeError(f"at most {MAX_REQUEST} characters expected, got {len(value)}")
        return value

    return check_both


def _check(annotation: Any) -> Check:  # noqa: ANN401, PLR0911 - one line for each shape of annotation
    if annotation is object:
        return lambda value: value
    if isinstance(annotation, NewType):
        return _check(annotation.__supertype__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return _either([_check(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is not ...:
        return _row_of(tuple(map(_check, arguments)))
    if origin is tuple:
        return _tuple_of(_check(arguments[0]))
    if origin in {dict, Mapping}:
        return _dict_of(_check(arguments[1]))
    if isinstance(annotation, type) and is_dataclass(annotation):
        nested = _checks(annotation)
        return lambda value: _build(annotation, nested, _exactly(list)(value))
    return _exactly(annotation)


def _exactly(kind: type) -> Check:
    # bool is an int to isinstance, and an int is welcome where a float is meant.
    accepted = {kind, int} if kind is float else {kind}

    def check(value: Any) -> Any:  # noqa: ANN401
        if type(value) not in accepted:
            raise TypeError(f"{kind.__name__} expected, got {type(value).__name__}")
        return value

    return check


def _either(checks: list[Check]) -> Check:
    def check(value: Any) -> Any:  # noqa: ANN401
        for one in checks:
            try:
                return one(value)
            except TypeError:
                continue
        raise TypeError(f"{type(value).__name__} is not expected")

    return check


def _row_of(items: tuple[Check, ...]) -> Check:
    def check(value: object) -> object:
        values: list[object] = _exactly(list)(value)
        if len(values) != len(items):
            raise TypeError
        return tuple(item(one) for item, one in zip(items, values, strict=True))

    return check


def _tuple_of(item: Check) -> Check:
    return lambda value: tuple(item(one) for one in _exactly(list)(value))


def _dict_of(item: Check) -> Check:
    text = _exactly(str)
    return lambda value: {text(key): item(one) for key, one in _exactly(dict)(value).items()}
