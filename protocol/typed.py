"""Hold the calls of one method to its annotations: arguments before a plugin's code, then results.

A call compares types and converts only what differs; annotations are read when a service is
offered, by `protocol.interface`.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from protocol.checks import UNCHECKED, Check, Misfit, brief

MAX_PLANS: Final = 64
"""Ways to call one method that are remembered; people use one or two, but `**options` takes any."""

_Plan = tuple[list[str], list[Check], list[type | None]]
"""For each value of a call, keyword arguments last: its name, its check, the type that fits."""


class Signature:
    """One method's parameters and result, ready to be checked. Used by any thread.

    Attributes:
        name: The method's, for the text of errors.
        parameters: As Python has them, without `self`; None where Python does not know.
        is_trivial: Whether there is nothing to check but what Python checks itself.
    """

    __slots__ = (
        "_checks",
        "_item",
        "_plans",
        "_result",
        "fitting",
        "is_trivial",
        "name",
        "parameters",
    )

    def __init__(
        self,
        name: str,
        parameters: inspect.Signature | None,
        checks: Mapping[str, Check],
        result: Check = UNCHECKED,
        item: Check = UNCHECKED,
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.is_trivial = all(check is UNCHECKED for check in checks.values())
        self._checks = checks
        self._result = result
        self._item = item
        self._plans: dict[object, _Plan] = {}
        self.fitting: dict[int, list[type | None]] = {}
        """Types of so many arguments without keywords that need not be looked at: they fit."""

    def fits(self, arguments: list[Any]) -> bool:
        """Say whether arguments without keywords are of types that need not be looked at."""
        types = self.fitting.get(len(arguments))
        if types is None:
            return False
        for place, value in enumerate(arguments):  # noqa: SIM110 - as each call asks it
            if type(value) is not types[place]:
                return False
        return True

    def prepare(
        self, arguments: list[Any], keywords: dict[str, Any] | None
    ) -> tuple[list[Any], dict[str, Any] | None]:
        """Check the arguments of a call, and convert them where their annotations say so.

        Raises:
            TypeError: It names the method, the argument, what it must be and what came; or says,
                in Python's own words, which argument is missing or too many.
            Exception: What the constructor of an argument's dataclass raised.
        """
        shape = (len(arguments), *keywords) if keywords else len(arguments)
        names, checks, exact = self._plans.get(shape) or self._plan(shape, arguments, keywords)
        values = [*arguments, *keywords.values()] if keywords else arguments
        if [*map(type, values)] == exact:
            return arguments, keywords
        prepared: list[Any] = []
        try:
            for check, value in zip(checks, values, strict=True):
                prepared.append(check.convert(value))
        except Misfit as misfit:
            self._refuse(f"argument '{names[len(prepared)]}{misfit.path[:200]}'", misfit)
        except RecursionError:
            name = names[len(prepared)]
            raise TypeError(f"{self.name}(): argument '{name}' is nested too deeply") from None
        if not keywords:
            return prepared, None
        count = len(arguments)
        return prepared[:count], dict(zip(keywords, prepared[count:], strict=True))

    def result(self, value: Any) -> Any:  # noqa: ANN401 - whatever the other side returned
        """Give a returned value as its annotation has it; for the caller's side.

        Raises:
            TypeError: It is something else than the annotation says.
            Exception: What the constructor of a dataclass raised.
        """
        return (
            value if self._result is UNCHECKED else self._came_back("result", self._result, value)
        )

    def item(self, value: Any) -> Any:  # noqa: ANN401
        """Give one item of a stream as the annotation has it; raises as `result` does."""
        return value if self._item is UNCHECKED else self._came_back("item", self._item, value)

    def _came_back(self, what: str, check: Check, value: object) -> object:
        try:
            return check.convert(value)
        except Misfit as misfit:
            self._refuse(f"{what}{misfit.path[:200]}", misfit)
        except RecursionError:
            raise TypeError(f"{self.name}(): {what} is nested too deeply") from None

    def _plan(
        self, shape: object, arguments: Sequence[object], keywords: Mapping[str, object] | None
    ) -> _Plan:
        """Find out once what a number of arguments and some names mean to this method."""
        named = [(name, UNCHECKED) for name in map(str, range(len(arguments)))]
        if self.parameters is not None:
            try:
                self.parameters.bind(*arguments, **(keywords or {}))
            except TypeError as error:
                raise TypeError(f"{self.name}(): {str(error)[:200]}") from None
            named = self._by_place(len(arguments))
        named += [self._by_name(name) for name in keywords or ()]
        plan = [n for n, _ in named], [c for _, c in named], [c.exact for _, c in named]
        if len(self._plans) < MAX_PLANS:
            self._plans[shape] = plan
            if not keywords:
                self.fitting[len(arguments)] = plan[2]
        return plan

    def _by_place(self, count: int) -> list[tuple[str, Check]]:
        assert self.parameters is not None
        parameters = self.parameters.parameters.values()
        found = [(p.name, self._checks[p.name]) for p in parameters if p.kind in _BY_PLACE][:count]
        rest = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
        found += [
            (f"{rest[0]}[{place}]", self._checks[rest[0]]) for place in range(count - len(found))
        ]
        return found

    def _by_name(self, name: str) -> tuple[str, Check]:
        parameters = self.parameters.parameters if self.parameters else {}
        parameter = parameters.get(name)
        if parameter and parameter.kind in _BY_NAME:
            return name, self._checks[name]
        rest = [p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
        return brief(name)[1:-1], self._checks[rest[0]] if rest else UNCHECKED

    def _refuse(self, place: str, misfit: Misfit) -> NoReturn:
        cause = misfit.cause
        if cause is None:
            raise TypeError(f"{self.name}(): {place} {misfit.text}") from None
        if type(cause) in {TypeError, ValueError} and all(type(a) is str for a in cause.args):
            raise type(cause)(f"{self.name}(): {place}: {cause}") from cause
        cause.add_note(f"raised by {place} of {self.name}()")
        raise cause from cause.__cause__


_BY_PLACE: Final = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_BY_NAME: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
