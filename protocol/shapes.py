"""What the fields of a built-in event may hold, looked at where it leaves and where it arrives."""

from collections.abc import Callable
from operator import attrgetter, index
from typing import Any, Final, NamedTuple

from protocol.errors import RemoteProtocolError, UsageError
from protocol.events import BUILT_IN, PluginEvent
from protocol.names import Topic, shown

Values = tuple[object, ...]


NUMBERS: Final = frozenset({int, float})


class _Kind(NamedTuple):
    """What a field may hold: for people, the types that travel as they are, what others become."""

    what: str
    plain: frozenset[type]
    become: Callable[[Any], object]
    """Raises whatever it likes if it cannot."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str.__str__(value)  # an enumeration's own would be `Color.RED`


def _figures(value: Any) -> dict[str, object]:  # noqa: ANN401 - what is no map raises
    return {_text(key): figure for key, figure in dict(value).items()}


def _integers(value: Any) -> list[int]:  # noqa: ANN401 - what is no sequence raises
    return [index(number) for number in value]


_KINDS: Final[dict[object, _Kind]] = {
    int: _Kind("an integer", frozenset({int}), index),
    float: _Kind("a number", NUMBERS, float),
    str: _Kind("text", frozenset({str}), _text),
    list[int]: _Kind("a list of integers", frozenset({list}), _integers),
    dict[str, float]: _Kind("figures by name", frozenset({dict}), _figures),
}


class Shape:
    """The fields of a built-in type; lives as long as the program."""

    def __init__(self, kind: type[PluginEvent]) -> None:
        self.kind = kind
        self.topic = Topic(kind.__name__)
        self.fields = kind.said
        self.values: Callable[[PluginEvent], Values] = _getter(self.fields)
        """Gives what an event says, whatever that is."""
        self.types: Callable[[PluginEvent], object] = _getter(
            tuple(f"{name}.__class__" for name in self.fields)
        )
        """Gives their types, in a tenth of what it takes to look at each."""
        self.plain: set[object] = set()
        """Types of fields that are known to travel as they are."""
        self.numbers: set[object] = set()
        """Those of them that are numbers alone."""
        self._kinds = [_KINDS[kind.__annotations__[name]] for name in self.fields]

    def become(self, values: Values) -> Values:
        """Turn what an event says into what travels.

        Raises:
            UsageError: A field holds something else than it should.
        """
        types = tuple(map(type, values))
        if all(each in kind.plain for each, kind in zip(types, self._kinds, strict=True)):
            self.plain.add(types)
            if NUMBERS.issuperset(types):
                self.numbers.add(types)
            return values
        return tuple(map(self._become, self.fields, self._kinds, values))

    def _become(self, name: str, kind: _Kind, value: object) -> object:
        if type(value) in kind.plain:
            return value
        try:
            return kind.become(value)
        except Exception:  # noqa: BLE001 - a value may do anything when it is asked
            what = f"{self.topic}.{name} is {kind.what}; got {shown(value)}"
            raise UsageError(what) from None

    def check(self, said: list[list[object]]) -> None:
        """Look whether so many events say what events of this type may say.

        Raises:
            RemoteProtocolError: One does not.
        """
        if set(map(len, said)) != {len(self.fields)}:
            raise RemoteProtocolError(f"{self.topic} has {len(self.fields)} fields")
        for name, kind, column in zip(
            self.fields, self._kinds, zip(*said, strict=True), strict=True
        ):
            if not kind.plain.issuperset(map(type, column)):
                raise RemoteProtocolError(f"{self.topic}.{name} is {kind.what}")


def _getter(fields: tuple[str, ...]) -> Callable[[PluginEvent], Values]:
    if len(fields) > 1:
        return attrgetter(*fields)
    if not fields:
        return lambda _: ()
    get = attrgetter(fields[0])
    return lambda event: (get(event),)


SHAPES: Final = {kind: Shape(kind) for kind in BUILT_IN.values()}
