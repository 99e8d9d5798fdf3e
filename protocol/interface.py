"""Say which methods a service has, and read their annotations. Runs when a service is offered.

    interface_of(service, None)        all public methods, by the annotations of their own class
    interface_of(service, MyService)   those of a typing.Protocol, by its annotations, and no others
    interface_of_kind(MyService)       the same for a caller, who has the protocol alone

What a call is then held to is a `protocol.typed.Signature` for each method.
"""

import inspect
from collections import abc
from collections.abc import Callable
from typing import Any, Final, get_args, get_origin

from protocol.annotations import Reader, resolve
from protocol.checks import UNCHECKED, Check
from protocol.errors import UsageError
from protocol.methods import compare, names_around, parameters_of, public_methods, takes_the_same
from protocol.typed import Signature


def interface_of(service: object, kind: Callable[..., Any] | None) -> dict[str, Signature]:
    """Name a service's public methods, each with what its calls are held to.

    Args:
        kind: A class, most often a `typing.Protocol`; None is the service's own.

    Raises:
        UsageError: The service lacks a method of `kind` or takes other arguments, or an annotation
            names what is unknown or cannot travel. It names method and argument.
    """
    owner = type(service)
    if kind is None:
        # Nobody reads the service's own results by these annotations, so they are not looked at.
        return {name: _signature(owner, name, with_result=False) for name in public_methods(owner)}
    interface = interface_of_kind(kind)
    offered = public_methods(owner)
    for name, signature in interface.items():
        if name not in offered:
            raise UsageError(f"{owner.__name__} has no method {name}, but {_name(kind)} has")
        given, asked = parameters_of(owner, name), signature.parameters
        if given is not None and asked is not None:
            try:
                compare(asked, given)
            except TypeError as error:
                raise UsageError(
                    f"{owner.__name__}.{name}{given} is not {_name(kind)}.{name}{asked}: {error}"
                ) from None
        if given is None or asked is None or not takes_the_same(asked, given):
            signature.is_trivial = False  # what the service takes beyond its protocol is its own
    return interface


def interface_of_kind(kind: Callable[..., Any]) -> dict[str, Signature]:
    """Name the public methods of a class, each with what its calls and results are held to.

    Raises:
        UsageError: It is no class, has no public method, or an annotation names what is unknown
            or cannot travel.
    """
    owner = get_origin(kind) or kind
    if not isinstance(owner, type):
        raise UsageError(f"{kind!r} is no class; describe a service by a typing.Protocol")
    names = public_methods(owner)
    if not names:
        raise UsageError(f"{owner.__name__} has no public method")
    return {name: _signature(owner, name, with_result=True) for name in names}


def _signature(owner: type, name: str, *, with_result: bool) -> Signature:
    parameters = parameters_of(owner, name)
    if parameters is None:
        return Signature(name, None, {})
    names = names_around(owner, name)
    where = f"{owner.__name__}.{name}"
    checks = {
        parameter.name: _check(f"{where}: argument '{parameter.name}'", parameter.annotation, names)
        for parameter in parameters.parameters.values()
    }
    if not with_result:
        return Signature(name, parameters, checks)
    given = _resolved(f"{where}: result", parameters.return_annotation, names)
    result, item = _result(f"{where}: result", given)
    return Signature(name, parameters, checks, result, item)


def _result(where: str, annotation: Any) -> tuple[Check, Check]:  # noqa: ANN401 - an annotation
    """Give the checks of a method's result and of each item, if it gives many."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in _AWAITED and arguments:
        return _result(where, arguments[-1])
    if origin in _STREAMS:
        return UNCHECKED, _read(where, arguments[0]) if arguments else UNCHECKED
    result = _read(where, annotation)
    is_either = origin is abc.Iterable and arguments
    return result, _read(where, arguments[0]) if is_either else UNCHECKED


def _check(where: str, annotation: Any, names: dict[str, Any]) -> Check:  # noqa: ANN401
    return _read(where, _resolved(where, annotation, names))


def _resolved(where: str, annotation: Any, names: dict[str, Any]) -> Any:  # noqa: ANN401
    if annotation is inspect.Parameter.empty:
        return Any
    try:
        return resolve(annotation, names)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _read(where: str, annotation: Any) -> Check:  # noqa: ANN401
    try:
        return Reader().check(annotation)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except Exception as error:  # noqa: BLE001 - an annotation can be any object at all
        raise UsageError(f"{where}: its annotation cannot be read: {error!r}") from None


def _name(kind: Callable[..., Any]) -> str:
    return getattr(kind, "__name__", repr(kind))


_AWAITED: Final = abc.Awaitable, abc.Coroutine
_STREAMS: Final = (
    abc.Iterator,
    abc.Generator,
    abc.AsyncIterator,
    abc.AsyncIterable,
    abc.AsyncGenerator,
)
