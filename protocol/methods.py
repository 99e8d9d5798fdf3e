"""Find the methods of a class that may be called from outside, and how.

Methods are looked up on classes, never on objects: no property of a plugin's runs, and nothing
that an attribute leads to can be reached.
"""

import inspect
from collections.abc import Iterator
from functools import partialmethod, singledispatchmethod
from typing import Any, Final

from protocol.errors import UsageError


def public_methods(owner: type) -> tuple[str, ...]:
    """Name what may be called: a class's callables whose names begin with an ASCII letter.

    But for those that it names itself in `__hidden__`.
    """
    hidden = getattr(owner, "__hidden__", ())
    names = (name for name in dir(owner) if name.isascii() and name[0].isalpha())
    names = (name for name in names if name not in hidden)
    return tuple(name for name in names if _is_method(inspect.getattr_static(owner, name)))


def _is_method(found: object) -> bool:
    if isinstance(found, type):
        return False  # a class inside the class is for the author, not for callers
    return callable(found) or isinstance(found, _METHODS)


def _function(found: Any) -> Any:  # noqa: ANN401 - what a class holds can be anything
    return found.__func__ if isinstance(found, staticmethod | classmethod) else found


def parameters_of(owner: type, name: str) -> inspect.Signature | None:
    """Give a method's parameters without `self`; None where Python does not know them.

    Raises:
        UsageError: The method takes no `self`, or an annotation names what is unknown.
    """
    found = inspect.getattr_static(owner, name)
    try:
        signature = inspect.signature(_function(found))
    except (ValueError, TypeError):
        return None
    except Exception as error:  # noqa: BLE001 - from Python 3.14 on, annotations are evaluated here
        text = f"{owner.__name__}.{name}: an annotation cannot be resolved: {error}"
        raise UsageError(text) from None
    if isinstance(found, staticmethod) or not hasattr(type(found), "__get__"):
        return signature
    parameters = list(signature.parameters.values())
    if not parameters:
        raise UsageError(f"{owner.__name__}.{name} takes no self")
    if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return signature
    return signature.replace(parameters=parameters[1:])


def names_around(owner: type, name: str) -> dict[str, Any]:
    """Give the names that were known where a method was written."""
    function = inspect.unwrap(_function(inspect.getattr_static(owner, name)))
    own = (*getattr(owner, "__type_params__", ()), *getattr(function, "__type_params__", ()))
    return {
        **getattr(function, "__globals__", {}),
        **{parameter.__name__: parameter for parameter in own},
    }


def compare(asked: inspect.Signature, given: inspect.Signature) -> None:
    """Try every way in which `asked` may be called on what was `given`.

    Raises:
        TypeError: One of them does not work, or an argument would end up as another one.
    """
    by_name = {p.name for p in asked.parameters.values() if p.kind in _BY_NAME}
    for places, names in _ways(asked):
        bound = given.bind(*places, **{name: name for name in names})
        for name, came in bound.arguments.items():
            if name != came and isinstance(came, str) and came in by_name:
                raise TypeError(f"argument '{came}' would be taken for '{name}'")
    for kind in _REST:
        if _has(asked, kind) and not _has(given, kind):
            raise TypeError(f"it takes no {kind.description} arguments")


def takes_the_same(asked: inspect.Signature, given: inspect.Signature) -> bool:
    """Say whether Python itself would refuse the same calls."""
    one, other = (
        [(p.name, p.kind, p.default is p.empty) for p in signature.parameters.values()]
        for signature in (asked, given)
    )
    return one == other


def _ways(asked: inspect.Signature) -> Iterator[tuple[list[str], list[str]]]:
    each = [p for p in asked.parameters.values() if p.kind not in _REST]
    for chosen in (each, [p for p in each if p.default is p.empty]):
        by_name = [p.name for p in chosen if p.kind is inspect.Parameter.KEYWORD_ONLY]
        yield [p.name for p in chosen if p.name not in by_name], by_name
        by_place = [p.name for p in chosen if p.kind is inspect.Parameter.POSITIONAL_ONLY]
        yield by_place, [p.name for p in chosen if p.name not in by_place]


def _has(signature: inspect.Signature, kind: object) -> bool:
    return any(parameter.kind is kind for parameter in signature.parameters.values())


_METHODS: Final = staticmethod, classmethod, partialmethod, singledispatchmethod
_REST: Final = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
_BY_NAME: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
