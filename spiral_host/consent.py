"""Decide what a plugin may do: what it asks for, what was granted, what is in force. No I/O.

    asked      its manifest's [permissions]; without that table, what everyone gets
    granted    [everyone] of spiral.toml, joined with the grant of this plugin
    in force   what both say
    lacking    asked and not granted: the plugin does not start...

... unless the operator has seen exactly this manifest and granted less of it: then it runs with
less. A grant says which manifest that was by a digest of all that it declares and of where its
paths led. Another manifest that asks for no more than was granted goes on; one that asks for more
waits for the operator's word.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import UsageError
from protocol.permissions import NOTHING, Permissions, join, meet, missing
from spiral_host.manifest import Manifest

MAX_NAMED: Final = 8
"""Permissions that a reason names, of which each is cut; `spiral-host permissions` shows all."""

MAX_WORD: Final = 160
"""Characters of one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What an operator has granted to one plugin.

    Attributes:
        permissions: Their paths as they were found, links followed.
        manifest: The digest of the manifest that was consented to.
        version: The plugin's, then.
        when: In ISO form, to be read by people.
    """

    permissions: Permissions
    manifest: str
    version: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plugin asks for, once its paths have been followed.

    Attributes:
        permissions: None where its manifest says nothing.
        manifest: The digest of its manifest.
        refused: What no plugin gets, each with the reason.
        leads: Where paths lead that are not what they seem, by what the manifest says.
        unknown: Of which paths nobody knows yet where they lead, each with the reason. Then the
            permissions have them as they are written, and the digest is nobody's.
    """

    permissions: Permissions | None
    manifest: str
    refused: tuple[str, ...] = ()
    leads: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What may be done by one plugin, as things are now.

    Attributes:
        unknown: Paths that keep all this from being decided yet; then nothing is in force.
        lacking: What keeps it from starting, for want of a grant.
        grant: Its own, if there is one.
        is_changed: Whether it goes on though its manifest is not the one consented to.
    """

    asked: Asked
    asks: Permissions
    granted: Permissions
    in_force: Permissions
    lacking: Permissions
    grant: Grant | None
    is_changed: bool
    unknown: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Whether the plugin may start."""
        return not (self.lacking or self.asked.refused or self.unknown)


def decide(
    asked: Asked, everyone: Permissions, grant: Grant | None, unknown: Sequence[str] = ()
) -> Consent:
    """Say what a plugin may do.

    Args:
        everyone: What every plugin is granted.
        grant: What this one is granted beside that.
        unknown: Paths that everyone is granted as soon as it is known where they lead.
    """
    asks = everyone if asked.permissions is None else asked.permissions
    granted = everyone if grant is None else join(everyone, grant.permissions)
    lacking = missing(asks, granted)
    is_this = grant is not None and grant.manifest == asked.manifest
    needs_all = asked.permissions is None or bool(asks.read or asks.write)
    open_ = (*asked.unknown, *(unknown if needs_all else ()))
    if grant is None and not (everyone.read or everyone.write or unknown):
        open_ = ()  # no path is granted, wherever they lead
    return Consent(
        asked=asked,
        asks=asks,
        granted=granted,
        in_force=NOTHING if open_ else meet(asks, granted),
        lacking=NOTHING if is_this or open_ else lacking,
        grant=grant,
        is_changed=grant is not None and not (is_this or lacking or open_),
        unknown=open_,
    )


def objection(plugin_id: str, consent: Consent) -> str:
    """Say in one line why a plugin may not start, and what to do; nothing where it may."""
    if consent.asked.refused:
        why = few(consent.asked.refused)
        cure = f"change its manifest or that, then: spiral-host restart {plugin_id}"
        return f"asks for what no plugin gets: {why}; {cure}"
    if consent.unknown:
        return f"nobody knows yet where it leads: {few(consent.unknown)}; it is tried again"
    if not consent.lacking:
        return ""
    what = few(consent.lacking.words())
    if consent.grant is not None:
        what = f"more than was granted to version {consent.grant.version}: {what}"
    shows = f"spiral-host permissions {plugin_id} shows it"
    return f"asks for {what}; {shows}, spiral-host grant {plugin_id} allows it"


def proposed(plugin_id: str, asked: Asked, given: Permissions | None) -> Permissions:
    """Say what a grant would hold: all that is asked for, or the part that the operator names.

    Raises:
        UsageError: The plugin asks for nothing, for what no plugin gets, or not for all of that.
    """
    if asked.permissions is None:
        cure = "it gets what [everyone] gets in spiral.toml"
        raise UsageError(f"{plugin_id} asks for nothing of its own; {cure}")
    if asked.refused:
        what = f"{plugin_id} asks for what no plugin gets: {few(asked.refused)}"
        raise UsageError(f"{what}; its manifest has to change")
    if asked.unknown:
        raise UsageError(f"nobody knows where it leads: {few(asked.unknown)}; try again")
    if given is None:
        return asked.permissions
    if wider := missing(given, asked.permissions):
        asks = few(asked.permissions.words()) or "nothing"
        what = f"{plugin_id} does not ask for {few(wider.words())}"
        raise UsageError(f"{what}; grant what it asks for, or less: {asks}")
    return given


def digest(manifest: Manifest, followed: Permissions | None) -> str:
    """Give what tells a manifest from every other that declares anything else.

    Args:
        followed: What it asks for, paths as they lead now.
    """
    asked = manifest.permissions
    declared = {
        "metadata": manifest.metadata.to_wire(),
        "entry": manifest.source.entry,
        "events": manifest.events,
        "concurrency": manifest.concurrency,
        "reentrant": manifest.reentrant,
        "supervision": manifest.supervision.to_wire(),
        "permissions": None if asked is None else asked.to_wire(),
        "followed": None if followed is None else followed.to_wire(),
        "limits": manifest.limits.to_wire(),
        "sandbox": manifest.sandbox,
    }
    text = json.dumps(declared, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def few(words: Sequence[str]) -> str:
    """Name some in one line, and how many more there are."""
    named = [word if len(word) <= MAX_WORD else f"{word[:MAX_WORD]}..." for word in words]
    more = [f"{len(named) - MAX_NAMED} more"] if len(named) > MAX_NAMED else []
    return ", ".join(named[:MAX_NAMED] + more)
