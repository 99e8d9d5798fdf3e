"""Decide what is news about services: which can be called now, and which no longer. No I/O."""

from collections.abc import Iterable

from protocol.events import PluginEvent, ServiceDown, ServiceUp
from spiral_host.registry import Offered


class Announcer:
    """What was said last of each service; lives as long as the daemon."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, int]] = {}
        """Owner and life of each service that was said to be up."""

    def learn(self, services: Iterable[Offered]) -> None:
        """Take these as said: an earlier daemon has told of them."""
        self._said = _owners(services)

    def news(self, services: Iterable[Offered]) -> list[PluginEvent]:
        """Give what is to be said, services that are gone first."""
        now, before = _owners(services), self._said
        self._said = now
        down = [
            ServiceDown(name, owner)
            for name, (owner, life) in before.items()
            if now.get(name) != (owner, life)
        ]
        up = [
            ServiceUp(name, owner)
            for name, (owner, life) in now.items()
            if before.get(name) != (owner, life)
        ]
        return [*down, *up]

    def news_of(self, service: str, offered: Offered | None) -> list[PluginEvent]:
        """Give what is to be said of one service, of which this is the offer that counts now."""
        before = self._said.pop(service, None)
        now = None if offered is None else (offered.owner, offered.incarnation)
        if now is not None:
            self._said[service] = now
        news: list[PluginEvent] = []
        if before != now:
            news += [ServiceDown(service, before[0])] if before is not None else []
            news += [ServiceUp(service, now[0])] if now is not None else []
        return news


def _owners(services: Iterable[Offered]) -> dict[str, tuple[str, int]]:
    return {offer.service: (offer.owner, offer.incarnation) for offer in services}
