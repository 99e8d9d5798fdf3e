"""Read what an annotation names: a dataclass's fields, an enum's members, an array's dtype.

Looks at classes only when a service is offered; makes no instance of any.
"""

import types
import typing
from dataclasses import MISSING, fields
from enum import Enum, Flag
from functools import reduce
from inspect import Parameter, signature
from operator import or_
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from protocol.checks import Check, brief, flags, instance, one_of
from protocol.errors import UsageError

Annotation = Any
"""A class, or one of the many things that `typing` makes; there is no type for all of them."""


def hints_of(kind: Annotation) -> dict[str, Annotation]:
    """Resolve the annotations of a class's fields.

    Raises:
        UsageError: A name in them is not known in the class's module.
    """
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception as error:  # noqa: BLE001 - evaluating a text may raise anything
        raise UsageError(f"a field of {kind.__name__} cannot be resolved: {error}") from None


def filled(
    hint: Annotation, parameters: tuple[Annotation, ...], arguments: tuple[Annotation, ...]
) -> Annotation:
    """Put `int` for `T` in the fields of a `Box[int]`."""
    meant = dict(zip(parameters, arguments, strict=False))
    if isinstance(hint, typing.TypeVar):
        return meant.get(hint, Any)
    inner = getattr(hint, "__parameters__", ())
    if not inner or isinstance(hint, type):
        return hint
    return hint[tuple(meant.get(parameter, Any) for parameter in inner)]


def needed_fields(kind: Annotation) -> dict[str, bool]:
    needed = {
        field.name: field.default is MISSING and field.default_factory is MISSING
        for field in fields(kind)
        if field.init
    }
    for name, parameter in signature(kind).parameters.items():
        is_given = name in needed or parameter.kind not in _BY_NAME
        if parameter.default is Parameter.empty and not is_given:
            raise UsageError(f"{kind.__name__} is built from {name}, which it does not keep")
    return needed


def needed_keys(kind: Annotation) -> dict[str, bool]:
    """Tell which keys must be there; marks in annotations that were text are seen only here."""
    hints = hints_of(kind)
    needed = {name: name in kind.__required_keys__ for name in hints}
    for name, hint in hints.items():
        mark: Annotation = get_origin(hint)
        if mark in {typing.Required, typing.NotRequired}:
            needed[name] = mark is typing.Required
    return needed


def without_marks(hint: Annotation) -> Annotation:
    while get_origin(hint) in _MARKS:
        hint = get_args(hint)[0]
    return hint


def enum_check(kind: type[Enum]) -> Check:
    values = [(member.value, member) for member in kind.__members__.values()]
    shown = ", ".join(brief(value) for value, _ in values)
    expected = f"{kind.__name__} ({shown})" if len(shown) <= 72 else kind.__name__
    for value, _ in values:
        if type(value) not in _SCALARS:
            raise UsageError(f"{kind.__name__} cannot travel; give its members numbers or texts")
    if issubclass(kind, Flag):
        return flags(kind.__name__, reduce(or_, (value for value, _ in values), 0), kind)
    return one_of(expected, {(type(value), value): member for value, member in values})


def literal_check(choices: tuple[Any, ...]) -> Check:
    wire = [choice.value if isinstance(choice, Enum) else choice for choice in choices]
    expected = f"Literal[{', '.join(map(brief, wire))}]"
    members = zip(wire, choices, strict=True)
    return one_of(expected, {(type(value), value): choice for value, choice in members})


def array_check(kind: Annotation, arguments: tuple[Annotation, ...]) -> Check:
    shape, dtype = (*arguments, Any, Any)[:2]
    scalar = (*get_args(dtype), Any)[0]
    named = get_args(scalar) if get_origin(scalar) in {Union, types.UnionType} else (scalar,)
    # numpy's families of dtypes are generic: np.floating[Any].
    kinds = tuple(get_origin(one) or one for one in named)
    kinds = tuple(kind for kind in kinds if isinstance(kind, type) and kind is not Any)
    lengths = get_args(shape)
    dimensions = len(lengths) if lengths and Ellipsis not in lengths else None
    expected = "a numpy array"
    if dimensions is not None:
        expected += f" of {dimensions} dimensions"
    if kinds:
        expected += f" of {' | '.join(one.__name__ for one in kinds)}"

    def fits(value: Any) -> bool:  # noqa: ANN401 - whatever came
        return (
            isinstance(value, kind)
            and (not kinds or issubclass(value.dtype.type, kinds))
            and dimensions in {None, value.ndim}
        )

    return instance(expected, fits)


_BY_NAME: Final = {
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.KEYWORD_ONLY,
}
_MARKS: Final = {typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", typing.Required)}
_SCALARS: Final = {int, str, bool, float, bytes, type(None)}
