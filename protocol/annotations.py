"""Read annotations: each becomes the `Check` of what arrives. Runs once, when a service is offered.

What cannot travel is refused here, by name, so that no caller has to find out.
"""

import types
import typing
from collections import abc
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, Literal, NewType, Union, get_args, get_origin, get_type_hints

from protocol.checks import (
    UNCHECKED,
    Check,
    buffer,
    either,
    exactly,
    instance,
    number,
)
from protocol.classes import (
    Annotation,
    array_check,
    enum_check,
    filled,
    hints_of,
    literal_check,
    needed_fields,
    needed_keys,
    without_marks,
)
from protocol.containers import items, places, record, table
from protocol.errors import UsageError


def resolve(annotation: Annotation, names: dict[str, Any]) -> Annotation:
    """Evaluate an annotation that is text, or has text in it.

    Raises:
        UsageError: A name in it is not known where it was written.
    """
    if isinstance(annotation, type):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception as error:  # noqa: BLE001 - evaluating a text may raise anything
        raise UsageError(f"its annotation cannot be resolved: {error}") from None


class Reader:
    """Builds checks; remembers the classes it has met, which may contain themselves.

    After an error it is spent: what it remembers may be half built.
    """

    def __init__(self) -> None:
        self._met: dict[Annotation, Check] = {}

    def check(self, annotation: Annotation) -> Check:  # noqa: PLR0911 - one for each kind of thing
        """Give the check of a resolved annotation.

        Raises:
            UsageError: It names what cannot travel.
        """
        if annotation is Any or annotation is object or isinstance(annotation, _ANYTHING):
            return UNCHECKED
        if isinstance(annotation, NewType):
            return self.check(annotation.__supertype__)
        origin: Annotation = get_origin(annotation) or annotation
        arguments = get_args(annotation)
        if origin is typing.Annotated:
            return self.check(arguments[0])
        if origin in {Union, types.UnionType}:
            return either([self.check(argument) for argument in arguments])
        if origin is Literal:
            return literal_check(arguments)
        if build := _SHAPES.get(origin):
            return build(self, arguments)
        if type(origin).__name__ == "TypeAliasType":  # from Python 3.12 on
            return self._alias(origin, arguments)
        if isinstance(origin, type):
            return self._class(origin, arguments)
        raise _cannot_travel(annotation)

    def _alias(self, alias: Annotation, arguments: tuple[Annotation, ...]) -> Check:
        if known := self._met.get((alias, arguments)):
            return known
        behind: list[Check] = []

        def convert(value: Any) -> Any:  # noqa: ANN401 - whatever came
            return behind[0].convert(value)

        self._met[alias, arguments] = Check(alias.__name__, convert)
        behind.append(self.check(filled(alias.__value__, alias.__type_params__, arguments)))
        return behind[0]

    def _class(self, kind: type, arguments: tuple[Annotation, ...]) -> Check:
        if known := self._met.get((kind, arguments)):
            return known
        if issubclass(kind, Enum):
            return enum_check(kind)
        if is_dataclass(kind):
            return self._record(kind, arguments, needed_fields(kind), kind)
        if issubclass(kind, dict) and hasattr(kind, "__required_keys__"):
            return self._record(kind, arguments, needed_keys(kind), None)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._named_tuple(kind, arguments)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            return array_check(kind, arguments)
        raise _cannot_travel(kind)

    def _record(
        self,
        kind: type,
        arguments: tuple[Annotation, ...],
        needed: dict[str, bool],
        build: Callable[..., Any] | None,
    ) -> Check:
        shapes: dict[str, tuple[Check, bool]] = {}
        check = self._met[kind, arguments] = record(kind.__name__, shapes, build)
        for name, shape in self._fields(kind, arguments, needed).items():
            shapes[name] = shape, needed[name]
        return check

    def _named_tuple(self, kind: Annotation, arguments: tuple[Annotation, ...]) -> Check:
        shapes: list[Check] = []
        # A plugin's own __new__ or _make is not asked.
        check = places(kind.__name__, shapes, partial(tuple.__new__, kind))
        self._met[kind, arguments] = check
        shapes.extend(self._fields(kind, arguments, kind._fields).values())
        return check

    def _fields(
        self, kind: Annotation, arguments: tuple[Annotation, ...], names: Iterable[str]
    ) -> dict[str, Check]:
        hints = hints_of(kind)
        parameters = getattr(kind, "__parameters__", ())
        checks = {}
        for name in names:
            hint = without_marks(hints.get(name, Any))
            try:
                checks[name] = self.check(filled(hint, parameters, arguments))
            except UsageError as error:
                raise UsageError(f"{kind.__name__}.{name}: {error}") from None
        return checks


def _cannot_travel(annotation: Annotation) -> UsageError:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return UsageError(
        f"{name} cannot travel; use plain values, lists, maps, dataclasses, enums or numpy arrays"
    )


def _list(
    reader: Reader,
    arguments: tuple[Annotation, ...],
    name: str = "list",
    build: Callable[[list[Any]], Any] | None = None,
) -> Check:
    item = reader.check(arguments[0]) if arguments else UNCHECKED
    expected = name if item is UNCHECKED else f"{name}[{item.expected}]"
    return items(expected, item, build)


def _tuple(reader: Reader, arguments: tuple[Annotation, ...]) -> Check:
    if not arguments or arguments[-1] is Ellipsis:
        return _list(reader, arguments, "tuple", tuple)
    checks = [reader.check(argument) for argument in arguments]
    return places(f"tuple[{', '.join(check.expected for check in checks)}]", checks, tuple)


def _map(reader: Reader, arguments: tuple[Annotation, ...]) -> Check:
    key, item = map(reader.check, arguments or (Any, Any))
    if not key.is_key:
        raise UsageError(f"{key.expected} cannot travel as the key of a map; use texts or numbers")
    is_plain = key is item is UNCHECKED
    return table("dict" if is_plain else f"dict[{key.expected}, {item.expected}]", key, item)


def _always(check: Check) -> Callable[[Reader, tuple[Annotation, ...]], Check]:
    return lambda _reader, _arguments: check


def _is_buffer(value: object) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


_ANYTHING: Final = typing.TypeVar, typing.ParamSpecArgs, typing.ParamSpecKwargs
_SHAPES: Final[dict[Any, Callable[[Reader, tuple[Annotation, ...]], Check]]] = {
    int: _always(exactly(int)),
    str: _always(exactly(str)),
    bool: _always(exactly(bool)),
    type(None): _always(exactly(type(None))),
    typing.LiteralString: _always(exactly(str)),
    float: _always(number()),
    getattr(abc, "Buffer", bytes): _always(instance("bytes", _is_buffer)),
    bytes: _always(buffer(bytes)),
    bytearray: _always(buffer(bytearray)),
    memoryview: _always(buffer(memoryview)),
    list: _list,
    abc.Sequence: _list,
    abc.MutableSequence: _list,
    abc.Collection: _list,
    abc.Iterable: _list,
    tuple: _tuple,
    set: partial(_list, name="set", build=set),
    abc.Set: partial(_list, name="set", build=set),
    abc.MutableSet: partial(_list, name="set", build=set),
    frozenset: partial(_list, name="frozenset", build=frozenset),
    dict: _map,
    abc.Mapping: _map,
    abc.MutableMapping: _map,
    abc.Callable: _always(instance("callable", callable)),
    typing.Never: _always(instance("nothing", lambda _: False)),
    typing.NoReturn: _always(instance("nothing", lambda _: False)),
}
"""How each shape is read; where several classes look the same on the wire, the plainest arrives."""
