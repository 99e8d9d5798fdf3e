"""From places to manifests: find what lies there, ask what declares nothing, refuse the rest.

Asking takes a worker, so the result comes by callback. Nothing is started here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from protocol.errors import UsageError
from protocol.messages import Broken, Described, Place, PluginSource
from protocol.plugin import PluginMetadata
from spiral_host.discovery import Found, Refused, Undeclared, find
from spiral_host.manifest import Manifest

Describe = Callable[[PluginSource, Callable[[Described | Broken], None]], None]


@dataclass(slots=True)
class Gathered:
    """What was found at some places."""

    manifests: list[Manifest] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class Gathering:
    """One look at some places; lives until everything there is known.

    Args:
        claim: Takes a plugin's id for it; gives where the one that has it already came from, or
            nothing. Asked when a plugin is found, because another look may be under way.
        describe: Has a worker asked for a plugin's metadata.
        then: Called once, with the result.
    """

    def __init__(
        self,
        places: Iterable[Place],
        claim: Callable[[Manifest], str],
        describe: Describe,
        then: Callable[[Gathered], None],
    ) -> None:
        self._claim = claim
        self._then = then
        self._result = Gathered()
        found = [one for place in places for one in find(place)]
        asked = [one for one in found if isinstance(one, Undeclared)]
        self._open = len(asked)
        for one in found:
            self._take(one)
        for one in asked:
            describe(one.source, _answer_for(self, one))
        if not asked:
            then(self._result)

    def _take(self, found: Found) -> None:
        if isinstance(found, Refused):
            self._result.refused.append(found)
        elif isinstance(found, Manifest):
            self._take_manifest(found)

    def _take_manifest(self, manifest: Manifest) -> None:
        other = self._claim(manifest)
        if other:
            same = other == manifest.path
            cure = (
                f"say: spiral-host restart {manifest.id}" if same else "give one of them another id"
            )
            reason = f"plugin {manifest.id} is loaded already, from {other}; {cure}"
            self._result.refused.append(Refused(manifest.path, reason))
            return
        self._result.manifests.append(manifest)

    def answered(self, asked: Undeclared, answer: Described | Broken) -> None:
        """Take in what a worker said of a plugin that declares nothing."""
        self._take(_declared(asked, answer))
        self._open -= 1
        if not self._open:
            self._then(self._result)


def _answer_for(gathering: Gathering, asked: Undeclared) -> Callable[[Described | Broken], None]:
    return lambda answer: gathering.answered(asked, answer)


def _declared(asked: Undeclared, answer: Described | Broken) -> Found:
    if isinstance(answer, Broken):
        # Without a traceback nothing was raised: its process died, or could not be made.
        reason = f"{answer.stage} raised {answer.error}" if answer.traceback else answer.error
        return Refused(asked.path, reason, answer.traceback)
    try:
        metadata = PluginMetadata.from_wire(answer.metadata)
    except UsageError as error:
        return Refused(asked.path, f"metadata: {error}")
    return Manifest(metadata=metadata, source=asked.source, path=asked.path)
