"""Carry out what people say about permissions: grant, revoke, show. Only clients get here.

As with other orders, one that is given twice is carried out once. The file of grants is written
first: what a plugin may do is what the file says, also to a daemon that comes after this one.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias, TypeVar

from protocol.errors import SpiralHostError, UsageError, to_wire
from protocol.messages import (
    Answer,
    GrantPermissions,
    ListPermissions,
    Refusal,
    RevokePermissions,
)
from protocol.names import parse_plugin_id
from protocol.permissions import NOTHING, parse_permissions
from spiral_host import consent, grants, store
from spiral_host.consent import Grant
from spiral_host.orders import STOPPING, Orders
from spiral_host.permits import Permits
from spiral_host.questions import Asker
from spiral_host.refusals import Refusals
from spiral_host.registry import Plugin, Registry
from spiral_host.store import Statement
from spiral_host.supervisor import Supervisor, check_request

Order: TypeAlias = GrantPermissions | RevokePermissions
Row: TypeAlias = dict[str, object]
T = TypeVar("T")


class Outside(Protocol):
    """What granting needs of the rest of the daemon."""

    def write(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Change the store."""

    def in_background(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do this where it may wait for a disk, and have the loop called with what came of it."""

    def audit(self, kind: str, plugin_id: str, **fields: object) -> None:
        """Have a line written to the audit log."""


class Granting:
    """Grants under way; lives as long as the daemon.

    Args:
        remembered: What requests have set going, of earlier daemons too.
    """

    def __init__(
        self,
        registry: Registry,
        supervisor: Supervisor,
        permits: Permits,
        refusals: Refusals,
        orders: Orders,
        remembered: dict[str, Any],
        outside: Outside,
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._permits = permits
        self._refusals = refusals
        self._orders = orders
        self._remembered = remembered
        self._outside = outside
        self._under_way: set[str] = set()

    def give(self, asker: Asker, message: Order | ListPermissions) -> None:
        """Carry out an order and answer it at its end, answer a question, or refuse either."""
        try:
            if isinstance(message, ListPermissions):
                asker.reply(Answer(message.request, self._rows(message.plugin_id)))
            elif self._orders.is_leaving:
                raise UsageError(STOPPING)
            elif message.request not in self._under_way:
                self._begin(asker, message)
        except SpiralHostError as error:
            asker.reply(Refusal(message.request, *to_wire(error)))

    def _begin(self, asker: Asker, order: Order) -> None:
        plugin_id, known = parse_plugin_id(order.plugin_id), self._remembered.get(order.request)
        if known is not None and known.get("done"):
            self._answer(asker, order.request, plugin_id)
            return
        self._permits.grants.look()
        if self._permits.grants.failure:
            raise UsageError(self._permits.grants.failure)
        if isinstance(order, GrantPermissions):
            self._change(asker, order, self._granted(order))
            return
        if known is None and self._permits.grants.of(plugin_id) is None:
            known_ids = ", ".join(self._permits.grants.ids()) or "nobody"
            raise UsageError(f"{plugin_id} was granted nothing; granted something: {known_ids}")
        self._change(asker, order, None)

    def _granted(self, order: GrantPermissions) -> Grant:
        manifest = check_request(self._registry, order.plugin_id).manifest
        asked, given = self._permits.asked(manifest), None
        if order.digest not in ("", asked.manifest):
            look = f"spiral-host permissions {manifest.id}"
            raise UsageError(f"{manifest.id} has changed since it was shown; look again: {look}")
        if order.permissions is not None:
            followed = self._permits.follow(parse_permissions(order.permissions), manifest.id)
            if lost := (*followed.refused, *followed.unknown):
                raise UsageError(f"no plugin gets {consent.few(lost)}")
            given = followed.permissions
        return Grant(
            permissions=consent.proposed(manifest.id, asked, given),
            manifest=asked.manifest,
            version=manifest.metadata.version,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _change(self, asker: Asker, order: Order, grant: Grant | None) -> None:
        """Note the order, write the file, note that it is done; then see to the plugin."""
        plugin_id, request = order.plugin_id, order.request
        before = self._permits.grants.of(plugin_id)
        folder = self._permits.grants.folder
        self._under_way.add(request)

        def write_file() -> UsageError | None:
            try:
                grants.change(folder, plugin_id, grant)
            except UsageError as error:
                return error
            return None

        def written(error: UsageError | None) -> None:
            self._under_way.discard(request)
            if error is not None:
                del self._remembered[request]
                asker.reply(Refusal(request, *to_wire(error)))
                return
            self._note(request, plugin_id, is_done=True)
            self._tell(asker, plugin_id, before, grant)
            self._permits.grants.look()
            self._supervisor.reconsider(plugin_id)
            self._answer(asker, request, plugin_id)

        begin = self._outside.in_background
        self._note(request, plugin_id, is_done=False, then=lambda: begin(write_file, written))

    def _note(
        self,
        request: str,
        plugin_id: str,
        *,
        is_done: bool,
        then: Callable[[], None] | None = None,
    ) -> None:
        self._remembered[request] = said = {"permissions_of": plugin_id, "done": is_done}
        self._outside.write(store.begin(request, said), then)

    def _tell(
        self, asker: Asker, plugin_id: str, before: Grant | None, grant: Grant | None
    ) -> None:
        kind, about = ("revoked", before) if grant is None else ("granted", grant)
        if about is not None:
            self._outside.audit(
                kind,
                plugin_id,
                version=about.version,
                permissions=about.permissions.words(),
                manifest=about.manifest,
                by=asker.name,
            )

    def _answer(self, asker: Asker, request: str, plugin_id: str) -> None:
        def answer() -> None:
            rows = self._rows(plugin_id) if plugin_id in self._registry.plugins else []
            asker.reply(Answer(request, rows))

        self._orders.wait(lambda: self._orders.is_settled(plugin_id), answer)

    # --- how things are ---------------------------------------------------------------------------

    def _rows(self, plugin_id: str) -> list[Row]:
        if plugin_id:
            return [self._row(check_request(self._registry, plugin_id))]
        return [self._row(plugin) for plugin in self._registry.plugins.values()]

    def _row(self, plugin: Plugin) -> Row:
        found, now = self._permits.look(plugin.manifest), time.monotonic()
        in_force = plugin.permissions
        if not plugin.lifecycle.has_worker:
            in_force = found.in_force if found.is_given else NOTHING
        grant = found.grant
        return {
            "id": plugin.id,
            "version": plugin.manifest.metadata.version,
            "state": plugin.state.value,
            "reason": plugin.lifecycle.reason,
            "declares": found.asked.permissions is not None,
            "asked": found.asks.to_wire(),
            "granted": found.granted.to_wire(),
            "in_force": in_force.to_wire(),
            "lacking": found.lacking.to_wire(),
            "impossible": [*found.asked.refused, *found.unknown],
            "leads": dict(found.asked.leads),
            "digest": found.asked.manifest,
            "consented": grant and {"version": grant.version, "when": grant.when},
            "refused": [refusal.to_row(now) for refusal in self._refusals.of(plugin.id)],
        }
