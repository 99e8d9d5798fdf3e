"""The services that a process offers, by name: what may be called in it. No I/O.

Only public methods of the object that was offered can be reached, by the names they had then;
there are no attribute walks.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

from protocol.admission import Admissions
from protocol.errors import ServiceUnavailable, SpiralHostError, UsageError
from protocol.flight import Counter
from protocol.interface import interface_of
from protocol.messages import Offer
from protocol.names import parse_service, shown
from protocol.running import Target

F = TypeVar("F", bound=Callable[..., Any])

_IDEMPOTENT: Final = "__spiral_idempotent__"


def service(*, idempotent: bool) -> Callable[[F], F]:
    """Say of a service's method how its calls may be treated.

    Args:
        idempotent: Calling it twice does what calling it once does. Then a call whose callee died
            is made again, within its deadline, at most twice.
    """

    def mark(function: F) -> F:
        setattr(function, _IDEMPOTENT, idempotent)
        return function

    return mark


class Servant:
    """The services that one process offers; lives as long as the process's connection."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._objects: dict[str, object] = {}
        self._offers: dict[str, Offer] = {}
        self.targets: dict[tuple[str, str], Target] = {}
        """What may be called, by service and method; the same dictionary for ever."""
        self.admissions = Admissions()

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What is offered, as the daemon is told."""
        return tuple(self._offers.values())

    def offer(self, name: str, service: object, kind: Callable[..., Any] | None = None) -> Offer:
        """Take in a service; an earlier one of this name is replaced.

        Args:
            kind: What it is to be called by, a `typing.Protocol`; None is its own class.

        Raises:
            UsageError: The name is no service name, the object has no public method, or is not
                what `kind` says.
        """
        parse_service(name)
        signatures = interface_of(service, kind)
        if not signatures:
            raise UsageError(f"service {name}: {type(service).__name__} has no public method")
        self.withdraw(name)
        self._objects[name] = service
        for method, signature in signatures.items():
            function = getattr(service, method)
            self.targets[name, method] = Target(
                f"{name}.{method}",
                function,
                self._counter,
                None if signature.is_trivial else signature,
                is_async=inspect.iscoroutinefunction(function)
                or inspect.isasyncgenfunction(function),
            )
        again = (method for method in signatures if _may_come_again(service, method))
        offer = Offer(service=name, methods=tuple(signatures), idempotent=tuple(again))
        self._offers[name] = offer
        return offer

    def withdraw(self, name: str) -> bool:
        """Forget a service; say whether it was there."""
        self._objects.pop(name, None)
        offer = self._offers.pop(name, None)
        if offer is None:
            return False
        for method in offer.methods:
            del self.targets[name, method]
        return True

    def object_of(self, name: str) -> object | None:
        """Give the object that is offered under a name, or None."""
        return self._objects.get(name)

    def missing(self, service: str, method: str) -> SpiralHostError:
        """Say why there is no such target."""
        offer = self._offers.get(service)
        if offer is None:
            return ServiceUnavailable(shown(service), "it is not offered here any more")
        known = ", ".join(offer.methods)
        return UsageError(f"service {service} has no method {shown(method)}; it has {known}")


def _may_come_again(service: object, method: str) -> bool:
    return bool(getattr(getattr(service, method), _IDEMPOTENT, False))
