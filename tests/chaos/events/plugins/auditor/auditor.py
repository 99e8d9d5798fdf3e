"""Checks every event as it comes; keeps no event."""

from dataclasses import astuple
from typing import TYPE_CHECKING

from plugin_worker import Plugin, PluginContext, PluginEvent

if TYPE_CHECKING:
    from tests.chaos.events.ledger import Ledger
else:
    from ledger import Ledger  # the test puts it beside this file

PREFIX = "Chaos."


class Service:
    """Enters what comes into a ledger. Sources and types travel as `SOURCE TYPE`."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._ledger = Ledger()

    def listen(self, patterns: list[str]) -> None:
        """Subscribe."""
        for pattern in patterns:
            self._ctx.subscribe(pattern, self._hear)

    def behind(self, published: dict[str, int]) -> int:
        """Say how many of the published ones have not been reached yet."""
        return self._ledger.behind(_by_key(published))

    def close(self, published: dict[str, int]) -> list[int]:
        """Give the account, field by field."""
        return list(astuple(self._ledger.close(_by_key(published))))

    def _hear(self, event: PluginEvent) -> None:
        if isinstance(event, PluginEvent.EventGap):
            if event.event_type.startswith(PREFIX):
                self._ledger.name(event.source, event.event_type, event.first, event.last)
        elif event.type.startswith(PREFIX):
            said = event.data  # type: ignore[attr-defined]
            number = said if type(said) is int else said[0]
            self._ledger.hear(event.source, event.type, event.seq, number)


def _by_key(published: dict[str, int]) -> dict[tuple[str, str], int]:
    return {(key.split()[0], key.split()[1]): count for key, count in published.items()}


class Auditor(Plugin):
    """Offers `audit.ID`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(f"audit.{ctx.plugin_id}", Service(ctx))
