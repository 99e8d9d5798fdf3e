"""Answer what workers and clients ask: services, lanes, configuration, capabilities.

Who asks is known by its incarnation, which its connection gives and it cannot choose.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from protocol import failpoints
from protocol.errors import (
    Overloaded,
    PermissionDenied,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    to_wire,
)
from protocol.messages import (
    Answer,
    FindByCapability,
    GetConfig,
    GrantLane,
    LaneFailed,
    ListServices,
    Offer,
    Question,
    Refusal,
    Resolve,
    SetConfig,
    ToNode,
)
from protocol.names import EVERYTHING, MAX_SERVICE, parse_method, parse_service, shown
from protocol.permissions import Permissions
from protocol.plugin import PluginCapability
from protocol.reactor import Reactor, Timer
from spiral_host import store
from spiral_host.registry import Offered, Registry
from spiral_host.store import Statement

MAX_SETTING: Final = 64 * 1024
"""Characters of a configured value, and 200 of its key."""

MAX_CONFIG: Final = 512 * 1024
"""Bytes of all keys and values: every question for them may be answered in one message."""

MAX_KEYS: Final = 1000

MAX_METHODS: Final = 512
"""Methods of one service."""

MAX_NAMES: Final = 64 * 1024
"""Characters of the names of one process's services and their methods, all together."""

MAX_LISTED: Final = 512 * 1024
"""Characters of the names in one list of all services, so that it can be sent; every process has
the same share of it."""

MAX_OFFERS: Final = 256
"""Services of one process; a plugin with more has not understood what a service is."""

MAX_NAME: Final = 200
"""Characters of a name that are told when it is refused."""

MAX_PARKED: Final = 256
"""Questions of one process that wait for a service; it has about as many threads."""

REMEMBERED: Final = 1024
"""Lanes on their way that can still fail; the node answers within one turn of its loop."""

AGAIN_S: Final = 0.002
"""When a failed lane's question is asked again; the news of the death is here by then, seconds."""

Reply: TypeAlias = Callable[[Answer | Refusal], None]

Denied: TypeAlias = Callable[[str, str, str], None]
"""Called with a plugin, a permission and what was refused for want of it."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: one life of a worker or client, its name, and the way back.

    Attributes:
        permissions: What a plugin is held to; None is an application, which nobody limits.
    """

    incarnation: int
    name: str
    reply: Reply
    permissions: Permissions | None

    def may_call(self, service: str) -> bool:
        """Say whether it may call a service."""
        return self.permissions is None or self.permissions.may_call(service)

    def may_configure(self, key: str) -> bool:
        """Say whether it may read and change a setting."""
        return self.permissions is None or self.permissions.may_configure(key)


@dataclass(frozen=True, slots=True)
class _Granted:
    """A lane on its way, in case it cannot be made."""

    asker: Asker
    question: Resolve
    until: float


@dataclass(slots=True)
class _Parked:
    """A question for a service that nobody offers yet."""

    asker: Asker
    question: Resolve
    timer: Timer


class Questions:
    """Answers questions; lives as long as the daemon.

    Plugins are answered as far as their permissions go: who may not call a service gets no lane to
    it, now or later, and sees neither it nor settings that are not its own.
    """

    def __init__(
        self,
        registry: Registry,
        reactor: Reactor,
        config: dict[str, str],
        write: Callable[[list[Statement], Callable[[], None] | None], None],
        tell_node: Callable[[ToNode], None],
        denied: Denied,
    ) -> None:
        self._registry = registry
        self._denied = denied
        self._reactor = reactor
        self._config = config
        self._write = write
        self._tell_node = tell_node
        self._parked: dict[str, list[_Parked]] = {}
        """By the service that they wait for."""
        self._waiting: Counter[int] = Counter()
        """How many questions of each process are parked."""
        self.epoch = 0
        """The daemon's; lanes live longer than it, so its numbers stand in theirs."""
        self._lanes = 0
        self._granted: dict[int, _Granted] = {}

    def ask(self, asker: Asker, question: Question) -> None:
        """Answer a question, now or when the answer is there."""
        try:
            if isinstance(question, Resolve):
                self._resolve(asker, question)
            elif isinstance(question, SetConfig):
                self._set(asker, question)
            else:
                asker.reply(Answer(question.request, self._look_up(asker, question)))
        except PermissionDenied as error:
            self._denied(asker.name, error.permission, error.what)
            asker.reply(Refusal(question.request, *to_wire(error)))
        except SpiralHostError as error:
            asker.reply(Refusal(question.request, *to_wire(error)))

    def offer(self, asker: Asker, offer: Offer) -> None:
        """Take in a service.

        Raises:
            UsageError: Its name, or a method's, is none, or there are too many.
        """
        parse_service(offer.service)
        if max(len(offer.methods), len(offer.idempotent)) > MAX_METHODS:
            raise UsageError(f"service {offer.service} has more than {MAX_METHODS} methods")
        for method in (*offer.methods, *offer.idempotent):
            parse_method(method)
        length = _length(offer.service, *offer.methods, *offer.idempotent)
        mine = self._registry.offered_by(asker.incarnation)
        others = [known for known in mine if known.service != offer.service]
        if len(others) >= MAX_OFFERS:
            raise UsageError(f"{asker.name} offers more than {MAX_OFFERS} services")
        if length + sum(known.length for known in others) > MAX_NAMES:
            raise UsageError(f"{asker.name} offers more than {MAX_NAMES} characters of names")
        offered = Offered(
            offer.service,
            offer.methods,
            asker.incarnation,
            asker.name,
            offer.idempotent,
            is_application=asker.permissions is None,
            length=length,
        )
        self._registry.offer(offered)
        provider = self._registry.provider(offer.service)
        is_covered = provider is not None and provider.incarnation != asker.incarnation
        if provider is not None and is_covered and asker.permissions is not None:
            self._not_called(asker, provider)

    @staticmethod
    def _not_called(asker: Asker, provider: Offered) -> None:
        """Tell a plugin that its offer of a name waits behind another's."""
        why = UsageError(
            f"service {provider.service} is offered by {provider.owner}, which is called for it as "
            f"long as it lives; offer it by another name"
        )
        asker.reply(Refusal("", *to_wire(why)))

    def look_again(self, service: str | None = None) -> None:
        """Something changed: parked questions may have their answer now.

        Args:
            service: What they are for, where nothing else has changed. It may change as often as
                a plugin can say so, so what still has no answer stays where it is.
        """
        for name in list(self._parked) if service is None else [service]:
            if self._registry.provider(name) or self._registry.why_hopeless(name):
                for item in self._parked.pop(name, []):
                    self._waiting[item.asker.incarnation] -= 1
                    item.timer.cancel()
                    left = max(0.0, item.timer.when - time.monotonic())
                    self.ask(item.asker, replace(item.question, wait_s=left))

    def forget(self, incarnation: int) -> None:
        """Drop the questions of one that is gone."""
        if not self._waiting.pop(incarnation, 0):
            return
        for name, items in list(self._parked.items()):
            left = [item for item in items if item.asker.incarnation != incarnation]
            for item in items:
                if item.asker.incarnation == incarnation:
                    item.timer.cancel()
            self._keep_parked(name, left)

    def forget_all_but(self, incarnations: Collection[int]) -> None:
        """Drop the questions of everybody else, because they are gone."""
        for incarnation in [each for each in self._waiting if each not in incarnations]:
            self.forget(incarnation)

    def _keep_parked(self, name: str, items: list[_Parked]) -> None:
        if items:
            self._parked[name] = items
        else:
            self._parked.pop(name, None)

    def _resolve(self, asker: Asker, question: Resolve) -> None:
        if len(question.service) > MAX_SERVICE:
            raise ServiceUnavailable(shown(question.service), "nothing can be offered by that name")
        provider = self._registry.provider(question.service)
        is_own = provider is not None and provider.incarnation == asker.incarnation
        if not (is_own or asker.may_call(question.service)):
            raise PermissionDenied("services", _short(question.service), asker.name)
        if provider is not None:
            self._grant(asker, question, provider)
            return
        hopeless = self._registry.why_hopeless(question.service)
        if hopeless:
            raise ServiceUnavailable(question.service, hopeless)
        if not question.wait_s > 0:  # nor if it is no number
            asker.reply(Answer(question.request, None))
            return
        if self._waiting[asker.incarnation] >= MAX_PARKED:
            raise Overloaded(question.service, 1.0)
        until = min(question.wait_s, 3600.0)
        timer = self._reactor.call_later(until, lambda: self._give_up(asker, question))
        self._parked.setdefault(question.service, []).append(_Parked(asker, question, timer))
        self._waiting[asker.incarnation] += 1

    def _grant(self, asker: Asker, question: Resolve, provider: Offered) -> None:
        self._lanes += 1
        lane = (self.epoch << 32) | self._lanes
        until = time.monotonic() + question.wait_s
        self._granted[lane] = _Granted(asker, question, until)
        self._granted.pop(lane - REMEMBERED, None)
        self._tell_node(
            GrantLane(
                lane=lane,
                request=question.request,
                caller=asker.incarnation,
                callee=provider.incarnation,
                caller_name=asker.name,
                callee_name=provider.owner,
                service=provider.service,
                idempotent=provider.idempotent,
            )
        )
        if failpoints.ARMED:
            failpoints.hit("lane.ordered")

    def lane_failed(self, failed: LaneFailed) -> None:
        """A lane that was granted could not be made: its callee went away in between, mostly."""
        granted = self._granted.pop(failed.lane, None)
        if granted is None:
            return
        asker, question = granted.asker, granted.question
        if not failed.gone:
            refused = ServiceUnavailable(question.service, failed.why)
            asker.reply(Refusal(question.request, *to_wire(refused)))
            return
        left = max(0.0, granted.until - time.monotonic())
        again = replace(question, wait_s=left)
        self._reactor.call_later(AGAIN_S, lambda: self.ask(asker, again))

    def _give_up(self, asker: Asker, question: Resolve) -> None:
        parked = self._parked[question.service]
        left = [item for item in parked if item.question is not question]
        self._keep_parked(question.service, left)
        self._waiting[asker.incarnation] -= 1
        asker.reply(Answer(question.request, None))

    def _look_up(
        self, asker: Asker, question: ListServices | FindByCapability | GetConfig
    ) -> object:
        if isinstance(question, ListServices):
            return _listed(self._callable_by(asker))
        if isinstance(question, FindByCapability):
            capability = PluginCapability.parse(question.capability)
            return self._capable(asker, str(capability))
        prefix = question.prefix
        if prefix and not self._may_look_at(asker, prefix):
            raise PermissionDenied("config", _short(prefix), asker.name)
        chosen = sorted(key for key in self._config if key.startswith(prefix))
        return {key: self._config[key] for key in chosen if asker.may_configure(key)}

    def _callable_by(self, asker: Asker) -> list[Offered]:
        return [
            offer
            for offer in self._registry.services()
            if offer.incarnation == asker.incarnation or asker.may_call(offer.service)
        ]

    def _capable(self, asker: Asker, capability: str) -> list[str]:
        """Name those that can do something and that an asker may know of.

        A plugin that may not call everything knows of those of which it may call something.
        """
        found = self._registry.find_by_capability(capability)
        if asker.may_call(EVERYTHING):
            return found
        known = {asker.name, *(offer.owner for offer in self._callable_by(asker))}
        return [plugin_id for plugin_id in found if plugin_id in known]

    @staticmethod
    def _may_look_at(asker: Asker, prefix: str) -> bool:
        """Say whether any key that begins so might be one that an asker may see."""
        if asker.permissions is None:
            return True
        patterns = asker.permissions.config
        begins = (pattern.removesuffix("*").startswith(prefix) for pattern in patterns)
        return asker.may_configure(prefix) or any(begins)

    def _set(self, asker: Asker, question: SetConfig) -> None:
        key, value = question.key, question.value
        if not 0 < len(key) <= 200 or not key.isprintable():
            raise UsageError(f"{shown(key)} is no configuration key; use 1 to 200 characters")
        if not asker.may_configure(key):
            raise PermissionDenied("config", key, asker.name)
        if value is not None and len(value) > MAX_SETTING:
            raise UsageError(f"configuration {key} has more than {MAX_SETTING} characters")
        if value is not None and key not in self._config and len(self._config) >= MAX_KEYS:
            raise UsageError(f"the configuration has {MAX_KEYS} keys already; unset some")
        others = sum(_bytes(*pair) for pair in self._config.items() if pair[0] != key)
        if value is not None and others + _bytes(key, value) > MAX_CONFIG:
            raise UsageError(f"the configuration has {MAX_CONFIG} bytes already; unset some")
        if value is None:
            self._config.pop(key, None)
        else:
            self._config[key] = value
        answer = Answer(question.request, None)
        self._write([store.configure(key, value)], lambda: asker.reply(answer))


def _bytes(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)


def _length(*names: str) -> int:
    return sum(map(len, names)) + len(names)


def _listed(offers: list[Offered]) -> list[list[object]]:
    """Give every service as it is listed, those without their methods for which there is no room.

    A process that offers more than its share harms none but itself.
    """
    share = MAX_LISTED // max(1, len({offer.incarnation for offer in offers}))
    used: Counter[int] = Counter()
    rows: list[list[object]] = []
    for offer in offers:
        used[offer.incarnation] += offer.length
        methods = offer.methods if used[offer.incarnation] <= share else ()
        rows.append([offer.service, offer.owner, list(methods)])
    return rows


def _short(name: str) -> str:
    """Give a name as it is told to people, unless it is none."""
    return name if name.isprintable() and len(name) <= MAX_NAME else shown(name)
