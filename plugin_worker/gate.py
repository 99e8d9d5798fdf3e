"""Let a plugin publish what it may, and as much as it may; the rest is refused before it is sent.

The node looks again, for whoever goes behind the library's back.
"""

import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

from protocol.bucket import Bucket
from protocol.errors import LimitReached
from protocol.names import EVERYTHING, parse_topic
from protocol.payloads import topic_of
from protocol.runs import MAX_TYPES

if TYPE_CHECKING:
    from protocol.eventbus import Publishing
    from protocol.events import PluginEvent
    from protocol.limits import Limits
    from protocol.names import Topic
    from protocol.permissions import Permissions
    from protocol.publishing import PublishReport

Deny = Callable[[str, str], NoReturn]
"""Raises that a permission was not granted for something, and has the operator told."""


def gated(
    publishing: "Publishing",
    plugin_id: str,
    permissions: "Permissions",
    limits: "Limits",
    deny: Deny,
) -> "Publishing":
    """Give the way onto the bus of a plugin; the bare one where all is permitted."""
    if EVERYTHING in permissions.publish and limits.event_rate == inf:
        return publishing
    return Gate(publishing, plugin_id, permissions, limits, deny)


class Gate:
    """A plugin's way onto the bus, as far as it is open; lives as long as its worker."""

    def __init__(
        self,
        publishing: "Publishing",
        plugin_id: str,
        permissions: "Permissions",
        limits: "Limits",
        deny: Deny,
    ) -> None:
        self._publishing = publishing
        self._plugin_id = plugin_id
        self._permissions = permissions
        self._deny = deny
        self._known: set[Topic] = set()
        """Types that may be published, of those that were."""
        self._rate = limits.event_rate
        self._bucket = Bucket(limits.event_rate)
        self._counting = threading.Lock()

    def publish(self, event: "PluginEvent") -> None:
        """Send an event, and wait for nobody.

        Raises:
            PermissionDenied: Events of its type are not this plugin's to publish.
            LimitReached: There were too many in the last second.
        """
        self._admit(topic_of(event))
        self._publishing.publish(event)

    def publish_report(self, event: "PluginEvent", timeout: float) -> "PublishReport":
        """Send an event, and wait until every callback for it has run; raises as `publish`."""
        self._admit(topic_of(event))
        return self._publishing.publish_report(event, timeout)

    def make_sticky(self, event_type: str) -> None:
        """Have the last event of a type kept, if the type may be published."""
        self._permit(parse_topic(event_type))
        self._publishing.make_sticky(event_type)

    def _admit(self, topic: "Topic") -> None:
        if topic not in self._known:
            self._permit(topic)
        if self._rate != inf:
            with self._counting:
                has_room = self._bucket.take(monotonic())
            if not has_room:
                allowed = f"{self._rate:g} events a second"
                raise LimitReached("event_rate", self._plugin_id, allowed)

    def _permit(self, topic: "Topic") -> None:
        if not self._permissions.may_publish(topic):
            self._deny("publish", topic)
        if len(self._known) < MAX_TYPES:
            self._known.add(topic)
