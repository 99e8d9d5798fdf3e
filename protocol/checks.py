"""Check one plain value against a shape, and give it back the type that the wire does not know.

A `Check` is one shape: here are those of single values, in `protocol.containers` those of values
that hold others. `protocol.annotations` builds them; nothing here looks at an annotation.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, Self

from protocol.names import shown

Convert = Callable[[Any], Any]


class Misfit(TypeError):
    """A value does not have its shape. Never leaves this package: callers name the argument.

    Attributes:
        path: Where in the value, from the outside: `.x`, `[3]`, `[3].x`.
        text: What is wrong, to be read after the place.
        cause: What a dataclass's constructor raised; None where the shape itself is wrong.
    """

    def __init__(self, text: str, path: str = "", cause: Exception | None = None) -> None:
        super().__init__(text)
        self.path = path
        self.text = text
        self.cause = cause

    @classmethod
    def of(cls, expected: str, value: object) -> Self:
        """Say what was expected and what came, in one harmless line."""
        return cls(f"must be {expected}, not {_came(value)}")

    def within(self, step: str) -> Self:
        """Lead the path by one step, on the way out."""
        self.path = step + self.path
        return self


class Check:
    """One shape; never changed once it is made.

    Attributes:
        expected: The shape in an author's words.
        convert: Gives the value as the annotation has it, or raises `Misfit`.
        exact: A value of exactly this type fits as it is; None where that cannot be said.
        is_key: Whether the values can be keys of a map when they travel.
    """

    __slots__ = ("convert", "exact", "expected", "is_key")

    def __init__(
        self, expected: str, convert: Convert, exact: type | None = None, *, is_key: bool = False
    ) -> None:
        self.expected = expected
        self.convert = convert
        self.exact = exact
        self.is_key = is_key


UNCHECKED: Final = Check("anything", lambda value: value, is_key=True)


def exactly(kind: type) -> Check:
    """Accept one type and none of its children: a bool is no int here."""
    expected = "None" if kind is type(None) else kind.__name__

    def convert(value: Any) -> Any:  # noqa: ANN401 - whatever came
        if type(value) is not kind:
            raise Misfit.of(expected, value)
        return value

    return Check(expected, convert, kind, is_key=True)


def number() -> Check:
    """Accept a float, and a whole number where a float is meant."""

    def convert(value: Any) -> float:  # noqa: ANN401
        if type(value) is float:
            return value
        if type(value) is not int:
            raise Misfit.of("float", value)
        try:
            return float(value)
        except OverflowError:
            raise Misfit.of("float", value) from None

    return Check("float", convert, float, is_key=True)


def buffer(kind: type[bytes] | type[bytearray] | type[memoryview]) -> Check:
    """Accept bytes and, when they were many, the memoryview that they arrive as."""

    def convert(value: Any) -> Any:  # noqa: ANN401
        if type(value) is kind:
            return value
        if not isinstance(value, bytes | bytearray | memoryview):
            raise Misfit.of(kind.__name__, value)
        return kind(value)

    return Check(kind.__name__, convert, kind, is_key=kind is bytes)


def one_of(expected: str, members: Mapping[tuple[type, Hashable], object]) -> Check:
    """Accept what stands for a member of an enum or a literal; keys are (type, value)."""

    def convert(value: Any) -> Any:  # noqa: ANN401
        try:
            return members[type(value), value]
        except (KeyError, TypeError, ValueError):  # the last two: it cannot be hashed
            raise Misfit.of(expected, value) from None

    return Check(expected, convert, is_key=True)


def flags(expected: str, mask: int, build: Convert) -> Check:
    """Accept a whole number that has no bit but those of an enum's flags."""

    def convert(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not int or value & ~mask:
            raise Misfit.of(expected, value)
        return build(value)

    return Check(expected, convert, is_key=True)


def either(checks: Sequence[Check]) -> Check:
    """Accept the first shape that fits, in the author's order.

    What would have to be widened (to a float, to bytes) comes after all others, so that
    `float | int` leaves a whole number as it is.
    """
    expected = " | ".join(check.expected for check in checks)
    ordered = sorted(checks, key=lambda check: _TURNS.get(check.exact, 1))
    exact = frozenset(check.exact for check in checks) - {None}
    at_once = frozenset(c.exact for c in takewhile(lambda c: c.exact is not None, ordered))

    def convert(value: Any) -> Any:  # noqa: ANN401
        kind = type(value)
        if kind in at_once:
            return value
        deep: list[Misfit] = []
        for check in ordered:
            if check.exact is kind:
                return value
            if check.exact is None or (check.exact in _WIDENED and kind not in exact):
                try:
                    return check.convert(value)
                except Misfit as misfit:
                    if misfit.path or misfit.cause:
                        deep.append(misfit)
        # Where one shape alone looked inside the value, it knows best what is wrong there.
        raise deep[0] if len(deep) == 1 else Misfit.of(expected, value)

    return Check(expected, convert, is_key=all(check.is_key for check in checks))


def instance(expected: str, fits: Callable[[Any], bool]) -> Check:
    """Accept what passes a test, as it is: a callable, an array."""

    def convert(value: Any) -> Any:  # noqa: ANN401
        if not fits(value):
            raise Misfit.of(expected, value)
        return value

    return Check(expected, convert)


def brief(value: object) -> str:
    """Quote a scalar, cut first: what came may be a megabyte."""
    if isinstance(value, str | bytes):
        return shown(value[:60])
    is_small = value is None or isinstance(value, float)
    is_small = is_small or (isinstance(value, int) and value.bit_length() <= 64)
    return shown(value) if is_small else type(value).__name__


def _came(value: object) -> str:
    name = "None" if value is None else type(value).__name__
    if name == "ndarray":
        return f"an array of {value.dtype.name}, shape {value.shape}"  # type: ignore[attr-defined]
    is_scalar = isinstance(value, str | bytes | int | float)
    return f"{name} ({brief(value)})" if is_scalar else name


_WIDENED: Final = frozenset({float, bytes, bytearray, memoryview})
_TURNS: Final[dict[type | None, int]] = {type(None): 0, **dict.fromkeys(_WIDENED, 2)}
"""In which turn a shape is tried: None stands for nothing else, and widening comes last."""
