"""Check values that hold others: lists, maps and records, and what is made of them.

    what arrives     what a plugin is given
    list             list, tuple, named tuple, set, frozenset
    map              dict, dataclass, TypedDict

Of a plugin's code nothing runs but the constructors of its dataclasses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from protocol.checks import UNCHECKED, Check, Misfit, brief


def items(expected: str, item: Check, build: Callable[[list[Any]], Any] | None = None) -> Check:
    """Accept a list of one shape; `build` makes something else of it, a set for example."""
    all_fit = _all_fit(item)

    def convert(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not list:
            raise Misfit.of(expected, value)
        if not all_fit(value):
            value = [_at("", place, item, one) for place, one in enumerate(value)]
        if build is None:
            return value
        try:
            return build(value)
        except (TypeError, ValueError):  # a memoryview that can be written to raises the second
            raise Misfit(f"must be {expected}, of items that can be in one") from None

    is_plain = build is None and item is UNCHECKED
    return Check(expected, convert, list if is_plain else None)


def places(expected: str, checks: Sequence[Check], build: Callable[[Iterable[Any]], Any]) -> Check:
    """Accept a list with one shape for each place, for tuples."""

    def convert(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not list:
            raise Misfit.of(expected, value)
        if len(value) != len(checks):
            raise Misfit(f"must be {expected}, not a list of {len(value)}")
        each = enumerate(zip(checks, value, strict=True))
        return build([_at("", place, check, one) for place, (check, one) in each])

    return Check(expected, convert)


def table(expected: str, key: Check, item: Check) -> Check:
    """Accept a map of any length."""
    key_fits, item_fits = _all_fit(key), _all_fit(item)

    def convert(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not dict:
            raise Misfit.of(expected, value)
        if key_fits(value) and item_fits(value.values()):
            return value
        return {
            _at("key ", name, key, name): _at("", name, item, one) for name, one in value.items()
        }

    return Check(expected, convert, dict if key is item is UNCHECKED else None)


def record(
    expected: str, fields: Mapping[str, tuple[Check, bool]], build: Callable[..., Any] | None
) -> Check:
    """Accept a map with known keys, for a dataclass or a TypedDict.

    Args:
        fields: Each field's shape, and whether it has to be there. Read at each check, so that
            a class may contain itself.
        build: The dataclass, whose constructor runs; None leaves a dict.
    """

    def convert(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not dict:
            raise Misfit.of(expected, value)
        found = {}
        for name, (check, is_required) in fields.items():
            if name in value:
                one = value[name]
                found[name] = one if type(one) is check.exact else _at(".", name, check, one)
            elif is_required:
                raise Misfit("is missing", f".{name}")
        if len(found) != len(value):
            unknown = next(name for name in value if name not in fields)
            known = ", ".join(fields) or "none"
            raise Misfit(f"has no field {brief(unknown)}; {expected} has {known}")
        if build is None:
            return found
        try:
            return build(**found)
        except Exception as error:
            raise Misfit("is refused by its class", cause=error) from error

    return Check(expected, convert)


def _all_fit(check: Check) -> Callable[[Iterable[object]], bool]:
    """Give the quick test, at the speed of C, that none of many values needs a closer look."""
    if check is UNCHECKED:
        return lambda _: True
    exact = {check.exact}
    return lambda values: exact.issuperset(map(type, values))


def _at(kind: str, place: object, check: Check, value: object) -> Any:  # noqa: ANN401
    try:
        return check.convert(value)
    except Misfit as misfit:
        raise misfit.within(f".{place}" if kind == "." else f"[{kind}{brief(place)}]")  # noqa: B904
