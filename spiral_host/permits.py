"""Know what each plugin may do now: its manifest, the operator's file and the grants together.

What is decided, consent.py decides; here it is asked, anew whenever a plugin is to start, and
remembered until then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from protocol.permissions import NOTHING, Permissions
from spiral_host import consent
from spiral_host.consent import Asked, Consent
from spiral_host.grants import Grants
from spiral_host.manifest import Manifest
from spiral_host.real_paths import Followed, Grounds

Tell = Callable[[str, Manifest, Sequence[str]], None]
"""Is told what operators may want to read of later: what happened, to whom, which permissions."""

BLOCKED = "blocked"
CHANGED = "changed"


@dataclass(slots=True)
class _Known:
    """What was decided of one plugin when it was last looked at."""

    consent: Consent
    objection: str


class Permits:
    """The permissions of every plugin; lives as long as the daemon.

    Args:
        everyone: What the operator grants to all.
        tell: Told of what was blocked, and of what goes on with another manifest.
    """

    def __init__(self, grants: Grants, everyone: Permissions, grounds: Grounds, tell: Tell) -> None:
        self.grants = grants
        self._everyone = everyone
        self._grounds = grounds
        self._tell = tell
        self._known: dict[str, _Known] = {}
        self._told: dict[str, tuple[str, str]] = {}
        self._lost: tuple[str, ...] = ()
        self.undecided: set[str] = set()
        """Of whom nothing could be decided when they were last looked at; look again later."""

    @property
    def alarms(self) -> list[str]:
        """What the operator has said that has no effect, and the cures."""
        alarms = [self.grants.failure] if self.grants.failure else []
        if self._lost:
            alarms.append(f"spiral.toml: [everyone] gets no {consent.few(self._lost)}; mend it")
        return alarms

    def look(self, manifest: Manifest) -> Consent:
        """Decide of a plugin as things are now; remembers nothing."""
        self.grants.look()
        found = self._grounds.follow(self._everyone)
        self._lost = (*found.refused, *found.unknown)
        everyone = found.permissions
        if found.unknown:
            everyone = replace(everyone, read=(), write=())
        grant = self.grants.of(manifest.id)
        return consent.decide(self.asked(manifest), everyone, grant, found.unknown)

    def asked(self, manifest: Manifest) -> Asked:
        """Say what a plugin asks for, and where its paths lead now."""
        code = self._grounds.objection(manifest.source)
        exposed = (code,) if code else ()
        if manifest.permissions is None:
            digest = consent.digest(manifest, None)
            return Asked(permissions=None, manifest=digest, refused=exposed)
        followed = self._grounds.follow(manifest.permissions, manifest.id)
        return Asked(
            permissions=followed.permissions,
            manifest=consent.digest(manifest, followed.permissions),
            refused=(*exposed, *followed.refused),
            leads=followed.leads,
            unknown=followed.unknown,
        )

    def follow(self, permissions: Permissions, plugin_id: str) -> Followed:
        """Follow the paths of what is to be granted to a plugin."""
        return self._grounds.follow(permissions, plugin_id)

    def objection(self, manifest: Manifest) -> str:
        """Say why a plugin may not start, as it was when that was last decided."""
        known = self._known.get(manifest.id)
        return self.decide(manifest) if known is None else known.objection

    def decide(self, manifest: Manifest) -> str:
        """Say why a plugin may not start now, or nothing: then it may, with what is in force."""
        found = self.look(manifest)
        why = consent.objection(manifest.id, found)
        self._known[manifest.id] = _Known(found, why)
        if found.unknown:
            self.undecided.add(manifest.id)
            return why
        self.undecided.discard(manifest.id)
        self._report(manifest, found, why)
        return why

    def in_force(self, plugin_id: str) -> Permissions:
        """Give what a plugin was last allowed to start with."""
        known = self._known.get(plugin_id)
        return known.consent.in_force if known and not known.objection else NOTHING

    def look_again(self, plugin_id: str) -> None:
        """Decide anew before a plugin is blocked or started the next time."""
        self._known.pop(plugin_id, None)
        self.undecided.discard(plugin_id)

    def forget(self, plugin_id: str) -> None:
        """Know nothing of a plugin any more."""
        self.look_again(plugin_id)
        self._told.pop(plugin_id, None)

    def _report(self, manifest: Manifest, found: Consent, why: str) -> None:
        """Tell of each decision once, however often it is taken."""
        kind = BLOCKED if why else CHANGED if found.is_changed else ""
        told = (kind, why or found.asked.manifest)
        if kind and self._told.get(manifest.id) != told:
            words = [*found.asked.refused, *found.lacking.words()] if why else found.asks.words()
            self._tell(kind, manifest, words)
        self._told[manifest.id] = told
