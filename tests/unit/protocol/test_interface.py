import enum
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import cache, partial, partialmethod, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pytest

from protocol.errors import UsageError
from protocol.interface import interface_of, interface_of_kind
from protocol.methods import public_methods

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def logged(function: "Callable[..., Any]") -> "Callable[..., Any]":
    """Wrap a method as a decorator does."""

    @wraps(function)
    def inner(*arguments: object, **keywords: object) -> object:
        return function(*arguments, **keywords)

    return inner


class Everything:
    """A class with all that a class may have."""

    constant = 5
    short = partial(int, "5")
    double = partialmethod(pow, 2)

    class Inner:
        """A class inside, which nobody may call from outside."""

    def __init__(self) -> None:
        self.by_hand = len

    def __call__(self) -> None:
        """Is no method to call by name."""

    @property
    def loud(self) -> "Callable[[], None]":
        """Must not be evaluated."""
        raise AssertionError

    @staticmethod
    def fixed(a: int) -> int:
        """Give it back."""
        return a

    @classmethod
    def made(cls, a: int) -> int:
        """Give it back."""
        return a

    @logged
    def wrapped(self, a: int) -> int:
        """Give it back."""
        return a

    @cache  # noqa: B019 - it is what people write
    def cached(self, a: int) -> int:
        """Give it back."""
        return a

    def plain(self, a: int) -> int:
        """Give it back."""
        return a

    def öffentlich(self) -> None:  # noqa: PLC2401 - a name that cannot travel
        """Do nothing."""

    def _hidden(self) -> None: ...


def test_public_methods_are_the_callables_of_the_class() -> None:
    """No attribute of the object, no property, no class inside, no name that starts otherwise."""
    names = ("cached", "double", "fixed", "made", "plain", "short", "wrapped")
    assert public_methods(Everything) == names
    assert tuple(interface_of(Everything(), None)) == names


@pytest.mark.parametrize("name", ["cached", "fixed", "made", "plain", "wrapped"])
def test_every_kind_of_method_is_held_to_its_annotations(name: str) -> None:
    """However a method was made, its first argument is `a`."""
    prepare = interface_of(Everything(), None)[name].prepare
    assert prepare([1], None) == ([1], None)
    with pytest.raises(TypeError, match=rf"{name}\(\): argument 'a' must be int"):
        prepare(["x"], None)


class Adder(Protocol):
    """A protocol with one method and what is no method."""

    precision: int

    def add(self, a: int, b: int = 1) -> int:
        """Add."""


class Good:
    """A service that fits and offers more than the protocol says."""

    def add(self, a, b=1, *, slow=False):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Add."""
        return a + b + slow

    def more(self, path: Path) -> None:
        """Do what the protocol does not mention."""


def test_a_protocol_decides_which_methods_are_public_and_what_they_take() -> None:
    """The service's own annotations are not looked at, nor are its other methods offered."""
    interface = interface_of(Good(), Adder)
    assert list(interface) == ["add"]
    with pytest.raises(TypeError, match="argument 'a' must be int, not str"):
        interface["add"].prepare(["x"], None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'slow'"):
        interface["add"].prepare([1], {"slow": True})


class Hidden(Protocol):
    """A protocol with nothing to check."""

    def reset(self) -> None:
        """Reset."""

    def same(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Give it back."""


class Hiding:
    """A service with an argument that its protocol does not mention."""

    def reset(self, *, everything: bool = False) -> None:
        """Reset."""

    def same(self, value: object) -> object:
        """Give it back."""
        return value


def test_what_a_protocol_does_not_mention_cannot_be_reached() -> None:
    """A method is trivial only if Python itself refuses all that the protocol refuses."""
    interface = interface_of(Hiding(), Hidden)
    assert {name: method.is_trivial for name, method in interface.items()} == {
        "reset": False,
        "same": True,
    }
    with pytest.raises(TypeError, match="unexpected keyword argument 'everything'"):
        interface["reset"].prepare([], {"everything": True})


def fitting(add: object) -> object:
    """Build a service whose only method is this one."""
    return type("Odd", (), {"add": add})()


@pytest.mark.parametrize(
    "add",
    [
        lambda self, a, b=1: None,
        lambda self, *args, **kwargs: None,
        lambda *args, **kwargs: None,
        lambda self, a, b=2, c=1: None,
        staticmethod(lambda a, b=2, c=3: None),
        logged(lambda self, a, b=1: None),
        dict.update,
    ],
    ids=["same", "any", "any-self", "more", "static", "wrapped", "unknown"],
)
def test_a_service_may_take_more_than_its_protocol_asks(add: object) -> None:
    """Whatever can be called in every way that the protocol allows fits."""
    interface_of(fitting(add), Adder)


@pytest.mark.parametrize(
    ("add", "text"),
    [
        (lambda self, a: None, "too many positional arguments"),
        (lambda self, a, b, c: None, "missing a required argument: 'c'"),
        (lambda self, b, a=1: None, "argument 'a' would be taken for 'b'"),
        (lambda self, a, c=1: None, "argument 'b' would be taken for 'c'"),
        (lambda self, a, *, b=1: None, "too many positional arguments"),
        (lambda self, a, b=1, /: None, "positional"),
    ],
    ids=["fewer", "more", "swapped", "other", "named", "unnamed"],
)
def test_a_service_that_takes_other_arguments_is_refused(add: object, text: str) -> None:
    """The text shows both parameter lists and why they do not go together."""
    with pytest.raises(UsageError) as caught:
        interface_of(fitting(add), Adder)
    assert text in str(caught.value)
    assert str(caught.value).startswith("Odd.add(")
    assert "is not Adder.add(a: int, b: int = 1) -> int: " in str(caught.value)


def test_a_service_without_a_method_is_refused() -> None:
    """The method that is missing is named."""
    with pytest.raises(UsageError, match="object has no method add, but Adder has"):
        interface_of(object(), Adder)


class Rest(Protocol):
    """A protocol with a method that takes anything."""

    def take(self, *values: int, **named: int) -> None:
        """Take."""


def test_a_service_has_to_take_as_many_as_its_protocol_allows() -> None:
    """Any number of arguments is a promise too."""
    few = type("Few", (), {"take": lambda self, *values: None})()
    fewer = type("Fewer", (), {"take": lambda self, **named: None})()
    with pytest.raises(UsageError, match="it takes no variadic keyword arguments"):
        interface_of(few, Rest)
    with pytest.raises(UsageError, match="it takes no variadic positional arguments"):
        interface_of(fewer, Rest)


class Unresolved:
    """A service whose annotation names what is nowhere."""

    def add(self, a: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        """Add."""


class Untravelled:
    """A service that takes what cannot travel, and gives it."""

    def read(self, path: list[Path]) -> bytes:
        """Read."""
        return b""


class Giver:
    """A service whose result cannot travel, says its annotation."""

    def give(self) -> Path:
        """Give."""
        return Path()


class Odd:
    """A service with an annotation that is none."""

    def add(self, a: [int]) -> None:  # type: ignore[valid-type, misc]
        """Add."""


class Lazy:
    """A callable whose annotations are evaluated when somebody looks, as from Python 3.14 on."""

    def __call__(self) -> None:
        """Do nothing."""

    @property
    def __signature__(self) -> object:
        raise NameError("name 'Nowhere' is not defined")


class Late:
    """A service with such a method."""

    add = Lazy()


class Selfless(Protocol):
    """A protocol whose author forgot something."""

    def add() -> None:  # type: ignore[misc]
        """Add."""


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            Unresolved,
            "Unresolved.add: argument 'a': its annotation cannot be resolved: name 'Nowhere'",
        ),
        (Untravelled, "Untravelled.read: argument 'path': Path cannot travel"),
        (Giver, "Giver.give: result: Path cannot travel"),
        (Odd, "Odd.add: argument 'a': "),
        (Late, "Late.add: an annotation cannot be resolved: name 'Nowhere' is not defined"),
        (Selfless, "Selfless.add takes no self"),
        (object, "object has no public method"),
        (len, "is no class"),
    ],
)
def test_annotations_that_cannot_be_kept_are_refused(kind: Any, text: str) -> None:  # noqa: ANN401
    """Method, argument and class are named when the service is offered, not when it is called."""
    with pytest.raises(UsageError) as caught:
        interface_of_kind(kind)
    assert text in str(caught.value)


def test_a_services_own_result_annotations_are_not_looked_at() -> None:
    """Nobody converts by them: what a method returns shows whether it can travel."""
    assert list(interface_of(Giver(), None)) == ["give"]
    with pytest.raises(UsageError, match="Untravelled.read: argument 'path'"):
        interface_of(Untravelled(), None)


class Putter(Protocol[T]):
    """A generic protocol."""

    def put(self, value: T) -> T:
        """Put."""


def test_a_generic_protocol_is_one_too() -> None:
    """What stands for any type is not checked."""
    assert interface_of_kind(Putter[int])["put"].prepare(["x"], None) == (["x"], None)


class Answers(Generic[T]):
    """A service with results of many forms."""

    def later(self) -> "Awaitable[Answer]":
        """Give it later."""
        raise NotImplementedError

    def some(self) -> "Iterable[Answer]":
        """Give some, at once or one by one."""
        raise NotImplementedError

    def bare(self) -> AsyncIterator:  # type: ignore[type-arg]
        """Give anything."""
        raise NotImplementedError


class Answer(enum.Enum):
    """An enum that is defined later than it is named."""

    YES = 1


def test_results_that_come_later_or_in_part_are_held_to_what_is_inside() -> None:
    """An awaitable gives its result; an iterable is a list or a stream."""
    interface = interface_of_kind(Answers)
    assert interface["later"].result(1) is Answer.YES
    assert interface["some"].result([1]) == [Answer.YES]
    assert interface["some"].item(1) is Answer.YES
    assert interface["bare"].item(5) == 5
